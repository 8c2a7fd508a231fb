"""Intervals for statistics of prompts: the studentised cluster bootstrap of a smooth function of means.

Everything in Kellet is paired by prompt and resampled by prompt: a prompt with its answers of all systems is one
cluster, drawn with replacement. Whatever a statistic needs of a prompt is a few numbers (a row of ``columns``), so a
resample is a weighted sum of rows and 2,000 resamples of 50,000 prompts take about a second.

Legend: n = prompts (clusters), k = numbers kept for a prompt, B = resamples.

Levels: ``alpha`` is one-sided. An interval is the two-sided one of level 1 - 2·alpha, so that each of its ends is a
one-sided bound of level 1 - alpha: at alpha = 0.05 it is what is usually called a 90% interval.

Why studentised (bootstrap-t): for means and ratios of means it is second-order accurate, as BCa is, and unlike BCa and
the plain percentile it also widens for few prompts and follows the skewness of KL and length.
Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 12 and 14; Davison and Hinkley,
Bootstrap Methods and their Application (1997), section 5.2.
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from kellet.errors import DataError

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Counts = npt.NDArray[np.uint8]
Function = Callable[[Floats], Floats]

CHUNK = 4_000_000
"""Weights (resamples x prompts) in use at a time: 32 MB."""
VANISHED = 1e-3
"""A resample's standard error below this share of the sample's is none: its prompts are all alike."""
KEPT = 64_000_000
"""So many weights are kept as bytes for the next statistic of the same prompts, which draws the same resamples."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; ``clusters`` is the number of prompts behind it."""

    value: float
    low: float
    high: float
    clusters: int

    @property
    def finite(self) -> bool:
        """Whether the value and both ends are numbers."""
        return bool(np.isfinite([self.value, self.low, self.high]).all())

    def to_dict(self) -> dict[str, Any]:
        """``{value, interval, prompts}``."""
        return {"value": self.value, "interval": [self.low, self.high], "prompts": self.clusters}


def cluster_codes(*labels: npt.ArrayLike) -> tuple[list[Codes], int]:
    """Give each distinct label a number, alike in all arrays; return the codes of each array and the count."""
    arrays = [np.asarray(array) for array in labels]
    distinct, codes = np.unique(np.concatenate(arrays), return_inverse=True)
    borders = np.cumsum([len(array) for array in arrays])[:-1]
    return np.split(codes.astype(np.int64), borders), len(distinct)


def cluster_means(values: npt.ArrayLike, codes: Codes, clusters: int) -> Floats:
    """Mean of ``values`` in each cluster ``(n,)``; raises DataError where a cluster has no value."""
    counts = np.bincount(codes, minlength=clusters)
    if (counts == 0).any():
        raise DataError(f"{int((counts == 0).sum())} prompts have values on one side only; pair by prompt first")
    return np.bincount(codes, np.asarray(values, dtype=np.float64), clusters) / counts


def studentised(
    columns: Floats, function: Function, gradient: Function, *, alpha: float, resamples: int, seed: int
) -> Estimate:
    """Bootstrap-t interval of ``function(mean of columns)``; one row of ``columns`` ``(n, k)`` is one prompt.

    ``function`` maps means ``(..., k)`` to ``(...)`` and ``gradient`` to ``(..., k)``. With m the means, g the gradient
    at m and C the covariance of the rows, the standard error is the delta method's

        se² = gᵀ C g / n

    and with t* = (θ* - θ) / se* over resamples of rows the interval is [θ - t*(1 - alpha)·se, θ - t*(alpha)·se].
    One prompt gives an infinite interval, because nothing can be said about the next one.

    Of a count that one prompt in 256 has, 37% of the resamples have none: all their rows are alike, se* is 0 and t* has
    no value. They get the least se* of the others. Where they are more than alpha/2 of the resamples, so that they
    decide the quantiles of t*, the interval is the smallest that also holds the percentile interval of θ*, which is
    skewed as the data are, and Student's, which is wide for few prompts. (Efron and Tibshirani 1993, chapters 12 and
    13: bootstrap-t is erratic where few data decide, the percentile keeps to what is possible.)
    """
    n, k = columns.shape
    centre = columns.mean(axis=0)
    value = float(function(centre))
    if n < 2 or not np.isfinite(value):
        return Estimate(value, -np.inf, np.inf, n)
    rows = columns - centre
    upper = np.triu_indices(k)
    products = rows[:, upper[0]] * rows[:, upper[1]]
    scale = np.where(upper[0] == upper[1], 1.0, 2.0)  # a product off the diagonal counts twice in gᵀCg

    def errors(means: Floats, seconds: Floats) -> Floats:
        g = gradient(centre + means)
        covariance = seconds - means[..., upper[0]] * means[..., upper[1]]
        variance: Floats = (g[..., upper[0]] * g[..., upper[1]] * scale * covariance).sum(axis=-1) / n
        return np.sqrt(np.maximum(variance, 0))

    se = float(errors(np.zeros(k), products.mean(axis=0)))
    if se <= 1e-12 * max(abs(value), 1e-12):
        return Estimate(value, value, value, n)
    drawn = [
        (function(centre + sums[:, :k]), errors(sums[:, :k], sums[:, k:]))
        for sums in resampled_means(np.hstack([rows, products]), resamples, seed)
    ]
    values, spreads = (np.concatenate(part) for part in zip(*drawn, strict=True))
    if not (np.isfinite(values).all() and np.isfinite(spreads).all()):
        return Estimate(value, -np.inf, np.inf, n)
    # rows are centred with divisor n; the usual n - 1 in both se and se* would cancel in t and widens the interval
    wide = se * float(np.sqrt(n / (n - 1)))
    vanished = spreads < VANISHED * se
    t = (values - value) / np.where(vanished, spreads[~vanished].min(initial=se), spreads)
    low, high = (value - wide * float(end) for end in np.quantile(t, [1 - alpha, alpha]))
    if vanished.mean() > alpha / 2:
        percentile = np.quantile(values, [alpha, 1 - alpha])
        half = wide * float(student.ppf(1 - alpha, n - 1))
        low, high = min(low, float(percentile[0]), value - half), max(high, float(percentile[1]), value + half)
    return Estimate(value, low, high, n)


def resampled_means(rows: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Means of ``rows`` ``(n, k)`` over ``resamples`` draws of n rows with replacement, in chunks ``(b, k)``."""
    n = len(rows)
    drawn = _kept(n, resamples, seed, CHUNK) if n * resamples <= KEPT else _drawn(n, resamples, seed, CHUNK)
    for counts in drawn:
        yield counts.astype(np.float64) @ rows / n


def _drawn(n: int, resamples: int, seed: int, chunk: int) -> Iterator[Counts]:
    """How often each of n rows is drawn, ``(b, n)``; a row that came 256 times in n draws is not to be expected."""
    rng = np.random.default_rng(seed)
    size = max(1, chunk // n)
    for start in range(0, resamples, size):
        b = min(size, resamples - start)
        rows = rng.integers(0, n, size=(b, n), dtype=np.int64)
        rows += np.arange(b, dtype=np.int64)[:, None] * n
        yield np.bincount(rows.ravel(), minlength=b * n).reshape(b, n).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def _kept(n: int, resamples: int, seed: int, chunk: int) -> Iterable[Counts]:
    return tuple(_drawn(n, resamples, seed, chunk))


def mean(values: Floats, *, alpha: float, resamples: int, seed: int) -> Estimate:
    """Mean of one value for each prompt ``(n,)``."""
    return studentised(values[:, None], lambda m: m[..., 0], np.ones_like, alpha=alpha, resamples=resamples, seed=seed)


def linearised(value: float, influence: Floats, *, alpha: float, resamples: int, seed: int) -> Estimate:
    """Interval of an estimate by its influence ``(n,)``: what each prompt adds to it, in sum about zero.

    For what is too wide for :func:`studentised`, such as a regression on many columns: the estimate is treated as the
    mean of value + influence, which is right to first order (Davison and Hinkley 1997, section 2.7).
    """
    return mean(value + influence - influence.mean(), alpha=alpha, resamples=resamples, seed=seed)


def ratio(columns: Floats, *, alpha: float, resamples: int, seed: int) -> Estimate:
    """(Mean of the second column) / (mean of the first) of ``columns`` ``(n, 2)``.

    A mean of the first at or below zero gives NaN with an infinite interval: there is no ratio to speak of. Of columns
    without a negative number, such as lengths, no end is below 0.
    """
    if columns[:, 0].mean() <= 0:
        return Estimate(np.nan, -np.inf, np.inf, len(columns))

    def value(m: Floats) -> Floats:
        return m[..., 1] / np.maximum(m[..., 0], 1e-300)

    def gradient(m: Floats) -> Floats:
        base = np.maximum(m[..., 0], 1e-300)
        return np.stack([-m[..., 1] / base**2, 1 / base], axis=-1)

    told = studentised(columns, value, gradient, alpha=alpha, resamples=resamples, seed=seed)
    return replace(told, low=max(told.low, 0.0)) if (columns >= 0).all() else told


def paired_means(a: npt.ArrayLike, b: npt.ArrayLike, cluster_a: npt.ArrayLike, cluster_b: npt.ArrayLike) -> Floats:
    """Mean of ``a`` and mean of ``b`` in each prompt ``(n, 2)``; answers ``(N_a,)`` and ``(N_b,)``.

    Each prompt weighs the same, however many answers it has. Raises DataError when the prompts differ.
    """
    (codes_a, codes_b), n = cluster_codes(cluster_a, cluster_b)
    return np.column_stack([cluster_means(a, codes_a, n), cluster_means(b, codes_b, n)])


def mean_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    cluster_a: npt.ArrayLike,
    cluster_b: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """Mean over prompts of (mean of ``b`` - mean of ``a``), paired by prompt, see :func:`paired_means`."""
    columns = paired_means(a, b, cluster_a, cluster_b)
    return mean(columns[:, 1] - columns[:, 0], alpha=alpha, resamples=resamples, seed=seed)


def ratio_of_means(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    cluster_a: npt.ArrayLike,
    cluster_b: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """(Mean of ``b``) / (mean of ``a``), paired by prompt, see :func:`paired_means` and :func:`ratio`."""
    return ratio(paired_means(a, b, cluster_a, cluster_b), alpha=alpha, resamples=resamples, seed=seed)
