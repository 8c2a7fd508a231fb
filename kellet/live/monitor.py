"""What happens to one logged row: translated, put into the history, asked for alarms, told, and stopped on.

The history (history.jsonl) has one row for each logged step, in their order. A step that is logged again with other
figures means that the training went back to a checkpoint: the row and all after it are replaced. alarms.jsonl keeps
what was said and is never shortened: ``iteration``, ``time``, ``event`` (rings, over, note, stop), ``alarm``, and
``words``.

A file that cannot be written does not end a training: it is told once, the rows are kept, and they are written as soon
as that works again.
"""

import bisect
import datetime
import math
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from kellet.data.account import Entry
from kellet.errors import DataError, InputError
from kellet.live.alarms import CONDITIONS, unwatched
from kellet.live.bells import Bells
from kellet.live.course import Course, Step
from kellet.live.limits import Limits
from kellet.live.lines_file import LinesFile
from kellet.live.translate import Translator

OFTEN_AGAIN = 2
"""Steps logged again at once, with other figures: a run that was resumed does so once."""
ROWS_TO_SEE_ALL = 3
"""After this many rows it is said which alarms cannot ring for want of a metric."""


class Monitor:
    """Watches one training. ``say`` gets each sentence for a person, once."""

    def __init__(
        self,
        out: Path,
        translator: Translator,
        say: Callable[[str], None],
        stop_on: Collection[str] = (),
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.stop_on = set(stop_on)
        unknown = sorted(self.stop_on - set(CONDITIONS))
        if unknown:
            raise InputError(f"stop_on names {unknown[0]!r}; the alarms are {', '.join(CONDITIONS)}")
        self.translator = translator
        self.history, self.alarms = LinesFile(out / "history.jsonl"), LinesFile(out / "alarms.jsonl")
        self.course, self.bells = Course(self.limits.patience), Bells(self.limits)
        self.stopped: str | None = None
        """Why the training has to stop, in words."""
        self._say = say
        self._trouble: str | None = None
        self._unsorted = False
        self._again = 0

    def go_on(self, until: float | None = None) -> None:
        """Take up the files that are there, as far as step ``until``. DataError when they are something else."""
        self.stopped = None
        self.alarms.load()
        rows = [_figures(row) for row in self.history.load()]
        steps = [Step(math.nan if (at := row.get("iteration")) is None else at, row) for row in rows]
        if any(not after.iteration > before.iteration for before, after in pairwise([Step(-math.inf, {}), *steps])):
            raise DataError(f"{self.history.path} has no iterations that rise; name another folder")
        kept = [row for row, step in zip(rows, steps, strict=True) if until is None or step.iteration <= until]
        self._rebuild(steps[: len(kept)])
        if len(kept) < len(rows):
            self.note(f"going on from step {until:g}: {len(rows) - len(kept)} later rows of the history are replaced")
            self.history.replace(list(kept))
        if self.bells.ringing:
            self.note(f"still ringing: {', '.join(self.bells.ringing)}")
        self._write()

    def begin(self) -> None:
        """Begin anew; files of an earlier training are renamed, and that is said."""
        self._rebuild([])
        self.stopped = None
        aside = [path for path in (self.history.set_aside(), self.alarms.set_aside()) if path]
        if aside:
            self.note(f"files of an earlier training are kept as {' and '.join(map(str, aside))}")

    def row(self, logged: Mapping[str, Any], iteration: float | None = None, **more: float) -> Step | None:
        """Take one logged row, with metrics in Kellet's names that the log lacks. None: it is of no training step."""
        step = self.translator.step(logged, iteration)
        for note in self.translator.notes:
            self.note(note)
        self.translator.notes.clear()
        if step is None:
            return None
        step = step._replace(metrics={**more, **step.metrics})
        if self._place(step):
            for alarm, event, words in self.bells.after(self.course):
                self._record(event, words if event == "over" else f"ALARM {alarm}: {words}", alarm)
            if len(self.course.steps) == ROWS_TO_SEE_ALL:
                self._tell_unwatched()
        self._decide()
        self._write()
        return step

    def note(self, words: str) -> None:
        """Say something that is no alarm, and record it."""
        self._record("note", words)

    def close(self) -> list[Entry]:
        """Say what was not seen, write what is left; the account of the log's names."""
        if 0 < len(self.course.steps) < self.limits.patience:
            self.note(
                f"{len(self.course.steps)} rows were logged and a level takes {self.limits.patience}: most alarms had "
                "no figure; log more often, or set a smaller patience"
            )
        self._write()
        return self.translator.account()

    def _place(self, step: Step) -> bool:
        """Put the row where its step belongs; False when it is there already."""
        steps = self.course.steps
        at = bisect.bisect_left(steps, step.iteration, key=lambda known: known.iteration)
        if at == len(steps):
            self.course.add(step)
            if len(step.metrics) > 1:
                self.history.add(step.metrics)
            return True
        if steps[at].iteration > step.iteration:
            if not self._unsorted:
                self.note(
                    f"step {step.iteration:g} comes after step {steps[-1].iteration:g}: the rows are sorted by step"
                )
            self._unsorted = True
            self.course = Course(self.limits.patience, [*steps[:at], step, *steps[at:]])
        elif all(step.metrics[name] == known for name, known in steps[at].metrics.items() if name in step.metrics):
            more = set(step.metrics) - set(steps[at].metrics)
            if not more:
                return False
            joined = step._replace(metrics={**steps[at].metrics, **step.metrics})
            self.course = Course(self.limits.patience, [*steps[:at], joined, *steps[at + 1 :]])
        else:
            self._replace(at, step)
        self.history.replace([known.metrics for known in self.course.steps if len(known.metrics) > 1])
        return True

    def _replace(self, at: int, step: Step) -> None:
        """Take ``step`` for the row at place ``at`` and all after it; where that is all, files are set aside."""
        steps = self.course.steps
        if at == 0 and len(steps) > 1:
            self.note(
                f"step {step.iteration:g}, the first, is logged again with other figures: another training begins"
            )
            self._begin_again()
        elif at == len(steps) - 1:
            self._again += 1
            self.note(f"step {step.iteration:g} is logged again with other figures, which count")
            if self._again == OFTEN_AGAIN:
                self.note(
                    "WARNING: step after step is logged again with other figures: these are rows of several processes "
                    "or of an evaluation under the names of training; figures and alarms here cannot be relied on"
                )
        else:
            self.note(
                f"step {step.iteration:g} is logged again with other figures: the training went back, and "
                f"{len(steps) - at} rows from there on are replaced"
            )
        self._rebuild([*steps[:at], step])

    def _begin_again(self) -> None:
        try:
            self.begin()
        except OSError as error:
            self.note(f"WARNING: the files of the training before are overwritten ({error})")

    def _rebuild(self, steps: list[Step]) -> None:
        """Course and alarms as after ``steps``, without saying again what was said."""
        self.course, self.bells = Course(self.limits.patience), Bells(self.limits)
        for step in steps:
            self.course.add(step)
            self.bells.after(self.course)

    def _decide(self) -> None:
        fatal = [name for name in self.bells.ringing if name in self.stop_on]
        if fatal and self.stopped is None:
            self.stopped = f"stop at step {self.course.steps[-1].iteration:g}: {', '.join(fatal)}, named by stop_on"
            self._record("stop", self.stopped, fatal[0])

    def _tell_unwatched(self) -> None:
        missing = unwatched(self.course)
        if not missing:
            return
        why = "; ".join(f"{name} ({needs} is not logged)" for name, needs in missing.items())
        self.note(f"these alarms cannot ring: {why}")
        if lost := sorted(self.stop_on & set(missing)):
            self.note(f"WARNING: stop_on names {', '.join(lost)}, which cannot ring and will not stop anything")

    def _record(self, event: str, words: str, alarm: str | None = None) -> None:
        at = self.course.steps[-1].iteration if self.course.steps else None
        self._say(words if at is None else f"step {at:g}: {words}")
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self.alarms.add({"iteration": at, "time": now, "event": event, "alarm": alarm, "words": words})

    def _write(self) -> None:
        if not self.course.steps:  # nothing of a log is written before it is known to be one
            return
        try:
            self.history.write()
            self.alarms.write()
        except (OSError, InputError) as error:
            if self._trouble is None:
                self._trouble = f"{error}"
                self.note(
                    f"WARNING: {self.history.path.parent} cannot be written ({error}); the training goes on, and "
                    "rows are kept until it can"
                )
            return
        if self._trouble is not None:
            self._trouble = None
            self.note(f"{self.history.path.parent} can be written again; no row is missing")
            self._write()


def _figures(row: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers and nulls of a row of a history."""
    numbers = {name: value for name, value in row.items() if value is None or type(value) in (int, float)}
    return {name: None if value is None else float(value) for name, value in numbers.items()}
