"""Slope of the reward on a style axis within prompt, length held.

An answer with one more courtesy sentence is also longer. What the reward pays for the sentence beyond its length is the
partial slope. With a prompt's own means taken off reward y, axis x and length l, and y', x' their residuals after least
squares on l,

    slope = Σ x'y' / Σ x'²                                  (Frisch and Waugh 1933)

It is an association: an answer that differs on the axis may differ in what the axis does not count. The probes of the
reward model's card change one thing at a time.
"""

import numpy as np
import numpy.typing as npt

from kellet.stats.bootstrap import Estimate, Floats, cluster_codes
from kellet.stats.equal_length import MIN_SLOPE_PROMPTS, length_slope

OWN_VARIATION = 0.02
"""The least share of an axis' variation within prompt that length must leave unexplained."""


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

    The bootstrap holds the two coefficients on length, which is right to first order: the residuals y' and x' are
    orthogonal to length, so a small error in either coefficient does not move the slope. None when fewer than
    MIN_SLOPE_PROMPTS prompts have answers that differ on the axis, or when the axis is (all but) length itself.
    """
    (codes,), n = cluster_codes(cluster)
    y, x, z = (_centred(values, codes, n) for values in (reward, axis, length))
    own = _residual(x, z)
    differs = int((np.bincount(codes, x**2, n) > 1e-12).sum())
    if differs < MIN_SLOPE_PROMPTS or (own**2).sum() < OWN_VARIATION * (x**2).sum():
        return None
    return length_slope(_residual(y, z), own, codes, alpha=alpha, resamples=resamples, seed=seed)


def _centred(values: npt.ArrayLike, codes: npt.NDArray[np.int64], n: int) -> Floats:
    """``values`` less the mean of their prompt."""
    array = np.asarray(values, np.float64)
    means: Floats = np.bincount(codes, array, n) / np.bincount(codes, minlength=n)
    return array - means[codes]


def _residual(values: Floats, on: Floats) -> Floats:
    """What least squares through zero on ``on`` leaves of ``values``."""
    square = float((on**2).sum())
    return values - on * (float((values * on).sum()) / square) if square > 0 else values
