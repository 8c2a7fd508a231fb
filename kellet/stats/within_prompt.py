"""What goes together among the answers to one prompt: correlation, slope, and the gain that is left at equal length.

Two answers of the *reference* to one prompt differ in length, style and reward, and no training has pushed any of them.
What the reward model pays for length there is what it would have paid the candidate for its extra length alone. With
each prompt's mean taken off x and y (:func:`centred`; fixed effects), S_xy the sum of x·y over a prompt's answers,

    correlation = Σ S_xy / √(Σ S_xx · Σ S_yy)          slope of y on x = Σ S_xy / Σ S_xx          sums over prompts

At equal z, x and y are replaced by their residuals after least squares on z (Frisch and Waugh 1933). All of these are
associations: answers that differ in x may also differ in what nobody counts. The probes of the reward model's card
(kellet/reward/card.py) change one thing at a time.

Legend: N = answers, n = prompts, k = columns held fixed. ``alpha`` is one-sided, see kellet/stats/bootstrap.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kellet.stats.bootstrap import (
    Codes,
    Estimate,
    Floats,
    cluster_codes,
    cluster_means,
    groups_of,
    mean,
    ratio,
    studentised,
)

MIN_PROMPTS = 10
"""Prompts whose answers differ that a correlation or a slope needs."""
MIN_UNEXPLAINED = 0.02
"""The least share of a column's variation within prompt that the columns held fixed must leave unexplained."""
GAIN = np.array([1.0, 0.0, 0.0, 0.0])
"""Gradient of mean(d) with respect to the four means of :func:`equal_length_gain`."""


@dataclass(frozen=True)
class EqualLengthGain:
    """The gain split in two: ``gain = explained + remaining``, each with its interval."""

    slope: Estimate
    """Reward per token, within prompt, of the reference."""
    explained: Estimate
    """slope · (mean length difference): what the extra length alone is worth, reward units."""
    remaining: Estimate
    """The gain at equal length, reward units."""
    share: Estimate
    """explained / gain; NaN and unbounded where the gain is not shown to differ from zero."""

    def to_dict(self) -> dict[str, Any]:
        """``{slope, explained, remaining, share}``, each as an Estimate's."""
        return {name: getattr(self, name).to_dict() for name in ("slope", "explained", "remaining", "share")}


def centred(values: npt.ArrayLike, codes: Codes, clusters: int) -> Floats:
    """``values`` ``(N,)`` less the mean of their cluster; a cluster may have no value."""
    array = np.asarray(values, np.float64)
    counts = np.maximum(np.bincount(codes, minlength=clusters), 1)
    differences: Floats = array - (np.bincount(codes, array, clusters) / counts)[codes]
    return differences


def correlation(
    x: Floats, y: Floats, codes: Codes, held: Floats | None = None, *, alpha: float, resamples: int, seed: int
) -> Estimate | None:
    """Correlation of x and y ``(N,)`` within prompt, with the columns of ``held`` ``(N, k)`` fixed.

    The interval treats the least squares on ``held`` as known, which is right to first order. None where x or y does
    not vary within MIN_PROMPTS prompts.
    """
    n = int(codes.max()) + 1
    x, y = centred(x, codes, n), centred(y, codes, n)
    if held is not None and held.any():
        z = np.column_stack([centred(column, codes, n) for column in held.T])
        x, y = (column - z @ np.linalg.lstsq(z, column, rcond=None)[0] for column in (x, y))
    sums = [np.bincount(codes, a * b, n).astype(np.float64) for a, b in ((x, y), (x, x), (y, y))]
    columns: Floats = np.column_stack(sums)
    if min((columns[:, 1] > 1e-12).sum(), (columns[:, 2] > 1e-12).sum()) < MIN_PROMPTS:
        return None
    columns = columns / np.array([np.sqrt(columns[:, 1].mean() * columns[:, 2].mean()), *columns[:, 1:].mean(axis=0)])

    def value(m: Floats) -> Floats:
        r: Floats = m[..., 0] / np.sqrt(m[..., 1] * m[..., 2])
        return r

    def gradient(m: Floats) -> Floats:
        r, root = value(m), np.sqrt(m[..., 1] * m[..., 2])
        return np.stack([1 / root, -r / (2 * m[..., 1]), -r / (2 * m[..., 2])], axis=-1)

    return studentised(columns, value, gradient, alpha=alpha, resamples=resamples, seed=seed)


def length_slope(
    reward: npt.ArrayLike,
    length: npt.ArrayLike,
    cluster: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """Slope of reward on length within prompt, reward units per token; None where fewer than MIN_PROMPTS vary."""
    (codes,), n = cluster_codes(cluster)
    columns = _slope_columns(reward, length, codes, n)
    return None if columns is None else ratio(columns, alpha=alpha, resamples=resamples, seed=seed)


def slope_at_equal_length(
    reward: npt.ArrayLike,
    axis: npt.ArrayLike,
    length: npt.ArrayLike,
    cluster: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """Reward units for one more of ``axis`` at equal length, within prompt; arrays ``(N,)``, one value an answer.

    An answer with one more courtesy sentence is also longer: this is what the reward pays for it beyond its length.
    The bootstrap holds the two coefficients on length, which is right to first order: the residuals are orthogonal to
    length, so a small error in either coefficient does not move the slope. None when fewer than MIN_PROMPTS prompts
    have answers that differ on the axis, or when the axis is (all but) length itself.
    """
    (codes,), n = cluster_codes(cluster)
    y, x, z = (centred(values, codes, n) for values in (reward, axis, length))
    unexplained = _residual(x, z)
    differs = int((np.bincount(codes, x**2, n) > 1e-12).sum())
    if differs < MIN_PROMPTS or (unexplained**2).sum() < MIN_UNEXPLAINED * (x**2).sum():
        return None
    return length_slope(_residual(y, z), unexplained, codes, alpha=alpha, resamples=resamples, seed=seed)


def equal_length_gain(
    reward: tuple[npt.ArrayLike, npt.ArrayLike],
    length: tuple[npt.ArrayLike, npt.ArrayLike],
    cluster: tuple[npt.ArrayLike, npt.ArrayLike],
    slope_from: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None = None,
    *,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
    group: npt.ArrayLike | None = None,
) -> EqualLengthGain | None:
    """Gain of b over a at equal length; each pair of arrays is (of a ``(N_a,)``, of b ``(N_b,)``).

    ``slope_from`` is (reward, length, cluster) of the reference's answers; None takes those of a. With d and l a
    prompt's differences of mean reward and mean length,

        explained = slope · mean(l),   remaining = mean(d) - explained,   share = explained / mean(d)

    are smooth functions of four means over prompts, resampled together, so that the slope's own uncertainty is in each
    interval. ``group`` is the cluster of each answer of a. None when there is no slope (:func:`length_slope`). Raises
    DataError when the prompts differ.
    """
    slope_reward, slope_length, slope_cluster = slope_from or (reward[0], length[0], cluster[0])
    (codes_a, codes_b, slope_codes), n = cluster_codes(*cluster, slope_cluster)
    within = _slope_columns(slope_reward, slope_length, slope_codes, n)
    if within is None:
        return None
    gain = cluster_means(reward[1], codes_b, n) - cluster_means(reward[0], codes_a, n)
    longer = cluster_means(length[1], codes_b, n) - cluster_means(length[0], codes_a, n)
    columns = np.column_stack([gain, longer, within])
    groups = groups_of(group, cluster[0])
    settings: dict[str, Any] = {"alpha": alpha, "resamples": resamples, "seed": seed, "groups": groups}

    # e = l·S_xy/S_xx, of the means (d, l, S_xx, S_xy)
    def explained(m: Floats) -> Floats:
        return m[..., 1] * m[..., 3] / _positive(m[..., 2])

    def explained_gradient(m: Floats) -> Floats:
        base, e = _positive(m[..., 2]), explained(m)
        return np.stack([np.zeros_like(e), m[..., 3] / base, -e / base, m[..., 1] / base], axis=-1)

    def remaining(m: Floats) -> Floats:
        return m[..., 0] - explained(m)

    def share(m: Floats) -> Floats:
        return explained(m) / m[..., 0]

    def share_gradient(m: Floats) -> Floats:
        gradient: Floats = (explained_gradient(m) - share(m)[..., None] * GAIN) / m[..., :1]
        return gradient

    whole_gain = mean(gain, **settings)
    share_estimate = Estimate(np.nan, -np.inf, np.inf, n)
    if whole_gain.low > 0 or whole_gain.high < 0:
        share_estimate = studentised(columns, share, share_gradient, **settings)
    return EqualLengthGain(
        slope=ratio(within, **settings),
        explained=studentised(columns, explained, explained_gradient, **settings),
        remaining=studentised(columns, remaining, lambda m: GAIN - explained_gradient(m), **settings),
        share=share_estimate,
    )


def _positive(values: Floats) -> Floats:
    return np.maximum(values, 1e-9)


def _residual(values: Floats, on: Floats) -> Floats:
    """What least squares through zero on ``on`` leaves of ``values``."""
    square = float((on**2).sum())
    return values - on * (float((values * on).sum()) / square) if square > 0 else values


def _slope_columns(y: npt.ArrayLike, x: npt.ArrayLike, codes: Codes, n: int) -> Floats | None:
    """S_xx and S_xy of each prompt ``(n, 2)``, whose :func:`ratio` is the slope of y on x.

    Both are divided by the mean of S_xx: their ratio stays, and the denominator is near one. None when x differs
    between the answers of fewer than MIN_PROMPTS prompts.
    """
    y, x = centred(y, codes, n), centred(x, codes, n)
    square, cross = np.bincount(codes, x * x, n), np.bincount(codes, x * y, n)
    if int((square > 0).sum()) < MIN_PROMPTS:
        return None
    scaled: Floats = np.column_stack([square, cross]) / square.mean()
    return scaled
