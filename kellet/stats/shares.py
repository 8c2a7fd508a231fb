"""Shares, counts and quantiles over prompts, where a bootstrap of few prompts is known to be poor.

A bootstrap cannot see beyond the outcomes that happened: what one prompt in 256 has is in none of 37% of the resamples.

Legend: N = answers, n = prompts, G = clusters (kellet/stats/bootstrap.py). ``alpha`` is one-sided.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.stats import binom, norm, t

from kellet.stats.bootstrap import (
    Codes,
    Estimate,
    Floats,
    cluster_codes,
    cluster_means,
    groups_of,
    mean,
    paired_means,
)

FEW = 10
"""Prompts that differ which a bootstrap of counts needs; e⁻¹⁰ of the resamples contain none of them."""


def share_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    cluster_a: npt.ArrayLike,
    cluster_b: npt.ArrayLike,
    *,
    alpha: float = 0.05,
    group: npt.ArrayLike | None = None,
) -> Estimate:
    """Share of True in ``b`` minus share of True in ``a``, paired by prompt; ``group`` is the cluster of a's rows.

    The adjusted Wald interval of Bonett and Price (2012): two pseudo-prompts are added, one with difference +1 and one
    with -1, so that 'never seen' among n prompts does not become 'impossible'. The value is the plain difference.
    """
    means = paired_means(a, b, cluster_a, cluster_b)
    change = _adjusted_wald(means[:, 1] - means[:, 0], alpha, groups_of(group, cluster_a))
    return replace(change, low=max(-1.0, change.low), high=min(1.0, change.high))


def _adjusted_wald(difference: Floats, alpha: float, groups: Codes | None = None) -> Estimate:
    """Mean of a prompt's differences ``(n,)``, its interval with two made-up prompts: one with +1, one with -1.

    With ``groups`` the other prompts are summed by cluster and Student's t takes the normal's place. The made-up ones
    stay single prompts: what was never seen gives no sign that it would fill a whole cluster.
    """
    n, g, of, z = len(difference), len(difference), "prompts", float(norm.ppf(1 - alpha))
    numbers = np.arange(n)
    if groups is not None:
        numbers, g, of = groups, int(groups.max()) + 1, "clusters"
        z = float(t.ppf(1 - alpha, max(g - 1, 1)))
    counts = np.append(np.bincount(numbers).astype(np.float64), [1.0, 1.0])
    sums = np.append(np.bincount(numbers, difference), [1.0, -1.0])
    centre = float(sums.sum() / counts.sum())
    half = float(z * np.sqrt(((sums - centre * counts) ** 2).sum()) / counts.sum())
    return Estimate(float(difference.mean()), centre - half, centre + half, g, of)


def count_difference(
    difference: Floats, *, alpha: float, resamples: int, seed: int, groups: Codes | None = None
) -> Estimate:
    """Mean over prompts of a difference of counts ``(n,)``, such as courtesies of b's answer minus those of a's.

    The studentised bootstrap, except where fewer than FEW prompts (and less than half) differ at all. A resample then
    sees these few only: a count that never occurred would be impossible, and three prompts on one side would be proof,
    although chance alone gives that in one of four cases. There the interval is that of :func:`share_difference`: with
    its two pseudo-prompts about five prompts on one side show a difference at alpha = 0.05, as in the sign test
    (2⁻⁵ = 3%). Coverage is measured by benchmarks/rare_counts.py (docs/measured/gate.md).
    """
    if np.count_nonzero(difference) < min(FEW, len(difference) / 2):
        return _adjusted_wald(difference, alpha, groups)
    return mean(difference, alpha=alpha, resamples=resamples, seed=seed, groups=groups)


def quantile(
    values: npt.ArrayLike,
    share: float,
    cluster: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    group: npt.ArrayLike | None = None,
) -> Estimate:
    """Quantile of ``values`` ``(N,)`` with the order-statistic interval, for answers clustered by prompt.

    The binomial ranks (exact for independent answers: David and Nagaraja 2003, section 7.1) with the effective number
    of answers share(1 - share)/var(share below the quantile), as Woodruff (1952) does for clustered samples. When no
    order statistic is high enough for the level, the end is infinite: 59 answers are needed to bound the 95th
    percentile at alpha = 0.05.
    """
    array = np.asarray(values, dtype=np.float64)
    codes, n = prompt_codes(cluster, len(array))
    ordered = np.sort(array)
    value = float(np.quantile(ordered, share))
    below = cluster_means(array <= value, codes, n)
    sums = IndependentSums(below - below.mean(), groups_of(group, codes))
    size = round(sums.effective_size(share, len(array)))
    # the bounds are order statistics of ranks r with P(Binomial(size, share) < r) on the right side of alpha
    low, high = int(binom.ppf(alpha, size, share)), int(binom.ppf(1 - alpha, size, share)) + 1

    def at(rank: int) -> float:
        return float(ordered[min(int(np.ceil(rank / size * len(ordered))), len(ordered)) - 1])

    ends = at(low) if low >= 1 else -np.inf, at(high) if high <= size else np.inf
    return Estimate(value, *ends, sums.clusters, sums.of)


def prompt_codes(cluster: npt.ArrayLike | None, size: int) -> tuple[Codes, int]:
    """Number of each row's prompt and their count; without ``cluster`` each of the ``size`` rows is a prompt."""
    if cluster is None:
        return np.arange(size, dtype=np.int64), size
    (codes,), n = cluster_codes(cluster)
    return codes, n


class IndependentSums:
    """Deviations of prompts from their mean ``(n,)``, summed by what is independent: prompts, or clusters of them."""

    def __init__(self, deviations: Floats, groups: Codes | None) -> None:
        self.of = "prompts" if groups is None else "clusters"
        self.sums = deviations if groups is None else np.bincount(groups, deviations)
        counts = np.ones(len(deviations)) if groups is None else np.bincount(groups)
        self.clusters, self.prompts = len(self.sums), len(deviations)
        self.least = float(counts.sum() ** 2 / (counts**2).sum())  # Kish (1965): clusters, less where sizes differ

    def effective_size(self, p: float, rows: int) -> float:
        """Independent draws that would give a share p the variance of the mean, between the clusters and the rows."""
        n, g = self.prompts, self.clusters
        variance = float((self.sums**2).sum()) * g / ((g - 1) * n**2) if g > 1 else np.inf
        most = rows if g == n else n  # of clusters that all agree, answers to one prompt are no evidence of their own
        return float(np.clip(p * (1 - p) / variance if variance > 0 else np.inf, self.least, most))
