"""One logged row of a trainer, in Kellet's names and units, by the names of kellet/diagnosis/trainers.py.

Which of their metrics is read for one of ours is decided when it is first seen and then stays, so that one course never
holds two kinds of KL; the rules are those of ``kellet import-logs``.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kellet.data.account import Entry
from kellet.diagnosis.import_logs import CORE, translate
from kellet.diagnosis.log_lines import number
from kellet.diagnosis.log_names import OURS, chosen_names, slot
from kellet.diagnosis.log_order import STEPS, is_step
from kellet.diagnosis.log_renamed import instead
from kellet.diagnosis.trainers import (
    BETA,
    ESTIMATORS,
    LOSS_BETA,
    MAPPED,
    PER_TOKEN,
    TRAINERS,
    Estimator,
    Name,
    Trainer,
    kl_metric,
)
from kellet.errors import InputError
from kellet.live.course import Step

UNRECOGNISED_ROWS = 3
"""Rows without a known trainer after which this is said."""
KLS = (PER_TOKEN, *map(kl_metric, ESTIMATORS))
UNMEASURED_ROWS = 10
"""Rows with a KL of exactly 0 after which this is said; in the first few the policy is the reference."""
LOSSES = ("loss", "grad_norm")
"""A name with one of these in its last part is watched for figures that are not finite, whoever logs it."""
Figures = dict[str, float | None]


class Translator:
    """Translates row by row; ``notes`` gathers what has to be said once, until it is taken.

    ``trainer`` is a key of TRAINERS, or None to recognise it; ``mapped`` has their metric for some of OURS.
    """

    def __init__(
        self, trainer: str | None = None, estimator: Estimator | None = None, mapped: Mapping[str, str] | None = None
    ) -> None:
        if trainer is not None and trainer not in TRAINERS:
            raise InputError(f"the trainer is {trainer!r}; it takes one of {', '.join(TRAINERS)}, or none")
        if estimator is not None and estimator not in ESTIMATORS:
            raise InputError(f"the KL estimator is {estimator!r}; it takes one of {', '.join(ESTIMATORS)}, or none")
        self.trainer = trainer
        self.estimator = estimator
        self.mapped = dict(mapped or {})
        unknown = sorted(set(self.mapped) - set(OURS))
        if unknown:
            raise InputError(f"mapped has {unknown[0]!r}; it takes one of {', '.join(OURS)}")
        self.notes: list[str] = []
        self.rows = 0
        self.seen: Counter[str] = Counter()
        """The names in the rows of training steps, and in how many each was a finite number."""
        self.used: dict[str, Name] = {}
        """What is read, one for each slot of a history."""
        self._said: set[str] = set()
        self._strange = 0
        self._stepped = False
        """Whether the rows have a step."""
        self._zeros: int | None = 0
        """Rows in which KL was exactly 0; None after one in which it was not."""

    @property
    def source(self) -> Trainer:
        """Whose names the rows have."""
        return MAPPED if self.trainer is None else TRAINERS[self.trainer]

    def step(self, logged: Mapping[str, Any], iteration: float | None = None) -> Step | None:
        """The row as a Step; None for one that is of no training step (an evaluation, a summary)."""
        row = numeric(logged)
        if self.trainer is None:
            self.trainer = self._recognised(row)
        core = {name.theirs for name in self.source.names if name.ours in CORE} | set(self.mapped.values())
        if not core & set(row) and not (self.trainer is None and "loss" in row):
            self._strange += int(self.trainer is None and bool(row))
            if self._strange == UNRECOGNISED_ROWS:
                self._say_what_is_missing(row)
            return None
        logged_at = _step(row)
        self._stepped = self._stepped or logged_at is not None
        if self._stepped and logged_at is None and iteration is None:
            self._say("WARNING: rows without a step, in a log whose rows have one, are left out")
            return None
        self.rows += 1
        self.seen.update({name: int(value is not None and math.isfinite(value)) for name, value in row.items()})
        self._choose(row)
        at = float(next(value for value in (iteration, logged_at, self.rows) if value is not None))
        read = {name.theirs for name in self.used.values()}
        metrics = translate(row, replace(self.source, names=tuple(self.used.values()))) if self.used else {}
        self._watch_kl(metrics)
        broken = tuple(name for name, value in row.items() if _is_broken(name, value, name in read))
        if self.rows == UNRECOGNISED_ROWS:
            self._say_what_is_missing(row)
        return Step(at, {"iteration": at, **{name: _finite(value) for name, value in metrics.items()}}, broken)

    def account(self) -> list[Entry]:
        """What each name of the rows was taken for."""
        read = {name.theirs: name for name in self.used.values()}
        entries = []
        for theirs, usable in self.seen.items():
            name, known = read.get(theirs), self.source.name(theirs)
            if name is not None:
                entries.append(Entry(theirs, name.metric, name.why, usable / self.rows))
            elif theirs in STEPS:
                entries.append(Entry(theirs, "iteration", "the order of the rows", usable / self.rows))
            else:
                rival = self.used.get(slot(known.ours)) if known is not None and known.ours else None
                instead = f": {rival.theirs} is read instead" if rival else ""
                entries.append(Entry(theirs, "", f"{known.why}{instead}" if known else "not read"))
        return entries

    def _recognised(self, row: Figures) -> str | None:
        """The trainer whose names these are; None where there is none, or several."""
        found = [name for name, known in TRAINERS.items() if known.recognised(row)]
        if len(found) > 1:
            titles = " and of ".join(TRAINERS[name].title for name in found)
            self._say(f"WARNING: the metrics are those of {titles}, so none is read; name the trainer")
        return found[0] if len(found) == 1 else None

    def _watch_kl(self, metrics: Figures) -> None:
        """Say it when KL is exactly 0 in row after row, which is no measurement."""
        kl = [value for name, value in metrics.items() if name in KLS]
        if kl and self._zeros is not None:
            self._zeros = None if any(kl) else self._zeros + 1
            if self._zeros == UNMEASURED_ROWS:
                self._say(
                    f"WARNING: KL is exactly 0 in {UNMEASURED_ROWS} rows: not measured (no reference model, or no "
                    "penalty), and no alarm about KL can ring"
                )

    def _choose(self, row: Figures) -> None:
        """Decide what is read for each slot that has nothing yet; say where two names claim one.

        A metric that goes on under another of the trainer's names, after an upgrade, is read on under that.
        """
        for place, used in self.used.items():
            if (other := instead(row, used, self.source)) is not None and place not in map(slot, self.mapped):
                self.used[place] = replace(other, estimator=used.estimator)
                self._say(f"{used.theirs!r} is called {other.theirs!r} from here on: both are read as one metric")
        mapped = {ours: theirs for ours, theirs in self.mapped.items() if theirs in row and slot(ours) not in self.used}
        try:
            chosen = chosen_names([row], self.source, self.estimator, mapped)
        except InputError as error:  # of a mapped KL whose kind is not known
            self._say(f"WARNING: {error}")
            self.mapped = {ours: theirs for ours, theirs in self.mapped.items() if ours not in mapped}
            chosen = chosen_names([row], self.source, self.estimator)
        for name in chosen:
            place = slot(name.ours)
            if place in self.used:
                continue
            self.used[place] = name
            rivals = [
                other.theirs
                for other in self.source.names
                if slot(other.ours) == place and other.theirs in row and other.theirs != name.theirs
            ]
            if rivals:
                self._say(
                    f"{name.theirs!r} and {', '.join(map(repr, rivals))} both are {name.ours}; {name.theirs!r} is read "
                    f"({name.why}); map {name.ours} to another to read that"
                )
            if name.estimator:
                self._say(f"KL ({name.theirs!r}) is read as {name.estimator}: {name.why}")
        if LOSS_BETA in row and BETA not in self.used and (known := self.source.name(LOSS_BETA)) is not None:
            self._say(f"{LOSS_BETA!r} is {known.why}: penalty_small is not asked")

    def _say_what_is_missing(self, row: Figures) -> None:
        unseen = [f"{theirs!r} ({ours})" for ours, theirs in self.mapped.items() if theirs not in self.seen]
        if unseen:
            self._say(f"WARNING: no row has {', '.join(unseen)}, which are mapped")
        if self.trainer is None and not self.mapped:
            wanted = ", ".join(
                f"{' with '.join(sorted(known.markers[0]))} ({known.title})"
                for known in TRAINERS.values()
                if known.markers
            )
            self._say(
                "no trainer is recognised by its metrics, so only losses and gradients are watched and there is no "
                f"history; looked for {wanted}; found {', '.join(map(repr, list(row)[:12]))}. Name the trainer, "
                "or map Kellet's metrics to its own"
            )

    def _say(self, note: str) -> None:
        if note not in self._said:
            self._said.add(note)
            self.notes.append(note)


def numeric(logged: Mapping[str, Any]) -> Figures:
    """The numbers of a row, by their names without the folder ``train/``; what is no number is left out, null stays."""
    figures: Figures = {}
    for key, value in logged.items():
        plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", 1) == 0 else value
        # LLaMA-Factory counts '5/3766'
        found = number(plain.partition("/")[0] if key in STEPS and isinstance(plain, str) else plain)
        name = str(key) if str(key).removeprefix("train/") in logged else str(key).removeprefix("train/")
        if plain is None or found is not None:
            figures[name] = found
    return figures


def _step(row: Figures) -> float | None:
    """The step that a row has; None where it has none, or a time in seconds."""
    found = next((step for name in STEPS if (step := _finite(row.get(name))) is not None), None)
    return found if found is not None and is_step(found) else None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _is_broken(name: str, value: float | None, is_read: bool) -> bool:
    """Whether a figure that has to be a finite number is none; null counts only for what is read."""
    if value is None:
        return is_read
    return not math.isfinite(value) and (is_read or any(part in name.rpartition("/")[2] for part in LOSSES))
