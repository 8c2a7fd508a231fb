"""Calibration: whether a preference that is predicted at 70% is right 70% of the time.

A pair's confidence is the larger of P(chosen) and P(rejected) = 1 - P(chosen); it is right when the chosen one has it.
Confidence lies in [0.5, 1]; bins hold equal numbers of pairs. Legend: P held-out pairs, ``gap`` (P,) their logits.

Sources: Guo et al. 2017 (temperature, expected calibration error); Bröcker and Smith 2007 (what a calibrated forecast
of the same confidences would show by chance); Liang and Zeger 1986 (variance of a maximum likelihood with clusters).
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import norm

from kellet.stats.bootstrap import Estimate, Floats, cluster_codes, cluster_means, mean
from kellet.stats.resampling import resampled_means
from kellet.stats.win_rate import win_rate

BINS = 10
"""Bins at most; fewer when a bin would hold under MIN_PAIRS."""
MIN_PAIRS = 20
MAX_LOG_TEMPERATURE = 3.0


def log_loss(gap: Floats, temperature: float = 1.0) -> float:
    """Mean of -log σ(gap/T), nats per pair; log 2 = 0.693 is a coin."""
    return float(np.logaddexp(0, -gap / temperature).mean())


def best_temperature(gap: Floats) -> float:
    """The T in [e⁻³, e³] with the smallest log loss; above 1 the model is over-confident."""
    limits = (-MAX_LOG_TEMPERATURE, MAX_LOG_TEMPERATURE)
    best = minimize_scalar(lambda log_t: log_loss(gap, float(np.exp(log_t))), bounds=limits, method="bounded")
    return float(np.exp(best.x))


def temperature(gap: Floats, prompts: npt.ArrayLike, *, alpha: float) -> Estimate:
    """The best temperature with its interval: Wald's of the slope 1/T, prompts as clusters; it may have no upper end.

    With z = gap/T a pair's score in T·(1/T) is u = z·σ(-z) and its information z²·σ(z)·σ(-z):

        h² = Σ_prompts (Σ u)² / (Σ z²·σ(z)·σ(-z))²      1/T·(1 ± z_alpha·h)

    Wald's interval of log T is worse: for T = 2.5 and 200 pairs its ends missed in 0.2% and 7.5% of 600 draws.
    """
    (codes,), n = cluster_codes(prompts)
    best = best_temperature(gap)
    if abs(np.log(best)) > MAX_LOG_TEMPERATURE - 0.01:
        return Estimate(best, 0.0, float("inf"), n)
    z = gap / best
    slopes = np.bincount(codes, z * expit(-z), n)
    half = norm.isf(alpha) * np.sqrt((slopes**2).sum()) / (z**2 * expit(z) * expit(-z)).sum()
    return Estimate(best, float(best / (1 + half)), float(best / (1 - half)) if half < 1 else float("inf"), n)


def overconfidence(gap: Floats, prompts: npt.ArrayLike, *, alpha: float, resamples: int, seed: int) -> Estimate:
    """Mean of confidence minus correctness: above 0 the model is surer than it is right."""
    confidence, right, _ = _binned(gap)
    (codes,), n = cluster_codes(prompts)
    return mean(cluster_means(confidence - right, codes, n), alpha=alpha, resamples=resamples, seed=seed)


def calibration(gap: Floats, prompts: npt.ArrayLike, *, alpha: float, resamples: int, seed: int) -> dict[str, Any]:
    """Log loss, temperature, expected calibration error and the reliability diagram of σ(gap), as JSON-able values."""
    error, by_chance = expected_error(gap, prompts, alpha=alpha, resamples=resamples, seed=seed)
    best = temperature(gap, prompts, alpha=alpha)
    excess = overconfidence(gap, prompts, alpha=alpha, resamples=resamples, seed=seed)
    return {
        "log_loss": log_loss(gap),
        "temperature": best.to_dict(),
        "log_loss_at_temperature": log_loss(gap, best.value),
        "overconfidence": excess.to_dict(),
        "expected_error": error.to_dict(),
        "expected_error_by_chance": by_chance,
        "reliability": reliability(gap, prompts, alpha=alpha),
    }


def expected_error(
    gap: Floats, prompts: npt.ArrayLike, *, alpha: float, resamples: int, seed: int
) -> tuple[Estimate, float]:
    """Expected calibration error Σ_bins |d_b|, d_b = (right - confidence summed over bin b)/P, and its chance level.

    A sum of absolute values is positive by noise alone, and a resample is noisier still, so the plain bootstrap would
    find no model calibrated. With e_b the noise of d_b, |d_b| lies between |δ_b| + sign(δ_b)·e_b and |δ_b| + |e_b|
    whatever the true δ_b, so these bounds hold, the lower one with room to spare:

        low = value - quantile(1 - alpha) of Σ|e*_b|        high = value + quantile(1 - alpha) of -Σ sign(d_b)·e*_b

    e* from resampled prompts; the first quantile is at least that of a calibrated model with the same confidences. The
    chance level is that model's mean error.
    """
    confidence, right, bins = _binned(gap)
    (codes,), n = cluster_codes(prompts)
    one_bin = np.eye(int(bins.max()) + 1)[bins]
    rows = np.zeros((n, one_bin.shape[1]))
    np.add.at(rows, codes, (right - confidence)[:, None] * one_bin * n / len(gap))
    d = rows.mean(axis=0)
    value = float(np.abs(d).sum())
    noise = np.concatenate(list(resampled_means(rows - d, resamples, seed)))
    least = float(np.quantile(-(noise @ np.sign(d)), 1 - alpha))
    rng = np.random.default_rng(seed)
    labels = rng.random((500, len(gap))) < confidence
    calibrated = np.abs((labels - confidence) @ one_bin).sum(axis=1) / len(gap)
    most = max(float(np.quantile(sums, 1 - alpha)) for sums in (np.abs(noise).sum(axis=1), calibrated))
    return Estimate(value, max(0.0, value - most), value + least, n), float(calibrated.mean())


def reliability(gap: Floats, prompts: npt.ArrayLike, *, alpha: float) -> list[dict[str, Any]]:
    """For each bin of confidence: pairs, mean confidence, and the share that was right with its interval."""
    confidence, right, bins = _binned(gap)
    names = np.asarray(prompts)
    rows = []
    for number in range(int(bins.max()) + 1):
        inside = bins == number
        share = win_rate(right[inside], names[inside], alpha=alpha)
        pairs, mean_confidence = int(inside.sum()), float(confidence[inside].mean())
        rows.append({"pairs": pairs, "confidence": mean_confidence, "right": share.to_dict()})
    return rows


def _binned(gap: Floats) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """(confidence, right, bin), each (P,); a tie is right by half."""
    confidence, right = expit(np.abs(gap)), (np.sign(gap) + 1) / 2
    count = int(np.clip(len(gap) // MIN_PAIRS, 1, BINS))
    bins = np.empty(len(gap), dtype=np.int64)
    bins[np.argsort(confidence, kind="stable")] = np.arange(len(gap)) * count // len(gap)
    return confidence, right, bins
