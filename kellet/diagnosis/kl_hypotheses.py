"""C1 to C5: why the KL penalty did not keep the policy near the reference.

C1 to C4 are causes of a drift, so each of them also needs that there is one: KL above ``gate.kl_budget`` (for C4: above
the controller's target). Where the penalty held the policy they are not supported, whatever their other figures are.
C5 is about measuring KL and does not depend on a drift.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from kellet.diagnosis.evidence import Evidence, scaled
from kellet.diagnosis.hypothesis import (
    Finding,
    Hypothesis,
    above,
    all_of,
    all_shown,
    any_of,
    at_level,
    below,
    fact,
    missing,
)
from kellet.reward.card_text import CARD_ALPHA
from kellet.stats.bootstrap import Estimate, Floats, cluster_means, ratio_of_means
from kellet.stats.format import percent, rounded
from kellet.stats.series import change, exponential, growth, late, level, ratio, series, trend

CHEAP_PENALTY_SHARE = 0.25
"""C1: the penalty is cheap when β·KL is below this share of the gain. Where reward grows with √KL (Gao et al. 2023 fit
it so), gain - β·KL is greatest where β·KL is half the gain; at a quarter PPO would still go on for long."""
FAINT_SPREAD_SHARE = 0.1
"""C2: the penalty is out of scale when the spread of β·KL is below this share of the spread of the scores."""
DILUTED_RISE_SHARE = 0.5
"""C2: per-token KL hides drift when log KL per token rises by less than this share of the rise of log KL per
response; the rest of the rise is length."""
TOLERATED_LOWERINGS = 1
"""C2: this many lowerings of β above the target prove nothing: the KL in the log may be slightly older or newer than
the KL that the controller read."""
OVERSCALED_REWARD = 2.0
"""C2: the reward is out of scale when it must be divided by more than this to be in logits of preference."""
TOP_DECILE_SHARE = 0.5
"""C3: KL is concentrated when the tenth of the tokens with the highest KL holds more than this share of all KL."""
MISSED_TARGET_RATIO = 1.25
"""C4: the target is missed when KL / target is above this, which is beyond the controller's clip at 1.2."""
CONTROLLER_CLIP = 0.2
"""C4: the controller clips its relative error KL/target - 1 at ±this (Ziegler et al. 2019)."""
OFTEN_CLIPPED_SHARE = 0.5
"""C4: the controller works at its clip when its error was clipped in more than this share of the last third."""
ESTIMATOR_GAP = 0.2
"""C5: the estimator misreads KL when k1 and full KL differ by more than this share of the full KL."""


def c1_price(evidence: Evidence) -> Hypothesis:
    """Drift is cheap: β·KL is a small part of the reward that the drift gained.

    The gain of a log that begins late is a part of the whole, and the share is then an upper bound.
    """
    statement = "Drift is cheap: β·KL is a small part of the reward gain."
    drift, name = evidence.drift(), "penalty_share_of_gain"
    price = _price(evidence)
    if price is None:
        needs = "objective/kl_coef with reward and KL of each iteration, or with an evaluation that has kl_nats"
        read = ["objective/kl_coef"] + ([] if evidence.answers else ["objective/reward", evidence.kl_name])
        return all_of("C1", statement, [evidence.lacking(name, needs, *read), drift])
    share, gain_per_nat, mean_beta = price
    least, most = ("at least ", "at most ") if evidence.begins_late and not evidence.answers else ("", "")
    text = (
        f"Each nat of KL bought {least}{gain_per_nat:.3f} reward on average and cost β = {mean_beta:.3g}: the penalty "
        f"took back {most}{percent(share, 1)} of the gain."
    )
    if most:
        share = Estimate(share.value, 0.0, share.high, share.clusters)
    needs = "a log from the first iteration on" if most else "more prompts or iterations"
    cheap = below(name, share, CHEAP_PENALTY_SHARE, text, needs)
    return all_of("C1", statement, [cheap, drift])


def _price(evidence: Evidence) -> tuple[Estimate, float, float] | None:
    """β·KL as a share of the gain, the gain per nat, and the mean β of the last third; None where one is unknown."""
    beta = evidence.logged("objective/kl_coef")
    if beta is None or evidence.gain is None or evidence.gain.low <= 0 or evidence.kl is None or evidence.kl.value <= 0:
        return None
    mean_beta, per_nat = float(late(beta[0]).mean()), evidence.gain.value / evidence.kl.value
    if evidence.kl_of_answers:
        a, b = evidence.answers["reference"], evidence.answers["candidate"]
        n, codes = evidence.prompts, np.arange(evidence.prompts)
        gain = cluster_means(b.reward, b.prompt, n) - cluster_means(a.reward, a.prompt, n)
        kl = cluster_means(b.kl, b.prompt, n)
        gain_per_nat = ratio_of_means(kl, gain, codes, codes, **evidence.bootstrap())
        if gain_per_nat.low <= 0:
            return None
        # β·KL / gain = β / (gain per nat)
        value, low, high = (mean_beta / x for x in (gain_per_nat.value, gain_per_nat.high, gain_per_nat.low))
        return Estimate(value, low, high, n), per_nat, mean_beta
    logged = evidence.logged(evidence.kl_name, "objective/kl_coef")
    if logged is None:
        return None
    kl, coef = logged
    return ratio(level(late(coef * kl), evidence.alpha), evidence.gain), per_nat, mean_beta


def c2_scale(evidence: Evidence) -> Hypothesis:
    """KL per token hides drift because answers grow, or β·KL is out of scale with the scores."""
    statement = "The penalty is diluted by length or out of scale with the scores."
    drift = evidence.drift()
    if drift.shown is not True:
        return all_of("C2", statement, [drift])
    tests: list[Callable[[Evidence, int], Finding]] = [_dilution, _spread]
    if (temperature := evidence.card_estimate("calibration", "temperature")) is not None:
        tests.append(partial(_reward_scale, temperature))
    findings = [test(evidence, len(tests)) for test in tests]
    if evidence.adaptive:
        findings.append(_lowered(evidence))
    return any_of("C2", statement, findings, [drift.sentence])


def _dilution(evidence: Evidence, tests: int) -> Finding:
    """Whether KL per response rises over the second half of the run and KL per token shows less than half of the rise.

    On the logarithmic scale, where the two differ by log length: the statistic, negative where the rise is hidden, is
    the change of log(KL per token) - ½ log(KL per response).
    """
    name, metrics = "rise_hidden_per_token", ("objective/kl_per_token", evidence.kl_name)
    logged = evidence.logged(*metrics)
    if not logged:
        return evidence.lacking(name, "objective/kl_per_token and objective/kl of each iteration", *metrics)
    per_token, per_response = (values[len(values) // 2 :] for values in logged)
    if min(per_token.min(), per_response.min()) <= 0:
        return missing(name, "a KL above zero over the second half of the run")
    alpha = evidence.alpha / tests
    rise, rise_per_token = growth(per_response, alpha), growth(per_token, alpha)
    hidden = change(np.log(per_token) - DILUTED_RISE_SHARE * np.log(per_response), alpha)
    text = (
        f"Over the second half of the run {evidence.logged_kl_words} went to {rounded(rise)} times its level at first, "
        f"that of a token to {rounded(rise_per_token)} times."
    )
    both = [
        above("per_response_rises", rise, 1.0, text, "more iterations"),
        below(name, hidden, 0.0, text, "more iterations"),
    ]
    return Finding(name, text, hidden, 0.0, "below", all_shown(both), "more iterations")


def _spread(evidence: Evidence, tests: int) -> Finding:
    """Standard deviation of β·KL between responses, as a share of that of the scores."""
    logged = evidence.logged("objective/kl_penalty_share")
    if not logged:
        needs = "objective/kl_penalty_share of each iteration"
        return evidence.lacking("penalty_spread", needs, "objective/kl_penalty_share")
    share = level(late(logged[0]), evidence.alpha / tests)
    text = f"In the last third of the run β·KL spread {percent(share)} of what the scores spread."
    return below("penalty_spread", share, FAINT_SPREAD_SHARE, text, "more iterations")


def _lowered(evidence: Evidence) -> Finding:
    """Whether β was lowered while KL per response was above its target: a controller of that KL never does this."""
    metrics = evidence.kl_name, "objective/kl_coef", "objective/kl_target"
    logged = evidence.logged(*metrics)
    if not logged:
        needs = "objective/kl_coef and objective/kl_target of each iteration"
        return evidence.lacking("lowered_above_target", needs, *metrics)
    kl, coef, target = logged
    over = kl[:-1] > MISSED_TARGET_RATIO * target[:-1]
    times = int((over & (coef[1:] < coef[:-1])).sum())
    shown = times > TOLERATED_LOWERINGS
    text = (
        f"{evidence.logged_kl_words} was above {MISSED_TARGET_RATIO:g} times its target in {int(over.sum())} "
        f"iterations, and β was lowered after {times} of them"
    )
    text += ": it is steered by something else, such as KL of a token." if shown else "."
    return fact("lowered_above_target", shown, text)


def _reward_scale(temperature: Estimate, evidence: Evidence, tests: int) -> Finding:
    """Whether rewards are larger than logits of preference: the temperature that fits held-out labels best."""
    # 1/temperature is the slope of a logistic regression, whose estimate is about normally distributed.
    slope = Estimate(1 / temperature.value, 1 / temperature.high, 1 / temperature.low, temperature.clusters)
    slope = at_level(slope, CARD_ALPHA, evidence.alpha / tests)
    highest = 1 / slope.low if slope.low > 0 else math.inf
    over = Estimate(temperature.value, 1 / slope.high, highest, temperature.clusters)
    text = (
        f"Held-out labels are predicted best by the reward divided by {rounded(over)} (card): so much less does β "
        "weigh beside it than in logits of preference."
    )
    return above("reward_over_preference", over, OVERSCALED_REWARD, text, "more held-out pairs")


def c3_where(evidence: Evidence) -> Hypothesis:
    """A few tokens hold most of the KL: the share of the tenth of the tokens with the highest KL."""
    statement = "The KL is paid in few tokens."
    metric = "objective/kl_top_decile_share"
    logged, drift = evidence.logged(metric), evidence.drift()
    if not logged:
        lacking = evidence.lacking("kl_top_decile_share", f"{metric} of each iteration", metric)
        return all_of("C3", statement, [lacking, drift])
    share = level(late(logged[0]), evidence.alpha)
    text = f"The tenth of the tokens with the highest KL held {percent(share)} of all KL in the last third of the run."
    concentrated = above("kl_top_decile_share", share, TOP_DECILE_SHARE, text, "more iterations")
    return all_of("C3", statement, [concentrated, drift])


def c4_controller(evidence: Evidence) -> Hypothesis:
    """The controller is too slow: KL stays above its target while its error is clipped or β still rises.

    Or it is too lax: its target is above the budget.
    """
    statement = "The controller of β does not catch up."
    needs = "objective/kl, objective/kl_coef and, where it is steered, objective/kl_target of each iteration"
    metrics = evidence.kl_name, "objective/kl_coef", "objective/kl_target"
    logged = evidence.logged(*metrics)
    if logged is None:
        beta = evidence.logged("objective/kl_coef")
        steered = evidence.adaptive or evidence.at_fault("objective/kl_target")
        if beta is not None and np.ptp(beta[0]) == 0 and not steered:
            text = f"β was fixed at {beta[0][-1]:.3g}: nothing steers it."
            return any_of("C4", statement, [fact("controller", False, text)])
        return any_of("C4", statement, [evidence.lacking("controller", needs, *metrics)])
    kl, coef, target = logged
    over = level(late(kl / target), evidence.alpha)
    words = evidence.logged_kl_words
    text = f"In the last third of the run {words} was {rounded(over)} times its target of {target[-1]:g} nats."
    missed = above("kl_over_target", over, MISSED_TARGET_RATIO, text, "more iterations")
    budget = evidence.config.gate.kl_budget
    setting = (
        f"The target, {target[-1]:g} nats, is {'above' if target[-1] > budget else 'within'} the budget of {budget:g}."
    )
    if target[-1] > budget:
        return any_of("C4", statement, [fact("target_above_budget", True, setting), missed])
    if missed.shown is not True:
        return all_of("C4", statement, [missed], [setting])
    share = _clipped_share(evidence, kl / target)
    rise = exponential(trend(np.log(late(coef)), evidence.alpha / 2)) if coef.min() > 0 else None
    text = f"Its error was clipped in {percent(share)} of these iterations."
    clipped = above("controller_at_clip", share, OFTEN_CLIPPED_SHARE, text, "more iterations")
    if rise is None:
        return any_of("C4", statement, [clipped, fact("beta_rises", False, "β was zero.")], [missed.sentence, setting])
    text = f"β still went to {rounded(rise)} times itself in that time, by a straight line."
    rising = above("beta_rises", rise, 1.0, text, "more iterations")
    return any_of("C4", statement, [clipped, rising], [missed.sentence, setting])


def _clipped_share(evidence: Evidence, ratio: Floats) -> Estimate:
    """Share of the last third in which the controller's error was clipped: as logged, else from KL / target."""
    logged = evidence.logged("objective/kl_coef_at_clip")
    values = logged[0] if logged else (np.abs(ratio - 1) >= CONTROLLER_CLIP) * 1.0
    return level(late(np.asarray(values, dtype=np.float64)), evidence.alpha / 2)


def c5_estimator(evidence: Evidence) -> Hypothesis:
    """The estimator is off: k1 of the sampled tokens differs from the full KL, although both have the same mean."""
    statement = "The KL estimator misreads what the policy does."
    # A k1 that cannot be is no reason to look away here: against a sound full KL it is what C5 asks about.
    logged = None if evidence.at_fault("objective/kl") else series(evidence.history, "objective/kl_k1", "objective/kl")
    unseen = "Neither sees what the policy has stopped saying: KL of the reference from the policy is not logged."
    if not logged:
        needs = "objective/kl_k1 and objective/kl of each iteration"
        lacking = evidence.lacking("k1_against_full", needs, "objective/kl_k1", "objective/kl")
        return any_of("C5", statement, [lacking])
    k1, full = (values[len(values) // 2 :] for values in logged)
    if (full <= 0).any():
        return any_of("C5", statement, [fact("k1_against_full", False, "KL was zero in the second half of the run.")])
    gap = level(k1 / full - 1, evidence.alpha)
    text = f"In the second half of the run k1 of the samples differed from the full KL by {percent(gap)} of it."
    apart = above("k1_against_full", _magnitude(gap), ESTIMATOR_GAP, text, "more iterations")
    return any_of("C5", statement, [apart], [unseen])


def _magnitude(gap: Estimate) -> Estimate:
    """The estimate of the absolute value."""
    if gap.low >= 0:
        return gap
    if gap.high <= 0:
        return scaled(gap, -1)
    return Estimate(abs(gap.value), 0.0, max(-gap.low, gap.high), gap.clusters)
