"""Win rates from few labels of people and many of a model: prediction-powered inference.

A model judge compares all pairs of answers, people some of them, drawn at random. With Y a person's label, f the
model's for the same pair and F the model's where nobody else judged, each the mean of a prompt's labels,

    θ = mean(Y) + λ·(mean(F) - mean(f))

is right whatever the model's bias is, since f and F share it. λ = 0 is the mean of the people's labels alone. The best
λ makes the interval as short as can be, and no longer than without the model:

    λ = Cov(Y, f) / ((1 + n/N)·Var(f)), within [0, 1]

Source: Angelopoulos, Duchi and Zrnic, PPI++: Efficient Prediction-Powered Inference (2023), section 6, for the mean.
The package ppi-python has this formula too, and brings numba, gdown and scikit-learn along for these ten lines. Here
each prompt adds to mean(Y), mean(f) and mean(F) what it has of each, so that pairs of one prompt, or the prompts of one
cluster, need not be independent. With n labels a correlation below 1/√(n - 2) gains nothing (Mani et al. 2025).

Legend: N = pairs, n = prompts with a person's label. ``alpha`` is one-sided, see kellet/stats/bootstrap.py.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from kellet.stats.bootstrap import Codes, Estimate, Floats, groups_of
from kellet.stats.shares import prompt_codes


class PredictionPowered(NamedTuple):
    """A win rate from both kinds of labels, beside the one from people alone."""

    estimate: Estimate
    """Its ``clusters`` are those with a person's label."""
    alone: Estimate
    """The same without the model (λ = 0)."""
    tuning: float
    """λ."""
    correlation: float
    """Of a person's label with the model's for the same pair; 0 where either is always the same."""
    labelled: int
    """Prompts with a person's label."""
    prompts: int
    """All prompts."""


def prediction_powered(
    label: npt.ArrayLike,
    prediction: npt.ArrayLike,
    prompt: npt.ArrayLike | None = None,
    group: npt.ArrayLike | None = None,
    *,
    alpha: float = 0.05,
    tuning: float | None = None,
) -> PredictionPowered:
    """Mean over prompts of labels ``(N,)`` in [0, 1], NaN where no person judged, helped by ``prediction`` ``(N,)``.

    A prediction that is missing counts as a tie (0.5): any guess will do that does not look at the label. ``group`` is
    the cluster of each pair, where prompts are not independent. ``tuning`` sets λ; None takes the best one.
    """
    y, f = np.asarray(label, np.float64), np.nan_to_num(np.asarray(prediction, np.float64), nan=0.5)
    codes, prompts = prompt_codes(prompt, len(y))
    groups = groups_of(group, codes)
    groups = np.arange(prompts) if groups is None else groups
    of = "prompts" if len(np.unique(groups)) == prompts else "clusters"
    labelled = ~np.isnan(y)
    human, model, rest = _Means(y, labelled, codes), _Means(f, labelled, codes), _Means(f, ~labelled, codes)
    if not human.size:
        nothing = Estimate(math.nan, 0.0, 1.0, 0, of)
        return PredictionPowered(nothing, nothing, 0.0, 0.0, 0, prompts)
    best = _best_tuning(human, model, rest, groups) if tuning is None else tuning
    estimate, alone = (_interval(human, model, rest, groups, weight, alpha, of) for weight in (best, 0.0))
    varied = human.deviations.any() and model.deviations.any()
    correlation = float(np.corrcoef(human.kept, model.kept)[0, 1]) if varied else 0.0
    return PredictionPowered(estimate, alone, best, correlation, human.size, prompts)


def labels_needed(
    distance: float, rate: float, correlation: float, prompts: int, alpha: float, power: float
) -> int | None:
    """Labels of people, one a prompt, that show a win rate of ``rate`` to be ``distance`` away from a limit.

    The best λ leaves rate(1 - rate)/n·(1 - ρ²(1 - n/M)) of the variance, n of M prompts labelled, ρ the correlation of
    the two kinds of labels. It is small enough, (distance/(z_alpha + z_power))², from

        n = (1 - ρ²) / ((distance/z)²/(rate(1 - rate)) - ρ²/M)

    on. None where even labels on all M prompts are too few.
    """
    z = float(norm.ppf(1 - alpha) + norm.ppf(power))
    left = distance**2 / (z**2 * rate * (1 - rate)) - correlation**2 / prompts if 0 < rate < 1 else math.inf
    labels = math.ceil((1 - correlation**2) / left) if left > 0 else prompts + 1
    return max(labels, 1) if labels <= prompts else None


class _Means:
    """Means over the prompts that have a value among the chosen rows; a prompt without one deviates by 0."""

    def __init__(self, values: Floats, chosen: npt.NDArray[np.bool_], codes: Codes) -> None:
        prompts = int(codes.max()) + 1
        counts = np.bincount(codes[chosen], minlength=prompts)
        self.has = counts > 0
        self.size = int(self.has.sum())
        self.of_prompts: Floats = np.bincount(codes[chosen], values[chosen], prompts) / np.maximum(counts, 1)
        self.mean = float(self.kept.mean()) if self.size else 0.0
        self.deviations: Floats = np.where(self.has, self.of_prompts - self.mean, 0.0) / max(self.size, 1)

    @property
    def kept(self) -> Floats:
        """The mean of each prompt that has one."""
        return self.of_prompts[self.has]


def _best_tuning(human: _Means, model: _Means, rest: _Means, groups: Codes) -> float:
    """λ = Σab/Σb², a and b what a cluster adds to mean(Y) and to mean(f) - mean(F).

    Where no prompt has both labelled and other pairs this is the formula at the top, the variance of f taken from the
    labelled and from the other pairs in its two places.
    """
    if not rest.size:
        return 0.0
    a = np.bincount(groups, human.deviations)
    b = np.bincount(groups, model.deviations - rest.deviations)
    square = float((b**2).sum())
    return float(np.clip((a * b).sum() / square, 0, 1)) if square > 0 else 0.0


def _interval(
    human: _Means, model: _Means, rest: _Means, groups: Codes, tuning: float, alpha: float, of: str
) -> Estimate:
    """θ at this λ, with an adjusted Wald interval and Student's t.

    Two made-up prompts are added to the labelled ones, in which people and model disagree: (Y, f) = (1, 0) and (0, 1),
    as Agresti and Coull (1998) and Bonett and Price (2012) do for shares and their differences. Without them 40 labels
    that all agree with the model's would make it infallible. The value is the plain one.
    """
    clusters = len(np.unique(groups[human.has]))
    value = human.mean + tuning * (rest.mean - model.mean)
    if clusters < 2:
        return Estimate(value, 0.0, 1.0, clusters, of)
    size = human.size / clusters  # a made-up cluster has as many prompts as the others
    made_up = np.array([1.0, -tuning])
    total = human.size + 2 * size
    corrected = human.of_prompts - tuning * model.of_prompts
    centre = float((corrected[human.has].sum() + size * made_up.sum()) / total)
    added = np.where(human.has, corrected - centre, 0.0) / total + tuning * rest.deviations
    sums = np.append(np.bincount(groups, added), size * (made_up - centre) / total)
    half = float(t.ppf(1 - alpha, clusters - 1) * np.sqrt((sums**2).sum()))
    centre += tuning * rest.mean
    low, high = np.clip([centre - half, centre + half], 0, 1)
    return Estimate(float(np.clip(value, low, high)), float(low), float(high), clusters, of)
