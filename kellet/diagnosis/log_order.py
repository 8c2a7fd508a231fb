"""The order of a log's rows: by the step that the log has, never by the place in the file alone.

A run that crashed and was resumed logs some steps twice: from where it took up again, the later rows count. Rows of the
same step that do not contradict each other are one row. What repeats steps in another way, such as two runs in one
file, is refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from kellet.diagnosis.log_lines import number
from kellet.errors import DataError

STEPS = (
    *("training/global_step", "global_step", "step", "iteration", "current_steps", "Step", "_step"),
    *("global_step/max_steps", "episode"),
)
"""Metrics that count steps, the trainer's own before those of a logger."""
CLOCKS = ("_timestamp", "_runtime", "Wall time", "Relative Time (Process)", "Relative Time (Wall)", "epoch")
"""Metrics that only order rows; equal values are no repetition."""
RANKS = ("rank", "local_rank", "process_index", "gpu", "device")
"""Which process logged a row; rows that differ in nothing else are one."""
LARGEST_STEP = 1e9
"""Larger figures are seconds since 1970, or tokens: they order rows, and are no numbers of updates."""
MOST_RESUMES = 5
"""More falls of the step than one in this many rows are disorder, not a run that was resumed."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Ordered:
    """Rows in order."""

    rows: list[dict[str, Any]]
    step: str
    """The metric that they were ordered by; empty: by their place in the file."""
    steps: list[float]
    """The logged step of each row, rising; 1, 2, … where the log has only a clock or nothing to order by."""
    notes: tuple[str, ...]


def in_order(rows: Sequence[Row], step: str | None = None) -> Ordered:
    """Rows of training by step: rows of one step joined, those that a resumed run replaced left out, then sorted.

    ``step`` is the metric that counts steps, where it is not one of STEPS. Raises DataError when steps repeat with
    other values and not as a resumed run repeats them, or when ``step`` counts nothing.
    """
    for name in (*STEPS, *CLOCKS) if step is None else (step,):
        steps = [_step(row.get(name)) for row in rows]
        known = [step for step in steps if step is not None]
        if len(known) < max(1, 0.9 * len(rows)) or (len(known) > 1 and len(set(known)) == 1):
            if step is not None:
                raise DataError(f"{step!r} counts no steps: {len(set(known))} values in {len(rows)} rows")
            continue
        kept = [dict(row) for row, place in zip(rows, steps, strict=True) if place is not None]
        notes = []
        if len(kept) < len(rows):
            notes.append(f"{len(rows) - len(kept)} of {len(rows)} rows have no {name!r} and are left out")
        if name in CLOCKS:
            notes.insert(0, f"the log has no step; its rows are ordered by {name!r}")
        ordered, sorted_steps, more = _ordered(kept, known, name)
        return Ordered(ordered, name, _counted(sorted_steps, name), (*notes, *more))
    note = ("the log has no step: its rows are read in the order of the file",)
    return Ordered([dict(row) for row in rows], "", _counted(range(len(rows)), ""), note)


def _counted(steps: Sequence[float], name: str) -> list[float]:
    """The steps as they were logged; the place of each row where they are no steps."""
    logged = name not in ("", *CLOCKS) and all(one < other for one, other in pairwise(steps))
    logged = logged and all(is_step(step) for step in steps)
    return [float(step) for step in steps] if logged else [float(place) for place in range(1, len(steps) + 1)]


def is_step(step: float) -> bool:
    """Whether a figure may be the number of a step, and not a time in seconds."""
    return step.is_integer() and abs(step) < LARGEST_STEP


def _step(value: Any) -> float | None:
    """A step as a number; '5/3766' is 5. None where there is none."""
    if isinstance(value, str):
        value = value.partition("/")[0]
    found = number(value)
    return found if found is not None and abs(found) < float("inf") else None


def _ordered(
    rows: list[dict[str, Any]], steps: list[float], name: str
) -> tuple[list[dict[str, Any]], list[float], list[str]]:
    """Rows sorted by step, their steps, and what had to be done for it."""
    clock = name in CLOCKS
    notes: list[str] = []
    if not clock:
        rows, steps, alike = _joined(rows, steps)
        if alike:
            notes.append(f"{alike} rows repeat another of their step, value for value, and count once")
    falls = [n for n in range(1, len(steps)) if steps[n] < steps[n - 1] or (not clock and steps[n] == steps[n - 1])]
    repeated = len(set(steps)) < len(steps) if not clock else bool(falls)
    if repeated and falls:
        rows, steps, replaced = _resumed(rows, steps, falls, name)
        notes += replaced
    order = sorted(range(len(rows)), key=steps.__getitem__)
    if order != list(range(len(rows))):
        notes.append(f"the rows were not in the order of {name!r} and were sorted by it")
    return [rows[n] for n in order], [steps[n] for n in order], notes


def _joined(rows: list[dict[str, Any]], steps: list[float]) -> tuple[list[dict[str, Any]], list[float], int]:
    """Rows of the same step made one where they do not contradict each other, and how many of them add nothing."""
    joined: list[dict[str, Any]] = []
    kept: list[float] = []
    last: dict[float, int] = {}
    alike = 0
    for row, step in zip(rows, steps, strict=True):
        place = last.get(step)
        if place is not None and not _contradict(joined[place], row):
            alike += set(_values(row)) <= set(_values(joined[place]))
            joined[place] |= {key: value for key, value in row.items() if value is not None}
            continue
        last[step] = len(joined)
        joined.append(dict(row))
        kept.append(step)
    return joined, kept, alike


def _contradict(one: Row, other: Row) -> bool:
    a, b = _values(one), _values(other)
    return any(repr(a[key]) != repr(b[key]) for key in a.keys() & b.keys() if key not in (*STEPS, *CLOCKS, *RANKS))


def _values(row: Row) -> dict[str, float]:
    found = {key: number(value) for key, value in row.items()}
    return {key: value for key, value in found.items() if value is not None}


def _resumed(
    rows: list[dict[str, Any]], steps: list[float], falls: list[int], name: str
) -> tuple[list[dict[str, Any]], list[float], list[str]]:
    """Without the rows that a resumed run replaced. Raises DataError when it is no resumed run."""
    at_once = sum(steps[fall] == steps[fall - 1] for fall in falls)
    if len(falls) > 1 + len(rows) / MOST_RESUMES or (at_once > 1 and name not in CLOCKS):
        if name in CLOCKS:
            return rows, steps, []
        twice = sorted({step for step in steps if steps.count(step) > 1})
        raise DataError(
            f"{name!r} repeats {_shown(twice)} with other values, and not as a resumed run does: of which run or "
            "process the rows are, or whether of an evaluation, cannot be told; give the log as it was written, with "
            "the rows of one run's training"
        )
    for fall in falls:
        if steps[fall] <= steps[0]:
            raise DataError(
                f"{name!r} begins again at {steps[fall]:g} in row {fall + 1} of {len(rows)}, with other values: these "
                "are two runs in one log; keep the rows of one, or name what counts steps (--map iteration=NAME)"
            )
    gone: set[int] = set()
    for fall in falls:
        gone |= {n for n in range(fall) if steps[n] >= steps[fall]}
    kept = [n for n in range(len(rows)) if n not in gone]
    left = _shown(sorted(steps[n] for n in gone))
    note = f"the run was resumed: {name!r} {left} of the part before are left out ({len(gone)} rows), the later count"
    return [rows[n] for n in kept], [steps[n] for n in kept], [note]


def _shown(steps: Sequence[float]) -> str:
    return f"{steps[0]:g}" if len(steps) == 1 else f"{steps[0]:g} to {steps[-1]:g}"
