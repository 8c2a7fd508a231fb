"""Alarms that begin and end: a condition that holds rings once, and is over only when it has been gone for a while."""

from collections.abc import Mapping
from typing import Literal, NamedTuple

from kellet.live.alarms import CONDITIONS, Reading
from kellet.live.course import Course
from kellet.live.limits import Limits


class Change(NamedTuple):
    """An alarm that began to ring or is over."""

    alarm: str
    event: Literal["rings", "over"]
    words: str


class Bells:
    """Which alarms ring. One is over after ``patience`` rows whose figures stay ``hysteresis`` inside the limit."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.ringing: dict[str, int] = {}
        """Alarm -> rows in which its figure has been inside the limit, in a row."""

    def after(self, course: Course) -> list[Change]:
        """What changed with the last row of ``course``."""
        read = {name: condition(course, self.limits) for name, condition in CONDITIONS.items()}
        return self.update({name: reading for name, reading in read.items() if reading is not None})

    def update(self, readings: Mapping[str, Reading]) -> list[Change]:
        """What changed with these readings; an alarm without one stays as it is."""
        changes = []
        for name, (ratio, words) in readings.items():
            if name not in self.ringing:
                if ratio >= 1:
                    self.ringing[name] = 0
                    changes.append(Change(name, "rings", words))
                continue
            inside = ratio < 1 - self.limits.hysteresis
            self.ringing[name] = self.ringing[name] + 1 if inside else 0
            if self.ringing[name] >= self.limits.patience:
                del self.ringing[name]
                changes.append(
                    Change(name, "over", f"{name} is over after {self.limits.patience} rows inside its limit")
                )
        return changes
