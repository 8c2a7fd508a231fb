"""The reward gain that is left at equal length, by the length slope of the reference's own answers.

The slope is measured within prompt (fixed effects): two answers of the *reference* to the same prompt differ in length
and in reward, and no training has pushed either. What the reward model pays for length there is what it would have
paid the candidate for its extra length alone.

Legend: N = answers, n = prompts. ``alpha`` is one-sided, see kellet/bootstrap.py.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kellet.bootstrap import Codes, Estimate, Floats, cluster_codes, cluster_means, studentised

MIN_SLOPE_PROMPTS = 10
"""Prompts with two answers of different length that a slope needs."""


@dataclass(frozen=True)
class EqualLengthGain:
    """The gain split in two: ``gain = explained + remaining``, each with its interval."""

    slope: Estimate
    """Reward per token, within prompt, of the reference."""
    explained: Estimate
    """slope · (mean length difference): what the extra length alone is worth, reward units."""
    remaining: Estimate
    """The gain at equal length, reward units."""


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
    cross, square = _within(np.asarray(reward, np.float64), np.asarray(length, np.float64), codes, n)
    if int((square > 0).sum()) < MIN_SLOPE_PROMPTS:
        return None
    columns = _scaled(cross, square)

    def slope(m: Floats) -> Floats:
        return m[..., 0] / np.maximum(m[..., 1], 1e-9)

    def gradient(m: Floats) -> Floats:
        base = np.maximum(m[..., 1], 1e-9)
        return np.stack([1 / base, -m[..., 0] / base**2], axis=-1)

    return studentised(columns, slope, gradient, alpha=alpha, resamples=resamples, seed=seed)


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

        remaining = mean(d) - slope · mean(l)

    is a smooth function of four means over prompts, resampled together, so that the slope's own uncertainty is in the
    interval. None when the slope cannot be told. Raises DataError when the prompts differ.
    """
    own = slope_from or (reward[0], length[0], cluster[0])
    (codes_a, codes_b, codes_own), n = cluster_codes(*cluster, own[2])
    cross, square = _within(np.asarray(own[0], np.float64), np.asarray(own[1], np.float64), codes_own, n)
    if int((square > 0).sum()) < MIN_SLOPE_PROMPTS:
        return None
    gain = cluster_means(reward[1], codes_b, n) - cluster_means(reward[0], codes_a, n)
    longer = cluster_means(length[1], codes_b, n) - cluster_means(length[0], codes_a, n)
    columns = np.column_stack([gain, longer, _scaled(cross, square)])

    def parts(whole: float) -> Estimate:
        # whole = 1: the gain minus what length explains; whole = 0: minus what length explains (sign turned below)
        def value(m: Floats) -> Floats:
            return whole * m[..., 0] - m[..., 1] * m[..., 2] / np.maximum(m[..., 3], 1e-9)

        def gradient(m: Floats) -> Floats:
            base = np.maximum(m[..., 3], 1e-9)
            ones = np.full_like(base, whole)
            return np.stack([ones, -m[..., 2] / base, -m[..., 1] / base, m[..., 1] * m[..., 2] / base**2], axis=-1)

        return studentised(columns, value, gradient, alpha=alpha, resamples=resamples, seed=seed)

    minus = parts(0.0)
    slope = length_slope(*own, alpha=alpha, resamples=resamples, seed=seed)
    if slope is None:  # unreachable: the same prompts were counted above
        return None
    return EqualLengthGain(slope, Estimate(-minus.value, -minus.high, -minus.low, n), parts(1.0))


def _within(reward: Floats, length: Floats, codes: Codes, n: int) -> tuple[Floats, Floats]:
    """S_xy and S_xx of each prompt ``(n,)``: sums of products of deviations from the prompt's means."""
    counts = np.maximum(np.bincount(codes, minlength=n), 1)
    x = length - (np.bincount(codes, length, n) / counts)[codes]
    y = reward - (np.bincount(codes, reward, n) / counts)[codes]
    cross: Floats = np.bincount(codes, x * y, n).astype(np.float64)
    square: Floats = np.bincount(codes, x * x, n).astype(np.float64)
    return cross, square


def _scaled(cross: Floats, square: Floats) -> Floats:
    """Both divided by the mean of ``square``: the ratio stays, and the denominator is near one."""
    columns: Floats = np.column_stack([cross, square]) / square.mean()
    return columns
