"""The gate's criteria that read numbers: each compares two systems' answers and returns its checks.

docs/reference/statistics.md has formulas and sources. The criteria that read text are in kellet/gate/degeneration.py
and kellet/gate/style_shift.py.

Legend: b is the candidate; a is what it is compared with, the reference or the champion.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kellet.config.judgement import Gate
from kellet.errors import DataError
from kellet.evaluation.answers import Answers, pairs, win_rate_by, wins
from kellet.gate.checks import Criterion, Threshold, cannot_tell, check_threshold, comparisons_needed
from kellet.stats.bootstrap import Estimate, mean_difference, paired_means, ratio, ratio_of_means
from kellet.stats.format import in_words
from kellet.stats.shares import quantile
from kellet.stats.win_rate import LengthControlled, length_controlled
from kellet.stats.within_prompt import EqualLengthGain, equal_length_gain

TAIL = 0.95
"""The quantile of KL that the tail budget limits."""


def reward_gain(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Mean paired gain of b's reward over a's is above ``min_gain``."""
    gain = mean_difference(a.reward, b.reward, a.prompt, b.prompt, **gate.intervals)
    threshold = Threshold("mean_gain", gate.min_gain, "above", "reward")
    check = check_threshold(threshold, "mean reward gain", gain, gate.alpha)
    return Criterion("reward_gain", "reward_gain" in gate.required, (check,))


def length_inflation(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Ratio of mean lengths b/a is at most 1 + ``length_tolerance``."""
    change = ratio_of_means(a.length, b.length, a.prompt, b.prompt, **gate.intervals)
    threshold = Threshold("length_ratio", 1 + gate.length_tolerance, "at most", "ratio")
    check = check_threshold(threshold, "length ratio to the reference", change, gate.alpha)
    return Criterion("length_inflation", "length_inflation" in gate.required, (check,))


def equal_length(
    a: Answers, b: Answers, slope_from: Answers, gate: Gate
) -> tuple[EqualLengthGain | None, LengthControlled]:
    """Split the gain by the within-prompt length slope of ``slope_from``, and model the win rate at equal length.

    The split is None where there is no such slope.
    """
    split = equal_length_gain(
        (a.reward, b.reward),
        (a.length, b.length),
        (a.prompt, b.prompt),
        (slope_from.reward, slope_from.length, slope_from.prompt),
        **gate.intervals,
    )
    rows_a, rows_b = pairs(a, b)
    preference = wins(a.reward[rows_a], b.reward[rows_b])
    model = length_controlled(preference, a.length[rows_a], b.length[rows_b], a.prompt[rows_a], alpha=gate.alpha)
    return split, model


def controlled_gain(split: EqualLengthGain | None, model: LengthControlled, gate: Gate) -> Criterion:
    """Test that the gain at equal length is above 0 and the win rate at equal length is above one half.

    The first uses the within-prompt length slope, the second the logistic model (:func:`equal_length`). Where the
    systems' lengths barely overlap both would be extrapolations, so neither is decided.
    """
    note = ""
    gain_wanted = Threshold("equal_length_gain", 0.0, "above", "reward")
    rate_wanted = Threshold("equal_length_win_rate", 0.5, "above", "win rate")
    if split is None:
        why = "the length slope needs two reference answers of different length on ten prompts (evaluation.samples)"
        gain = cannot_tell(gain_wanted, why)
    elif not model.identified:
        gain = cannot_tell(gain_wanted, model.reason)
    else:
        gain = check_threshold(gain_wanted, "gain at equal length", split.remaining, gate.alpha)
    if split is not None:
        slope, explained = split.slope, split.explained
        note = (
            f"Within prompt, one more token is worth {slope.value:.3g} [{slope.low:.3g}, {slope.high:.3g}] reward in "
            f"the reference's answers; at that price the change of length is worth {explained.value:.2f} "
            f"[{explained.low:.2f}, {explained.high:.2f}]"
        )
        note += f", {in_words(split.share, 'share')} of the gain." if split.share.finite else "."
    if model.controlled is None or model.interval is None:
        rate = cannot_tell(rate_wanted, model.reason)
    else:
        estimate = Estimate(model.controlled, *model.interval, model.clusters)
        rate = check_threshold(rate_wanted, "win rate by reward at equal length", estimate, gate.alpha)
    return Criterion("controlled_gain", "controlled_gain" in gate.required, (gain, rate), note)


def kl_budget(b: Answers, gate: Gate) -> Criterion:
    """Mean full KL of b's responses is at most ``kl_budget``, its 95th percentile at most ``kl_tail_budget``."""
    required = "kl_budget" in gate.required
    mean_wanted = Threshold("mean_kl", gate.kl_budget, "at most", "nats")
    tail_wanted = Threshold("tail_kl", gate.kl_tail_budget, "at most", "nats")
    why = _kl_missing(b)
    if why:
        checks = (cannot_tell(mean_wanted, why), cannot_tell(tail_wanted, why))
        return Criterion("kl_budget", required, () if np.isnan(b.kl).all() and not required else checks)
    average = mean_difference(np.zeros(len(b.kl)), b.kl, b.prompt, b.prompt, **gate.intervals)
    tail = quantile(b.kl, TAIL, b.prompt, alpha=gate.alpha)
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
    price = ratio(np.column_stack([kl, rewards[:, 1] - rewards[:, 0]]), **gate.intervals)
    check = check_threshold(threshold, "reward gain per nat", price, gate.alpha)
    return Criterion("kl_price", required, (check,))


def _kl_missing(b: Answers) -> str:
    """Why KL cannot be compared; empty when every row has it."""
    unknown = int(np.isnan(b.kl).sum())
    if not unknown:
        return ""
    return f"kl_nats is missing in {unknown:,} of {len(b.kl):,} candidate rows; give the full KL of each response"


def independent_judge(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Win rate of b over a by the column ``gate.judge`` is above 0.5 - ``judge_margin`` (non-inferiority)."""
    required = "independent_judge" in gate.required
    name, limit = gate.judge, 0.5 - gate.judge_margin
    threshold = Threshold("win_rate", limit, "above", "win rate")
    missing = np.full(len(b.reward), np.nan)
    sizes = [comparisons_needed(rate - limit, rate, gate.alpha) for rate in (0.5, 0.6) if rate > limit]
    sizes_note = (
        f"About {sizes[0]:,} judged prompts are enough where the judge is indifferent, {sizes[-1]:,} where it prefers "
        "the candidate in 60%."
        if len(sizes) > 1
        else ""
    )
    if np.isnan(a.judges.get(name, missing)).all() and np.isnan(b.judges.get(name, missing)).all():
        return Criterion("independent_judge", required, (), sizes_note)
    rate = win_rate_by(a, b, name, gate).get("win_rate")
    note = ""
    if name == "judge_reward":
        note = "judge_reward is a second reward model, on other pairs of the same labels: it shares their bias."
    elif name not in ("judge_human", "judge_gold"):
        note = f"If {name} is a model trained on the same labels, it shares their bias."
    if rate is None:
        why = f"no prompt and sample has a {name} score for both systems"
        check = cannot_tell(threshold, why)
        return Criterion("independent_judge", required, (check,), f"{sizes_note} {note}".strip())
    subject = f"win rate by {name}"
    if gate.judge_error:
        subject += f", corrected for the {gate.judge_error:.0%} that it gets wrong"
    check = check_threshold(threshold, subject, rate, gate.alpha)
    return Criterion("independent_judge", required, (check,), note)


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
        gain = mean_difference(a.reward - a.reward_std, b.reward - b.reward_std, a.prompt, b.prompt, **gate.intervals)
        subject = "reward gain less the rise of the ensemble's disagreement"
        checks.append(check_threshold(gain_wanted, subject, gain, gate.alpha))
        change = ratio_of_means(a.reward_std, b.reward_std, a.prompt, b.prompt, **gate.intervals)
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
