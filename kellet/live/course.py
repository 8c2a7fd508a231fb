"""The course of a training as far as it is logged: its levels now and at the start, and how far they are apart."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np

from kellet.stats.resampling import Floats

Row = Mapping[str, float | None]
NOISE_VALUES = 200
"""The latest values from which the noise of a metric is taken."""
JUMP = 3.0
"""A difference between rows counts as noise up to this many times what is usual."""
MOST_CORRELATED = 0.8
"""Noise of neighbouring rows is not taken to be more alike than this, or a smooth rise would count as noise."""


class Step(NamedTuple):
    """One logged row."""

    iteration: float
    metrics: Row
    """In Kellet's names."""
    broken: tuple[str, ...] = ()
    """The trainer's names of figures in the row that are no finite number."""


class Course:
    """The values of each metric so far, read in windows of ``patience`` values."""

    def __init__(self, patience: int, steps: Iterable[Step] = ()) -> None:
        self.patience = patience
        self.steps: list[Step] = []
        self._values: dict[str, list[float]] = {}
        self._last: dict[str, int] = {}
        self._best: dict[str, tuple[int, list[float]]] = {}
        for step in steps:
            self.add(step)

    def add(self, step: Step) -> None:
        """Append a row."""
        self.steps.append(step)
        for name, value in step.metrics.items():
            if value is not None:
                self._values.setdefault(name, []).append(value)
                self._last[name] = len(self.steps)

    def first_of(self, names: Iterable[str]) -> str | None:
        """The first of ``names`` that has been logged."""
        return next((name for name in names if name in self._values), None)

    def recent(self, name: str | None, count: int | None = None) -> list[float] | None:
        """The last ``count`` (else ``patience``) values; None where there are fewer, or none among the latest rows."""
        values = self._values.get(name or "", [])
        wanted = count or self.patience
        if name is None or len(values) < wanted or len(self.steps) - self._last[name] >= self.patience:
            return None
        return values[-wanted:]

    def start(self, name: str) -> list[float] | None:
        """The first ``patience`` values; None until the recent ones are others."""
        values = self._values.get(name, [])
        return values[: self.patience] if len(values) >= 2 * self.patience else None

    def best(self, name: str) -> list[float] | None:
        """Of the values, ``patience`` by ``patience``, those with the highest mean; None before the first are there."""
        values, size = self._values.get(name, []), self.patience
        seen, best = self._best.get(name, (0, []))
        for begin in range(seen, len(values) - size + 1, size):
            block, seen = values[begin : begin + size], begin + size
            best = block if not best or fmean(block) > fmean(best) else best
        self._best[name] = seen, best
        return best or None

    def distance(self, name: str, later: Sequence[float], earlier: Sequence[float]) -> float:
        """How far the mean of ``later`` is above that of ``earlier``, in standard errors that know autocorrelation.

        ±inf where there is no noise. The noise is that of an autoregression of order one on top of a slow course, from
        the variances v1, v2 of the differences over one row and over two: φ = v2/v1 - 1, and a mean of n values has the
        variance v1·(1 + φ) / (2·(1 - φ)²·n). A jump is no noise, and is cut.
        """
        difference = fmean(later) - fmean(earlier)
        values = np.array(self._values[name][-NOISE_VALUES:])
        one, two = _robust_variance(np.diff(values)), _robust_variance(values[2:] - values[:-2])
        if one <= (1e-12 * float(np.abs(values).max())) ** 2:
            return math.copysign(math.inf, difference) if difference else 0.0
        phi = min(max(two / one - 1, 0.0), MOST_CORRELATED)
        long_run = one * (1 + phi) / (2 * (1 - phi) ** 2)
        return difference / math.sqrt(long_run * (1 / len(later) + 1 / len(earlier)))


def _robust_variance(values: Floats) -> float:
    """Variance with deviations cut at JUMP standard deviations, taken from the median deviation: a jump is no noise."""
    deviations = values - np.median(values)
    usual = 1.4826 * float(np.median(np.abs(deviations)))
    cut = np.clip(deviations, -JUMP * usual, JUMP * usual) if usual > 0 else deviations
    return float(np.var(cut))
