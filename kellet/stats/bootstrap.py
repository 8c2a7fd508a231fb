"""Intervals for statistics of prompts: the studentised cluster bootstrap of a smooth function of means.

Everything in Kellet is paired by prompt and resampled by cluster: a prompt with its answers of all systems, or the
prompts of one topic, customer or text (``groups``), drawn with replacement. A statistic needs a few numbers of
each prompt (a row of ``columns``), so a resample is a weighted sum of rows and 2,000 resamples of 50,000 prompts take
about a second.

Legend: n = prompts, G = clusters, k = numbers kept for a prompt, B = resamples. ``groups`` ``(n,)`` is the number of
each prompt's cluster, from 0; None where each prompt is one. A mean is over prompts, however many a cluster has.

Levels: ``alpha`` is one-sided. An interval is the two-sided one of level 1 - 2·alpha, so that each of its ends is a
one-sided bound of level 1 - alpha: at alpha = 0.05 it is what is usually called a 90% interval.

Why studentised (bootstrap-t): for means and ratios of means it is second-order accurate, as BCa is, and unlike BCa and
the plain percentile it also widens for few prompts and follows the skewness of KL and length.
Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 12 and 14; Davison and Hinkley,
Bootstrap Methods and their Application (1997), section 5.2.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from scipy.stats import t as student

from kellet.errors import DataError
from kellet.stats.resampling import Floats as Floats
from kellet.stats.resampling import resampled_means

Codes = npt.NDArray[np.int64]
Function = Callable[[Floats], Floats]

VANISHED = 1e-3
"""A resample's standard error below this share of the sample's counts as zero: its prompts are all alike."""
RESOLVED = 20
"""Resamples that must lie beyond a quantile: at 2,000 resamples, levels from 0.01 on."""


@dataclass(frozen=True)
class Estimate:
    """A number with its interval; ``clusters`` is the number of independent prompts, or clusters of such, behind it."""

    value: float
    low: float
    high: float
    clusters: int
    of: str = "prompts"
    """What ``clusters`` counts: prompts, or clusters of prompts that are not independent."""

    @property
    def finite(self) -> bool:
        """Whether the value and both ends are numbers."""
        return bool(np.isfinite([self.value, self.low, self.high]).all())

    def to_dict(self) -> dict[str, Any]:
        """``{value, interval, prompts}``."""
        return {"value": self.value, "interval": [self.low, self.high], "prompts": self.clusters}


def cluster_codes(*labels: npt.ArrayLike) -> tuple[list[Codes], int]:
    """Number the distinct labels, the same in all arrays; return the codes of each array and the count."""
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


def groups_of(group: npt.ArrayLike | None, prompt: npt.ArrayLike) -> Codes | None:
    """``groups`` ``(n,)`` in the order of :func:`cluster_codes`, from the cluster and the prompt of each row ``(N,)``.

    None where no cluster is given, or where each prompt is one.
    """
    if group is None:
        return None
    first = np.unique(np.asarray(prompt), return_index=True)[1]
    (groups,), distinct = cluster_codes(np.asarray(group)[first])
    return groups if distinct < len(groups) else None


def summed_by_group(
    columns: Floats, function: Function, gradient: Function, groups: Codes
) -> tuple[Floats, Function, Function]:
    """Rows ``(G, k + 1)`` of clusters, and the same function of their means.

    With S_g the sum of a cluster's rows and n_g its number of prompts, both divided by the mean of n_g, the mean over
    prompts is ΣS_g/Σn_g: a ratio of two means over clusters, so what is a function f of the first is one of both.
    """
    counts = np.bincount(groups).astype(np.float64)
    size = counts.mean()
    sums = np.column_stack([*(np.bincount(groups, column) for column in columns.T), counts]) / size

    def of_sums(m: Floats) -> Floats:
        return function(m[..., :-1] / m[..., -1:])

    def gradient_of_sums(m: Floats) -> Floats:
        means = m[..., :-1] / m[..., -1:]
        g = gradient(means) / m[..., -1:]
        return np.concatenate([g, -(g * means).sum(axis=-1, keepdims=True)], axis=-1)

    return sums, of_sums, gradient_of_sums


def studentised(
    columns: Floats,
    function: Function,
    gradient: Function,
    *,
    alpha: float,
    resamples: int,
    seed: int,
    groups: Codes | None = None,
) -> Estimate:
    """Bootstrap-t interval of ``function(mean of columns)``; one row of ``columns`` ``(n, k)`` is one prompt.

    ``function`` maps means ``(..., k)`` to ``(...)`` and ``gradient`` to ``(..., k)``. With m the means, g the gradient
    at m and C the covariance of the rows, the standard error is the delta method's

        se² = gᵀ C g / n

    and with t* = (θ* - θ) / se* over resamples of rows the interval is [θ - t*(1 - alpha)·se, θ - t*(alpha)·se].
    One prompt gives an infinite interval: its value says nothing about the next prompt's.

    Of a count that is zero on all but one of 256 prompts, 37% of the resamples are zero throughout: se* is 0 and t* is
    undefined. Such resamples get the smallest se* of the others. Where they are more than alpha/2 of all, so that they
    decide the quantiles of t*, the interval is the smallest that also contains the percentile interval of θ*, which is
    skewed as the data are, and Student's, which is wide for few prompts. (Efron and Tibshirani 1993, chapters 12 and
    13: bootstrap-t is erratic with few data, the percentile interval stays within the possible values.)

    With ``groups`` clusters are drawn in the place of rows (:func:`summed_by_group`). Levels that B resamples do not
    resolve are reached along the normal distribution (:func:`_tail`).
    """
    if groups is not None:
        columns, function, gradient = summed_by_group(columns, function, gradient, groups)
        whole = studentised(columns, function, gradient, alpha=alpha, resamples=resamples, seed=seed)
        return replace(whole, of="clusters")
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
    # the covariance has divisor n; n - 1 in both se and se* would cancel in t, but widens the interval
    wide = se * float(np.sqrt(n / (n - 1)))
    vanished = spreads < VANISHED * se
    t = (values - value) / np.where(vanished, spreads[~vanished].min(initial=se), spreads)
    low, high = value - wide * _tail(t, 1 - alpha), value - wide * _tail(t, alpha)
    if vanished.mean() > alpha / 2:
        percentile = np.quantile(values, [alpha, 1 - alpha])
        half = wide * float(student.ppf(1 - alpha, n - 1))
        low, high = min(low, float(percentile[0]), value - half), max(high, float(percentile[1]), value + half)
    return Estimate(value, low, high, n)


def _tail(t: Floats, share: float) -> float:
    """Quantile ``share`` of the resampled t; one that fewer than RESOLVED resamples lie beyond is extrapolated.

    A quantile that RESOLVED resamples lie beyond is multiplied by the ratio of the normal quantiles of the two levels:
    the resamples say how skewed and how heavy the tail is, the normal distribution how it goes on.
    """
    least = RESOLVED / len(t)
    level = min(share, 1 - share)
    if level >= least:
        return float(np.quantile(t, share))
    resolved = float(np.quantile(t, least if share < 0.5 else 1 - least))
    return resolved * float(norm.ppf(level) / norm.ppf(least))


def mean(values: Floats, *, alpha: float, resamples: int, seed: int, groups: Codes | None = None) -> Estimate:
    """Mean of one value for each prompt ``(n,)``."""
    settings: dict[str, Any] = {"alpha": alpha, "resamples": resamples, "seed": seed, "groups": groups}
    return studentised(values[:, None], lambda m: m[..., 0], np.ones_like, **settings)


def linearised(
    value: float, influence: Floats, *, alpha: float, resamples: int, seed: int, groups: Codes | None = None
) -> Estimate:
    """Interval of an estimate by its influence ``(n,)``: each prompt's contribution, which sum to about zero.

    For estimates with too many columns for :func:`studentised`, such as a regression: the estimate is treated as the
    mean of value + influence, which is right to first order (Davison and Hinkley 1997, section 2.7).
    """
    pseudo_values = value + influence - influence.mean()
    return mean(pseudo_values, alpha=alpha, resamples=resamples, seed=seed, groups=groups)


def ratio(columns: Floats, *, alpha: float, resamples: int, seed: int, groups: Codes | None = None) -> Estimate:
    """(Mean of the second column) / (mean of the first) of ``columns`` ``(n, 2)``.

    A mean of the first at or below zero gives NaN with an infinite interval: the ratio is undefined. Where no number is
    negative, as with lengths, neither end is below 0.
    """
    if columns[:, 0].mean() <= 0:
        return Estimate(np.nan, -np.inf, np.inf, len(columns))

    def value(m: Floats) -> Floats:
        return m[..., 1] / np.maximum(m[..., 0], 1e-300)

    def gradient(m: Floats) -> Floats:
        base = np.maximum(m[..., 0], 1e-300)
        return np.stack([-m[..., 1] / base**2, 1 / base], axis=-1)

    whole = studentised(columns, value, gradient, alpha=alpha, resamples=resamples, seed=seed, groups=groups)
    return replace(whole, low=max(whole.low, 0.0)) if (columns >= 0).all() else whole


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
    group: npt.ArrayLike | None = None,
) -> Estimate:
    """Mean over prompts of (mean of ``b`` - mean of ``a``), paired by prompt, see :func:`paired_means`.

    ``group`` ``(N_a,)`` is the cluster of each answer of a, where prompts are not independent.
    """
    columns, groups = paired_means(a, b, cluster_a, cluster_b), groups_of(group, cluster_a)
    return mean(columns[:, 1] - columns[:, 0], alpha=alpha, resamples=resamples, seed=seed, groups=groups)


def ratio_of_means(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    cluster_a: npt.ArrayLike,
    cluster_b: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
    group: npt.ArrayLike | None = None,
) -> Estimate:
    """(Mean of ``b``) / (mean of ``a``), paired by prompt, see :func:`mean_difference` and :func:`ratio`."""
    columns, groups = paired_means(a, b, cluster_a, cluster_b), groups_of(group, cluster_a)
    return ratio(columns, alpha=alpha, resamples=resamples, seed=seed, groups=groups)
