"""Follow a log that another process writes: translate each new row, keep the history, say alarms in words.

For trainers without callbacks (verl, OpenRLHF) or on another machine that shares the disk. It starts and ends nothing
else: a script that shall end the training asks for the exit code of ``kellet follow``.
"""

import csv
import re
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from kellet.data.account import Entry
from kellet.diagnosis.log_files import flat, of_evaluation
from kellet.diagnosis.log_lines import read_lines
from kellet.diagnosis.trainers import Estimator
from kellet.errors import DataError, InputError
from kellet.live.alarms import CUT, KL, LENGTH, REWARD
from kellet.live.course import Step
from kellet.live.limits import Limits
from kellet.live.monitor import Monitor
from kellet.live.tail import Tail
from kellet.live.translate import Translator

SILENT = "silent"
"""The alarm of a log that no longer grows, which only follows from the clock."""
DECIMAL_COMMA = re.compile(r"^\s*-?\d+,\d+\s*$")
SHOWN = {REWARD: "reward", LENGTH: "tokens", CUT: "cut"}


class Followed(NamedTuple):
    """How following ended."""

    rows: int
    stopped: str | None
    """Why the training has to stop, in words; None when nothing says so."""
    account: list[Entry]


def follow(
    log: Path,
    out: Path,
    *,
    stop_on: Collection[str] = (),
    once: bool = False,
    interval: float = 5.0,
    limits: Limits | None = None,
    trainer: str | None = None,
    kl_estimator: Estimator | None = None,
    mapped: Mapping[str, str] | None = None,
    say: Callable[[str], None] = print,
) -> Followed:
    """Read ``log`` as it grows until an alarm of ``stop_on`` rings; with ``once``, what is there.

    ``out`` gets history.jsonl and alarms.jsonl; what an earlier call wrote is taken up. ``interval`` is in seconds.
    KeyboardInterrupt ends it with everything written. Raises InputError for arguments, DataError for a file that is no
    log of lines or, with ``once``, holds no rows.
    """
    if interval <= 0:
        raise InputError(f"interval is {interval:g} seconds; it takes a number above 0")
    limits = limits or Limits()
    monitor = Monitor(out, Translator(trainer, kl_estimator, mapped), say, set(stop_on) - {SILENT}, limits)
    monitor.go_on()
    if not log.exists():
        if once:
            raise DataError(f"{log} does not exist; check the log's name")
        say(f"{log} is not there yet; waiting for it")
    say(f"following {log}; {out / 'history.jsonl'} and {out / 'alarms.jsonl'} are written")
    with Tail(log) as tail:
        return _look(
            monitor, tail, Rows(log), Silence(limits.silence, SILENT in stop_on), None if once else interval, say
        )


def _look(
    monitor: Monitor, tail: Tail, rows: "Rows", silence: "Silence", interval: float | None, say: Callable[[str], None]
) -> Followed:
    """Look at the log every ``interval`` seconds until something says stop; once where it is None."""
    while True:
        found = [step for row in rows.new(tail, last=interval is None) if (step := monitor.row(row))]
        for note in (*tail.notes, *rows.notes, *silence.after(len(found))):
            monitor.note(note)
        tail.notes.clear()
        rows.notes.clear()
        if found:
            say(_shown(found))
        if interval is None and not monitor.course.steps:
            raise DataError(f"{tail.path} holds no rows of a trainer that is known; see kellet import-logs {tail.path}")
        stopped = monitor.stopped or silence.stopped
        if stopped or interval is None:
            return Followed(len(monitor.course.steps), stopped, monitor.close())
        time.sleep(interval)


class Rows:
    """Rows of metrics in the lines of a log: JSON objects, printed dictionaries, verl's console lines, CSV.

    ``notes`` gathers what has to be said, until it is taken. In printed text other lines are usual; in a .jsonl file
    each line has to be an object.
    """

    def __init__(self, log: Path) -> None:
        self.notes: list[str] = []
        self._columns: list[str] = []
        self._separator = ","
        self._read = {".csv": self._cells, ".tsv": self._cells, ".jsonl": self._objects}.get(log.suffix, self._printed)
        self._said: set[str] = set()

    def new(self, tail: Tail, last: bool) -> list[dict[str, Any]]:
        """The rows of the lines that are new."""
        rows = []
        for row in map(flat, self._read(tail.lines(last))):
            if column := of_evaluation(row):
                self._note(f"rows that column {column!r} says are of an evaluation are left out")
            else:
                rows.append(row)
        return rows

    def _note(self, note: str) -> None:
        if note not in self._said:
            self._said.add(note)
            self.notes.append(note)

    def _printed(self, lines: list[tuple[int, str]]) -> list[dict[str, Any]]:
        rows, notes = read_lines("\n".join(text for _, text in lines))
        for note in notes:
            if "no metrics" not in note:
                self._note(note)
        return rows

    def _objects(self, lines: list[tuple[int, str]]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for number, text in lines:
            found = self._printed([(number, text)])
            rows += found
            if not found and text.strip():
                self.notes.append(
                    f"WARNING: line {number} is no JSON object with metrics and is passed over: {text[:60]!r}"
                )
        return rows

    def _cells(self, lines: list[tuple[int, str]]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        for number, text in lines:
            if number == 1 or not self._columns:
                self._separator = max(",;\t", key=text.count)
            cells = next(csv.reader([text], delimiter=self._separator), [])
            if number == 1 or not self._columns:
                self._columns = cells
            elif cells and len(cells) != len(self._columns):
                self.notes.append(
                    f"WARNING: line {number} has {len(cells)} cells for {len(self._columns)} columns and is passed over"
                )
            elif any(DECIMAL_COMMA.match(cell) for cell in cells):
                raise DataError(
                    f"line {number} has a number with a comma in it: a decimal comma or thousands? kellet follow reads "
                    "points only; kellet import-logs reads both"
                )
            elif cells:
                rows.append(dict(zip(self._columns, cells, strict=True)))
        return rows


class Silence:
    """Whether a log that had rows has none any more."""

    def __init__(self, seconds: float, stops: bool) -> None:
        self.stopped: str | None = None
        self._seconds, self._stops = seconds, stops
        self._last = time.monotonic()
        self._rings = False

    def after(self, rows: int) -> list[str]:
        """What is to be said after a look that found ``rows``."""
        quiet = time.monotonic() - self._last
        if rows:
            self._last, rang, self._rings = time.monotonic(), self._rings, False
            return ["the log goes on"] if rang else []
        if quiet < self._seconds or self._rings:
            return []
        self._rings = True
        words = f"ALARM {SILENT}: no new row for {quiet:.0f} seconds"
        self.stopped = f"{words}, named by stop_on" if self._stops else None
        return [words]


def _shown(found: list[Step]) -> str:
    """The newest row in one line."""
    metrics = found[-1].metrics
    kl = next((value for name in KL if (value := metrics.get(name)) is not None), None)
    parts = [f"{word} {value:.3g}" for name, word in SHOWN.items() if (value := metrics.get(name)) is not None]
    parts += [f"KL {kl:.3g}"] if kl is not None else []
    more = f" (and {len(found) - 1} before)" if len(found) > 1 else ""
    return f"step {found[-1].iteration:g}{more}: {', '.join(parts) or 'no metric that is known'}"
