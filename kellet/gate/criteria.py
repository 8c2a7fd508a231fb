"""The gate's criteria that read numbers: each compares two systems' answers and returns its checks.

docs/reference/statistics.md has formulas and sources. The criteria that read text are in kellet/gate/degeneration.py
and kellet/gate/style_shift.py.

Legend: b is the candidate; a is what it is compared with, the reference or the champion.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from kellet.config.judgement import Gate
from kellet.errors import DataError
from kellet.evaluation.answers import Answers, intervals, pairs, wins
from kellet.gate.checks import Criterion, Threshold, cannot_tell, check_threshold
from kellet.stats.bootstrap import Estimate, groups_of, mean_difference, paired_means, ratio, ratio_of_means
from kellet.stats.format import in_words, number
from kellet.stats.local_regression import MIN_CLUSTERS, LocalGain, local_gain
from kellet.stats.shares import quantile
from kellet.stats.win_rate import LengthControlled, length_controlled
from kellet.stats.within_prompt import EqualLengthGain, equal_length_gain

TAIL = 0.95
"""The quantile of KL that the tail budget limits."""


def reward_gain(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Mean paired gain of b's reward over a's is above ``min_gain``."""
    gain = mean_difference(a.reward, b.reward, a.prompt, b.prompt, **intervals(a, gate))
    threshold = Threshold("mean_gain", gate.min_gain, "above", "reward")
    check = check_threshold(threshold, "mean reward gain", gain, gate.alpha)
    return Criterion("reward_gain", "reward_gain" in gate.required, (check,))


def length_inflation(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Ratio of mean lengths b/a is at most 1 + ``length_tolerance``."""
    change = ratio_of_means(a.length, b.length, a.prompt, b.prompt, **intervals(a, gate))
    threshold = Threshold("length_ratio", 1 + gate.length_tolerance, "at most", "ratio")
    check = check_threshold(threshold, "length ratio to the reference", change, gate.alpha)
    return Criterion("length_inflation", "length_inflation" in gate.required, (check,))


class EqualLength(NamedTuple):
    """Three views of the gain at equal length; the first decides whatever the price of length is."""

    local: LocalGain | None
    """By the pairs of about the same length; None where there are too few."""
    split: EqualLengthGain | None
    """By a straight line; None where no two answers of ``slope_from`` to a prompt differ in length."""
    model: LengthControlled
    """The win rate by the reward, by a logistic model."""
    bandwidth: float
    """Tokens that the lengths of a pair of ``local`` may differ by."""


def equal_length(a: Answers, b: Answers, slope_from: Answers, gate: Gate, curve: bool = False) -> EqualLength:
    """Estimate the gain at equal length by local regression, by the length slope of ``slope_from``, and as a win rate.

    The bandwidth is ``length_bandwidth`` times the mean length of both systems, and at least one token. ``curve`` asks
    for the picture's.
    """
    split = equal_length_gain(
        (a.reward, b.reward),
        (a.length, b.length),
        (a.prompt, b.prompt),
        (slope_from.reward, slope_from.length, slope_from.prompt),
        **intervals(a, gate),
    )
    rows_a, rows_b = pairs(a, b)
    preference = wins(a.reward[rows_a], b.reward[rows_b])
    group = None if a.group is None else a.group[rows_a]
    lengths = a.length[rows_a], b.length[rows_b]
    model = length_controlled(preference, *lengths, a.prompt[rows_a], alpha=gate.alpha, group=group)
    bandwidth = max(1.0, gate.length_bandwidth * float(a.length.mean() + b.length.mean()) / 2)
    sides = (a.reward, b.reward), (a.length, b.length), (a.prompt, b.prompt)
    local = local_gain(*sides, bandwidth, alpha=gate.alpha, group=a.group, curve=curve)
    return EqualLength(local, split, model, bandwidth)


def controlled_gain(equal: EqualLength, gate: Gate) -> Criterion:
    """Test that the gain at equal length is above 0 and the win rate at equal length is above one half.

    ``matched_length_gain`` compares answers of about the same length and holds whatever the price of length is. The
    other two assume a shape: ``equal_length_gain`` a straight line, ``equal_length_win_rate`` a logistic curve. Where
    the systems' lengths barely overlap these would be extrapolations and the matched pairs are too special, so nothing
    is decided. The straight line needs two answers to a prompt; without it the other two are enough.
    """
    required, note = "controlled_gain" in gate.required, ""
    local, split, model = equal.local, equal.split, equal.model
    matched_wanted = Threshold("matched_length_gain", 0.0, "above", "reward")
    gain_wanted = Threshold("equal_length_gain", 0.0, "above", "reward")
    rate_wanted = Threshold("equal_length_win_rate", 0.5, "above", "win rate")
    checks = []
    if local is None:
        why = (
            f"fewer than {MIN_CLUSTERS} prompts have an answer of each system whose lengths differ by less than "
            f"{equal.bandwidth:.1f} tokens; give more prompts or more answers to each (rows of the file; "
            "evaluation.prompts and evaluation.samples of a retraining)"
        )
        checks.append(cannot_tell(matched_wanted, why))
    elif not model.identified:  # the few pairs that are about equally long are those that the change left as they were
        checks.append(cannot_tell(matched_wanted, model.reason))
    else:
        subject = f"gain among {local.pairs:,} pairs whose lengths differ by less than {local.bandwidth:.1f} tokens"
        checks.append(check_threshold(matched_wanted, subject, local.gain, gate.alpha))
    if split is not None and not model.identified:
        checks.append(cannot_tell(gain_wanted, model.reason))
    elif split is not None:
        checks.append(check_threshold(gain_wanted, "gain at equal length", split.remaining, gate.alpha))
    if split is not None:
        slope, explained = split.slope, split.explained
        note = (
            f"Within prompt, one more token is worth {slope.value:.3g} [{slope.low:.3g}, {slope.high:.3g}] reward in "
            f"the reference's answers; at that price the change of length is worth {number(explained.value, 'reward')} "
            f"[{number(explained.low, 'reward')}, {number(explained.high, 'reward')}]"
        )
        note += f", {in_words(split.share, 'share')} of the gain." if split.share.finite else "."
    if model.controlled is None or model.interval is None:
        checks.append(cannot_tell(rate_wanted, model.reason))
    else:
        estimate = Estimate(model.controlled, *model.interval, model.clusters)
        checks.append(check_threshold(rate_wanted, "win rate by reward at equal length", estimate, gate.alpha))
    if not required:
        checks = [check for check in checks if check.estimate is not None]
    return Criterion("controlled_gain", required, tuple(checks), note)


def kl_budget(b: Answers, gate: Gate) -> Criterion:
    """Mean full KL of b's responses is at most ``kl_budget``, its 95th percentile at most ``kl_tail_budget``."""
    required = "kl_budget" in gate.required
    mean_wanted = Threshold("mean_kl", gate.kl_budget, "at most", "nats")
    tail_wanted = Threshold("tail_kl", gate.kl_tail_budget, "at most", "nats")
    why = _kl_missing(b)
    if why:
        checks = (cannot_tell(mean_wanted, why), cannot_tell(tail_wanted, why))
        return Criterion("kl_budget", required, () if np.isnan(b.kl).all() and not required else checks)
    average = mean_difference(np.zeros(len(b.kl)), b.kl, b.prompt, b.prompt, **intervals(b, gate))
    tail = quantile(b.kl, TAIL, b.prompt, alpha=gate.alpha, group=b.group)
    needed = None
    if not np.isfinite(
        tail.high
    ):  # no order statistic is high enough for a bound: that takes log(alpha)/log(0.95) answers
        needed = int(np.ceil(np.log(gate.alpha) / np.log(TAIL)))
    return Criterion(
        "kl_budget",
        required,
        (
            check_threshold(mean_wanted, "mean KL of a response", average, gate.alpha),
            check_threshold(tail_wanted, "95th percentile of KL", tail, gate.alpha, needed),
        ),
    )


def kl_price(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Mean reward gain divided by mean KL (nats) is above ``kl_price_floor``."""
    required = "kl_price" in gate.required
    threshold = Threshold("gain_per_nat", gate.kl_price_floor, "above", "reward per nat")
    why = _kl_missing(b)
    if why:
        check = cannot_tell(threshold, why)
        return Criterion("kl_price", required, () if np.isnan(b.kl).all() and not required else (check,))
    rewards = paired_means(a.reward, b.reward, a.prompt, b.prompt)
    kl = paired_means(b.kl, b.kl, b.prompt, b.prompt)[:, 0]
    columns = np.column_stack([kl, rewards[:, 1] - rewards[:, 0]])
    price = ratio(columns, **gate.intervals, groups=groups_of(a.group, a.prompt))
    check = check_threshold(threshold, "reward gain per nat", price, gate.alpha)
    return Criterion("kl_price", required, (check,))


def _kl_missing(b: Answers) -> str:
    """Why KL cannot be compared; empty when every row has it."""
    unknown = int(np.isnan(b.kl).sum())
    if not unknown:
        return ""
    return f"kl_nats is missing in {unknown:,} of {len(b.kl):,} candidate rows; give the full KL of each response"


def reward_trust(a: Answers, b: Answers, gate: Gate, card: Mapping[str, Any] | None = None) -> Criterion:
    """Test that the gain exceeds the rise of the ensemble's disagreement, and that the reward model beats length alone.

    The first check: the mean gain of (reward - standard deviation between the members) is above 0, as in Coste et al.
    2024, who penalise disagreement; it needs ``reward_std`` in every row. The second: the card's lift over 'always the
    longer one' is above 0. Without ``reward_std`` and card there are no checks. Raises DataError for a card without a
    lift.
    """
    required = "reward_trust" in gate.required
    gain_wanted = Threshold("pessimistic_gain", 0.0, "above", "reward")
    checks, note = [], ""
    if not np.isnan(np.concatenate([a.reward_std, b.reward_std])).any():
        gain = mean_difference(
            a.reward - a.reward_std, b.reward - b.reward_std, a.prompt, b.prompt, **intervals(a, gate)
        )
        subject = "reward gain less the rise of the ensemble's disagreement"
        checks.append(check_threshold(gain_wanted, subject, gain, gate.alpha))
        change = ratio_of_means(a.reward_std, b.reward_std, a.prompt, b.prompt, **intervals(a, gate))
        note = f"The ensemble's disagreement is {in_words(change, 'ratio')} times that on the reference's answers."
    elif not np.isnan(np.concatenate([a.reward_std, b.reward_std])).all():
        why = "reward_std is missing in some rows; give it for every answer of candidate and reference"
        checks.append(cannot_tell(gain_wanted, why))
    if card is not None:
        lift = _lift(card)
        subject = "the reward model's lift over 'always the longer one'"
        checks.append(check_threshold(Threshold("lift", 0.0, "above", "share"), subject, lift, gate.alpha))
    return Criterion("reward_trust", required, tuple(checks), note)


def _lift(card: Mapping[str, Any]) -> Estimate:
    """Read the lift from a reward model's card."""
    try:
        fields = card["lift"]
        low, high = (np.nan if end is None else float(end) for end in fields["interval"])
        lift = Estimate(float(fields["value"]), low, high, int(fields["prompts"]))
    except (KeyError, TypeError, ValueError) as error:
        wanted = "a reward model's card.json has lift: {value, interval: [low, high], prompts}"
        raise DataError(f"the card's lift cannot be read ({type(error).__name__}: {error}); {wanted}") from error
    if lift.low > lift.value or lift.value > lift.high:
        raise DataError(f"the card's lift cannot be read: {lift.value:g} lies outside [{low:g}, {high:g}]; train again")
    return lift
