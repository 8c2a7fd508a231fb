"""The gain among answers of about the same length: local regression on the difference of lengths.

Whatever the price of length is (a line, a curve that saturates or turns, another line for each prompt), two answers to
one prompt that are equally long are paid the same for it. So the gain at equal length is what the difference of their
rewards tends to where the difference of their lengths tends to zero. With d = reward_b - reward_a of a pair of answers
to one prompt, Δ = length_b - length_a and m the mean of both lengths, a price f gives

    d = gain + f(length_b) - f(length_a) + noise = gain + f'(m)·Δ + O(Δ³) + noise

and the local quadratic regression (Fan and Gijbels, Local Polynomial Modelling and Its Applications, 1996, chapter 3)

    minimise  Σ K(Δ/h)·(d - a - b·Δ - c·Δ·(m - m̄) - q·Δ²)²,     K(u) = 1 - u² within |u| < 1 (Epanechnikov)

estimates the gain by a. The term Δ·(m - m̄) is a price that changes with length. Δ² takes up a price that goes together
with the difference: answers that grew most where length pays most, or that are less spread than before. h is the
bandwidth in tokens; nothing beyond it is used, so nothing is extrapolated.

Every answer of a is paired with every answer of b to the same prompt (of many, with PARTNERS of them): k samples give
up to k² pairs. The interval is cluster-robust: the jackknife over clusters (CR3: Bell and McCaffrey 2002; MacKinnon,
Nielsen and Webb 2023), with Student's t of clusters - 1 degrees of freedom.

Legend: N = answers, P = pairs within the bandwidth, G = clusters, p = 4 regressors. ``alpha`` is one-sided.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import t

from kellet.stats.bootstrap import Codes, Estimate, Floats, cluster_codes, groups_of

PARTNERS = 8
"""Answers of b that an answer of a is paired with, at most: k samples give k² pairs, and more say hardly more."""
MIN_CLUSTERS = 10
"""Clusters with a pair within the bandwidth without which nothing is estimated."""
CURVE = np.linspace(-2.0, 2.0, 9)
"""Where the curve for the picture is estimated, bandwidths from equal length."""


class Pairs(NamedTuple):
    """Answers of a and b to the same prompt, each with each, ``(P,)``."""

    a: Codes
    """Row of a's answer."""
    b: Codes
    prompt: Codes


@dataclass(frozen=True)
class LocalGain:
    """The gain at equal length, and what it rests on."""

    gain: Estimate
    bandwidth: float
    """Tokens; the pairs' lengths differ by less."""
    pairs: int
    """Pairs within the bandwidth."""
    shortest: float
    longest: float
    """Least and largest mean length of such a pair, tokens."""
    curve: tuple[tuple[float, float, float, float], ...] = ()
    """(difference of lengths in tokens, gain, low, high): the same regression about other differences."""

    def to_dict(self) -> dict[str, Any]:
        """As gate.json has it under ``length.local``."""
        return {
            "gain": self.gain.to_dict(),
            "bandwidth": self.bandwidth,
            "pairs": self.pairs,
            "shortest": self.shortest,
            "longest": self.longest,
            "curve": [dict(zip(("difference", "gain", "low", "high"), point, strict=True)) for point in self.curve],
        }


def crosswise(prompt_a: npt.ArrayLike, prompt_b: npt.ArrayLike) -> Pairs:
    """Pair the answers ``(N_a,)`` and ``(N_b,)`` to the same prompt, each with each, at most PARTNERS for one of a."""
    (codes_a, codes_b), n = cluster_codes(prompt_a, prompt_b)
    order = np.argsort(codes_b, kind="stable")
    counts = np.bincount(codes_b, minlength=n)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(codes_a), np.int64)  # the number of the answer among those of a to its prompt
    order_a = np.argsort(codes_a, kind="stable")
    sizes = np.bincount(codes_a, minlength=n)
    rank[order_a] = np.arange(len(codes_a)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows_a, rows_b = [], []
    for shift in range(min(PARTNERS, int(counts.max(initial=0)))):
        has = np.flatnonzero(counts[codes_a] > shift)
        at = codes_a[has]
        rows_a.append(has)
        rows_b.append(order[starts[at] + (rank[has] + shift) % counts[at]])
    a, b = np.concatenate(rows_a), np.concatenate(rows_b)
    return Pairs(a, b, codes_a[a])


def local_gain(
    reward: tuple[Floats, Floats],
    length: tuple[Floats, Floats],
    prompt: tuple[npt.ArrayLike, npt.ArrayLike],
    bandwidth: float,
    *,
    alpha: float = 0.05,
    group: npt.ArrayLike | None = None,
    curve: bool = False,
) -> LocalGain | None:
    """Gain of b over a at equal length; each pair of arrays is (of a ``(N_a,)``, of b ``(N_b,)``).

    ``bandwidth`` in tokens. ``group`` is the cluster of each answer of a. None where fewer than MIN_CLUSTERS clusters
    have a pair within the bandwidth: equal length is then not identified.
    """
    pairs = crosswise(*prompt)
    d = np.asarray(reward[1], np.float64)[pairs.b] - np.asarray(reward[0], np.float64)[pairs.a]
    before, after = (np.asarray(side, np.float64) for side in length)
    delta, middle = after[pairs.b] - before[pairs.a], (after[pairs.b] + before[pairs.a]) / 2
    groups = groups_of(group, prompt[0])
    cluster = pairs.prompt if groups is None else groups[pairs.prompt]
    of = "prompts" if groups is None else "clusters"
    gain = _intercept(d, delta, middle, cluster, bandwidth, alpha, of)
    if gain is None:
        return None
    near = middle[np.abs(delta) < bandwidth]
    points = []
    for step in CURVE if curve else ():
        point = _intercept(d, delta - step * bandwidth, middle, cluster, bandwidth, alpha, of)
        if point is not None:
            points.append((float(step * bandwidth), point.value, point.low, point.high))
    return LocalGain(gain, bandwidth, len(near), float(near.min()), float(near.max()), tuple(points))


def _intercept(
    d: Floats, delta: Floats, middle: Floats, cluster: Codes, bandwidth: float, alpha: float, of: str
) -> Estimate | None:
    """Intercept of the local quadratic regression at Δ = 0, with the jackknife's interval over clusters."""
    weight = np.maximum(1 - (delta / bandwidth) ** 2, 0.0)
    kept = weight > 0
    numbers, codes = np.unique(cluster[kept], return_inverse=True)
    g = len(numbers)
    if g < MIN_CLUSTERS:
        return None
    weight, d, x, m = weight[kept], d[kept], delta[kept] / bandwidth, middle[kept] / bandwidth
    regressors = np.column_stack([np.ones_like(x), x, x * (m - np.average(m, weights=weight)), x**2])
    varies = [0, *(j for j in (1, 2, 3) if float((weight * regressors[:, j] ** 2).sum()) > 1e-12 * weight.sum())]
    regressors = regressors[:, varies]
    p = len(varies)
    outer = (regressors[:, :, None] * regressors[:, None, :]).reshape(len(x), p * p) * weight[:, None]
    right = regressors * (weight * d)[:, None]
    # A_g = Σ w x xᵀ and b_g = Σ w x d of each cluster; without cluster g the coefficients are (A - A_g)⁻¹ (b - b_g)
    a_of = np.column_stack([np.bincount(codes, column, g) for column in outer.T]).reshape(g, p, p)
    b_of = np.column_stack([np.bincount(codes, column, g) for column in right.T])
    a, b = a_of.sum(axis=0), b_of.sum(axis=0)
    ridge = 1e-10 * np.trace(a) / p * np.eye(p)
    value = float(np.linalg.solve(a + ridge, b)[0])
    without = np.linalg.solve(a - a_of + ridge, (b - b_of)[..., None])[:, 0, 0]
    se = float(np.sqrt((g - 1) / g * ((without - value) ** 2).sum()))
    half = float(t.ppf(1 - alpha, g - 1)) * se
    return Estimate(value, value - half, value + half, g, of)
