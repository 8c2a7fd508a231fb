"""The reward gain that is left at equal length, by the length slope of the reference's own answers.

The slope is measured within prompt (fixed effects): two answers of the *reference* to the same prompt differ in length
and in reward, and no training has pushed either. What the reward model pays for length there is what it would have
paid the candidate for its extra length alone.

Legend: N = answers, n = prompts. ``alpha`` is one-sided, see kellet/stats/bootstrap.py.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kellet.stats.bootstrap import Codes, Estimate, Floats, cluster_codes, cluster_means, mean, ratio, studentised

MIN_SLOPE_PROMPTS = 10
"""Prompts with two answers of different length that a slope needs."""
GAIN = np.array([1.0, 0.0, 0.0, 0.0])
"""Gradient of mean(d) with respect to the four means."""


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


def length_slope(
    reward: npt.ArrayLike,
    length: npt.ArrayLike,
    cluster: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate | None:
    """Slope of reward on length within prompt, reward units per token; None when too few prompts can tell.

    With a prompt's own means taken off, slope = Σ_prompts S_xy / Σ_prompts S_xx: a ratio of sums over prompts.
    """
    (codes,), n = cluster_codes(cluster)
    columns = _within(reward, length, codes, n)
    return None if columns is None else ratio(columns, alpha=alpha, resamples=resamples, seed=seed)


def equal_length_gain(
    reward: tuple[npt.ArrayLike, npt.ArrayLike],
    length: tuple[npt.ArrayLike, npt.ArrayLike],
    cluster: tuple[npt.ArrayLike, npt.ArrayLike],
    slope_from: tuple[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike] | None = None,
    *,
    alpha: float = 0.05,
    resamples: int = 2000,
    seed: int = 0,
) -> EqualLengthGain | None:
    """Gain of b over a at equal length; each pair of arrays is (of a ``(N_a,)``, of b ``(N_b,)``).

    ``slope_from`` is (reward, length, cluster) of the reference's answers; None takes those of a. With d and l a
    prompt's differences of mean reward and mean length,

        explained = slope · mean(l),   remaining = mean(d) - explained,   share = explained / mean(d)

    are smooth functions of four means over prompts, resampled together, so that the slope's own uncertainty is in each
    interval. None when the slope cannot be told. Raises DataError when the prompts differ.
    """
    own = slope_from or (reward[0], length[0], cluster[0])
    (codes_a, codes_b, codes_own), n = cluster_codes(*cluster, own[2])
    within = _within(own[0], own[1], codes_own, n)
    if within is None:
        return None
    gain = cluster_means(reward[1], codes_b, n) - cluster_means(reward[0], codes_a, n)
    longer = cluster_means(length[1], codes_b, n) - cluster_means(length[0], codes_a, n)
    columns = np.column_stack([gain, longer, within])
    settings: dict[str, Any] = {"alpha": alpha, "resamples": resamples, "seed": seed}

    # e = l·S_xy/S_xx, of the means (d, l, S_xx, S_xy)
    def explained(m: Floats) -> Floats:
        return m[..., 1] * m[..., 3] / _positive(m[..., 2])

    def slopes(m: Floats) -> Floats:
        base, e = _positive(m[..., 2]), explained(m)
        return np.stack([np.zeros_like(e), m[..., 3] / base, -e / base, m[..., 1] / base], axis=-1)

    def remaining(m: Floats) -> Floats:
        return m[..., 0] - explained(m)

    def share(m: Floats) -> Floats:
        return explained(m) / m[..., 0]

    def share_slopes(m: Floats) -> Floats:
        slope: Floats = (slopes(m) - share(m)[..., None] * GAIN) / m[..., :1]
        return slope

    told = studentised(columns, remaining, lambda m: GAIN - slopes(m), **settings)
    whole = mean(gain, **settings)
    part = Estimate(np.nan, -np.inf, np.inf, n)
    if whole.low > 0 or whole.high < 0:
        part = studentised(columns, share, share_slopes, **settings)
    return EqualLengthGain(ratio(within, **settings), studentised(columns, explained, slopes, **settings), told, part)


def _positive(values: Floats) -> Floats:
    return np.maximum(values, 1e-9)


def _within(reward: npt.ArrayLike, length: npt.ArrayLike, codes: Codes, n: int) -> Floats | None:
    """S_xx and S_xy of each prompt ``(n, 2)``: sums of products of deviations from the prompt's means.

    Both are divided by the mean of S_xx: their ratio stays, and the denominator is near one. None when fewer than
    MIN_SLOPE_PROMPTS prompts have answers of different length.
    """
    y, x = np.asarray(reward, np.float64), np.asarray(length, np.float64)
    counts = np.maximum(np.bincount(codes, minlength=n), 1)
    x = x - (np.bincount(codes, x, n) / counts)[codes]
    y = y - (np.bincount(codes, y, n) / counts)[codes]
    square, cross = np.bincount(codes, x * x, n), np.bincount(codes, x * y, n)
    if int((square > 0).sum()) < MIN_SLOPE_PROMPTS:
        return None
    scaled: Floats = np.column_stack([square, cross]) / square.mean()
    return scaled
