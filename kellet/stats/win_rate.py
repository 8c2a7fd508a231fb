"""Win rates, shares and quantiles over prompts, and the win rate at equal length.

Closed-form intervals for bounded or discrete outcomes, where a bootstrap of few prompts is poor: it cannot see beyond
the outcomes that happened, so 40 wins of 40 would give the interval [1, 1].

Legend: N = pairs or answers, n = prompts (clusters). ``alpha`` is one-sided, see kellet/stats/bootstrap.py.
"""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit
from scipy.stats import t

from kellet.stats.bootstrap import (
    Codes,
    Estimate,
    Floats,
    cluster_means,
    groups_of,
)
from kellet.stats.shares import IndependentSums, prompt_codes

MIN_OVERLAP = 0.20
"""Equal length is identified when at least this share of pairs has b no longer than a, and as many no shorter ...

Measured on public annotations of AlpacaEval 2, 49 systems against one baseline (docs/measured/gate.md has the table):
above this share the result is within 1.8 points of the published length-controlled win rate; between 0.10 and 0.20 it
is off by up to 9 points, and below 0.10 by up to 21."""
MIN_OVERLAP_PROMPTS = 5
"""... on at least this many prompts each."""
LENGTH_PRIOR = 2.0
"""Standard deviation of the Gaussian prior on the length coefficient, logits per unit of tanh."""
QUALITY_PRIOR = 5.0
"""Standard deviation of the Gaussian prior on the intercept, logits; wide: it only keeps 'won every time' finite."""
Z95 = 1.959963984540054
"""97.5th percentile of the normal distribution."""


@dataclass(frozen=True)
class LengthControlled:
    """Win rate of b over a, unadjusted (``raw``) and at equal length (``controlled``).

    ``interval`` belongs to ``controlled``; both are None when ``identified`` is False, and ``reason`` says why.
    ``length_effect`` is the fitted logit change per unit of tanh(length difference / its standard deviation).
    """

    raw: float
    controlled: float | None
    interval: tuple[float, float] | None
    identified: bool
    reason: str
    length_effect: float | None
    overlap: float
    clusters: int

    def to_dict(self) -> dict[str, Any]:
        """All fields by name."""
        return asdict(self)


def win_rate(
    preference: npt.ArrayLike,
    cluster: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    group: npt.ArrayLike | None = None,
) -> Estimate:
    """Share of wins ``(N,)`` in [0, 1], ties as one half; mean over prompts with a Wilson score interval.

    Wilson's interval (1927) with the effective number of comparisons p(1 - p)/var(mean over prompts) in the place of
    the count, as Korn and Graubard (1998) do for clustered samples, held between the number of prompts and of pairs,
    and with Student's t of n - 1 degrees of freedom in the place of the normal quantile. ``group`` ``(N,)`` is the
    cluster of each row, where prompts are not independent: then clusters take the place of prompts.
    """
    wins = np.asarray(preference, dtype=np.float64)
    codes, n = prompt_codes(cluster, len(wins))
    share = cluster_means(wins, codes, n)
    p = float(share.mean())
    sums = IndependentSums(share - p, groups_of(group, codes))
    if sums.clusters < 2:
        return Estimate(p, 0.0, 1.0, sums.clusters, sums.of)
    size = sums.effective_size(p, len(wins))
    return Estimate(p, *_wilson(p, size, float(t.ppf(1 - alpha, sums.clusters - 1))), sums.clusters, sums.of)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95% interval of a share of independent trials (Wilson 1927); (0, 1) without trials."""
    return _wilson(successes / trials, trials, Z95) if trials else (0.0, 1.0)


def _wilson(p: float, size: float, z: float) -> tuple[float, float]:
    """Wilson's score interval of a share p of ``size`` independent trials, z normal quantiles to each side."""
    # (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    centre = (p + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * np.sqrt(p * (1 - p) / size + z**2 / (4 * size**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def corrected(rate: Estimate, error: float) -> Estimate:
    """Win rate by a judge without errors, from that of a judge who says the opposite in a share ``error`` of pairs.

    observed = (1 - error)·true + error·(1 - true), so true = (observed - error)/(1 - 2·error) (Rogan and Gladen 1978);
    ``error`` is below one half and known: its own uncertainty is not in the interval. Ties stay one half.
    """
    ends = (np.array([rate.value, rate.low, rate.high]) - error) / (1 - 2 * error)
    value, low, high = np.clip(ends, 0, 1).tolist()
    return replace(rate, value=value, low=low, high=high)


def length_controlled(
    preference: npt.ArrayLike,
    length_a: npt.ArrayLike,
    length_b: npt.ArrayLike,
    cluster: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    group: npt.ArrayLike | None = None,
) -> LengthControlled:
    """Win rate of b over a if both answers were equally long.

    ``preference`` ``(N,)`` is the share of wins for b in [0, 1] (ties 0.5, fractions allowed), lengths are in any unit.
    The idea of length-controlled AlpacaEval (Dubois et al. 2024, equation 2) for one pair of systems, without the
    instruction-difficulty term:

        P(b wins) = σ(θ + φ·tanh(Δ / sd(Δ))),  Δ = length_b - length_a;   controlled = σ(θ)

    fitted by penalised likelihood with θ ~ N(0, QUALITY_PRIOR²) and φ ~ N(0, LENGTH_PRIOR²). The interval is the
    cluster-robust one (sandwich, Student's t with n - 1 degrees of freedom) on the scale of θ; n counts the clusters
    where ``group`` names that of each row. Where hardly any pair has Δ <= 0, or hardly any Δ >= 0, θ is an
    extrapolation that the prior and not the data decide: identified=False.
    """
    y = np.asarray(preference, dtype=np.float64)
    delta = np.asarray(length_b, dtype=np.float64) - np.asarray(length_a, dtype=np.float64)
    codes, n = prompt_codes(cluster, len(y))
    raw = float(cluster_means(y, codes, n).mean()) if n else np.nan
    overlap, reason = _overlap(delta, codes)
    if reason:
        return LengthControlled(raw, None, None, False, reason, None, overlap, n)
    spread = float(delta.std())
    x = np.column_stack([np.ones_like(y), np.tanh(delta / spread) if spread > 0 else np.zeros_like(y)])
    clusters, g = (codes, n) if group is None else prompt_codes(group, len(y))
    if g < 2:
        return LengthControlled(raw, None, None, False, "all pairs are of one cluster", None, overlap, g)
    theta, covariance = _fit_logistic(x, y, clusters, g)
    half = float(t.ppf(1 - alpha, g - 1) * np.sqrt(covariance[0, 0]))
    ends = expit(theta[0] + np.array([-half, half]))
    text = f"{overlap:.0%} of the pairs lie on the rarer side of equal length"
    interval = (float(ends[0]), float(ends[1]))
    return LengthControlled(raw, float(expit(theta[0])), interval, True, text, float(theta[1]), overlap, g)


def _overlap(delta: Floats, codes: Codes) -> tuple[float, str]:
    """Share of pairs on the rarer side of equal length, and why this does not identify it (empty when it does)."""
    if len(np.unique(codes)) < 2:
        return 0.0, "fewer than two prompts have a pair"
    sides = [(delta <= 0, "no longer"), (delta >= 0, "no shorter")]
    rarer, words = min(sides, key=lambda side: float(side[0].mean()))
    overlap, prompts = float(rarer.mean()), len(np.unique(codes[rarer]))
    if overlap >= MIN_OVERLAP and prompts >= MIN_OVERLAP_PROMPTS:
        return overlap, ""
    return overlap, (
        f"not identified: only {overlap:.1%} of the pairs ({prompts} prompts) have an answer that is {words} than the "
        f"other system's (needed: {MIN_OVERLAP:.0%} on {MIN_OVERLAP_PROMPTS} prompts), so equal length would be an "
        "extrapolation"
    )


def _fit_logistic(x: Floats, y: Floats, codes: Codes, clusters: int) -> tuple[Floats, Floats]:
    """Penalised logistic regression by Newton's method: coefficients ``(2,)`` and their covariance ``(2, 2)``.

    The covariance is the cluster sandwich H⁻¹ (Σ s sᵀ) H⁻¹ · n/(n - 1) (Liang and Zeger 1986), s a prompt's score.
    With fewer than five prompts on the losing side the sandwich is too small (at separation it tends to zero), so H⁻¹
    is taken where it is larger.
    """
    penalty = np.diag([QUALITY_PRIOR**-2.0, LENGTH_PRIOR**-2.0])
    theta = np.zeros(2)
    hessian = penalty
    for _ in range(100):
        p = expit(x @ theta)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + penalty
        step = np.linalg.solve(hessian, x.T @ (y - p) - penalty @ theta)
        theta = theta + step / max(1.0, float(np.abs(step).max()))  # a step of at most one logit cannot run away
        if float(np.abs(step).max()) < 1e-10:
            break
    residual = y - expit(x @ theta)
    scores = np.column_stack([np.bincount(codes, residual * x[:, j], clusters) for j in range(2)])
    inverse = np.linalg.inv(hessian)
    covariance = inverse @ (scores.T @ scores) @ inverse * clusters / (clusters - 1)
    rarer = min(len(np.unique(codes[y > 0.5])), len(np.unique(codes[y < 0.5])))
    if rarer < 5 and covariance[0, 0] < inverse[0, 0]:
        covariance = inverse
    return theta, covariance
