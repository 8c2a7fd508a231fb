"""C1 to C5: causes for which the KL penalty does not hold the policy.

C1 to C4 are causes of a drift, so each of them also asks whether there is one: KL above ``gate.kl_budget`` (for C4:
above the controller's target). Where the penalty held, they are not supported, whatever their other figure is. C5 is
about measurement and stands alone.
"""

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.hypothesis import (
    CARD_ALPHA,
    Finding,
    Hypothesis,
    above,
    all_of,
    any_of,
    at_level,
    below,
    fact,
    missing,
)
from kellet.stats.bootstrap import Estimate, Floats, cluster_means, ratio_of_means
from kellet.stats.format import percent, rounded
from kellet.stats.series import change, growth, late, level, series

CHEAP = 0.25
"""C1: the penalty is cheap when β·KL is below this share of the gain. Where reward grows with √KL (Gao et al. 2023,
the distance of their fits), gain minus β·KL is greatest at one half: a quarter is far from where PPO would stop."""
UNSEEN = 0.1
"""C2: the penalty is out of scale when β·KL spreads less than this share of what the scores spread."""
HIDDEN = 0.5
"""C2: KL is diluted when that of a token shows less than this share of the rise of that of a response; the rest is
length."""
ONCE = 1
"""C2: a controller may lower β above its target this often: KL may be logged a moment before it is steered by."""
DOUBLE = 2.0
"""C2: the reward is out of scale when it counts for more than twice what the labels support."""
CONCENTRATED = 0.5
"""C3: KL is paid in few tokens when the top tenth of them holds more than this share."""
MISSED = 1.25
"""C4: the target is missed when KL is above this multiple of it: beyond the controller's clip."""
AT_CLIP = 0.2
"""C4: the error at which the controller's step is clipped (Ziegler et al. 2019)."""
OFTEN = 0.5
"""C4: the controller sits at its clip when it does so in more than this share of the last third."""
MISREAD = 0.2
"""C5: estimators differ when they are further apart than this share of the full KL."""


def c1_price(evidence: Evidence) -> Hypothesis:
    """KL is cheap: β·KL is a small part of the reward that was bought with it."""
    statement = "Drift is cheap: β·KL is a small part of the reward gain."
    drift = evidence.drift()
    beta = series(evidence.history, "objective/kl_coef")
    share, gain_per_nat = _price(evidence)
    if beta is None or share is None or gain_per_nat is None:
        needs = "objective/kl_coef with reward and KL of each iteration, or with an evaluation that has kl_nats"
        return all_of("C1", statement, [missing("penalty_share_of_gain", needs), drift])
    mean_beta = float(late(beta[0]).mean())
    text = (
        f"Each nat of KL bought {gain_per_nat:.3f} reward on average and cost β = {mean_beta:.3g}: the penalty took "
        f"back {percent(share, 1)} of the gain."
    )
    cheap = below("penalty_share_of_gain", share, CHEAP, text, "more prompts or iterations")
    return all_of("C1", statement, [cheap, drift])


def _price(evidence: Evidence) -> tuple[Estimate | None, float | None]:
    """β·KL as a share of the gain, with the last third's mean β; and the gain per nat."""
    if evidence.gain is None or evidence.gain.low <= 0 or evidence.kl is None:
        return None, None
    beta = series(evidence.history, "objective/kl_coef")
    per_nat = evidence.gain.value / evidence.kl.value if evidence.kl.value > 0 else None
    if beta is None or per_nat is None:
        return None, None
    if evidence.answers and not np.isnan(evidence.answers["candidate"].kl).any():
        a, b = evidence.answers["reference"], evidence.answers["candidate"]
        n, codes = evidence.prompts, np.arange(evidence.prompts)
        gain = cluster_means(b.reward, b.prompt, n) - cluster_means(a.reward, a.prompt, n)
        mean_beta = float(late(beta[0]).mean())
        kl = cluster_means(b.kl, b.prompt, n)
        price = ratio_of_means(kl, gain, codes, codes, **evidence.bootstrap())  # reward per nat: β over it is the share
        if price.low <= 0:
            return None, None
        return Estimate(mean_beta / price.value, mean_beta / price.high, mean_beta / price.low, n), per_nat
    found = series(evidence.history, "objective/reward", evidence.kl_name, "objective/kl_coef")
    if found is None:
        return None, None
    reward, kl, coef = found
    start = float(reward[: max(3, len(reward) // 10)].mean())
    bought = late(reward) - start
    if (bought <= 0).any():
        return None, None
    return level(late(coef * kl) / bought, evidence.alpha), per_nat


def c2_scale(evidence: Evidence) -> Hypothesis:
    """KL is diluted over longer answers, or β·KL is too small beside the spread of the scores."""
    statement = "The penalty is diluted by length or out of scale with the scores."
    drift = evidence.drift()
    if drift.shown is not True:
        return all_of("C2", statement, [drift])
    looks: list[Callable[[Evidence, int], Finding]] = [_dilution, _spread]
    if (unit := evidence.of_card("calibration", "temperature")) is not None:
        looks.append(partial(_unit, unit))
    findings = [look(evidence, len(looks)) for look in looks]
    if evidence.adaptive:
        findings.append(_lowered(evidence))
    return any_of("C2", statement, findings, [drift.words])


def _dilution(evidence: Evidence, parts: int) -> Finding:
    """Over the second half of the run KL of a response rises, and KL of a token shows less than half of the rise.

    On the logarithmic scale, where the two differ by length: hidden = change of log(per token) - ½ log(per response).
    """
    found = series(evidence.history, "objective/kl_per_token", evidence.kl_name)
    if not found:
        return missing("rise_hidden_per_token", "objective/kl_per_token and objective/kl of each iteration")
    per_token, per_response = (values[len(values) // 2 :] for values in found)
    if min(per_token.min(), per_response.min()) <= 0:
        return missing("rise_hidden_per_token", "a KL above zero over the second half of the run")
    level_ = evidence.alpha / parts
    rise, of_token = growth(per_response, level_), growth(per_token, level_)
    hidden = change(np.log(per_token) - HIDDEN * np.log(per_response), level_)
    text = (
        f"Over the second half of the run KL of a response became {rounded(rise)} times itself, that of a token "
        f"{rounded(of_token)} times."
    )
    both = [
        above("per_response_rises", rise, 1.0, text, "more iterations"),
        below("rise_hidden_per_token", hidden, 0.0, text, "more iterations"),
    ]
    value = {"supported": True, "not supported": False, "cannot tell": None}[all_of("", "", both).verdict]
    return Finding("rise_hidden_per_token", text, hidden, 0.0, "below", value, "more iterations")


def _spread(evidence: Evidence, parts: int) -> Finding:
    """Spread of β·KL between responses, as a share of that of the scores."""
    found = series(evidence.history, "objective/kl_penalty_share")
    if not found:
        return missing("penalty_spread", "objective/kl_penalty_share of each iteration")
    share = level(late(found[0]), evidence.alpha / parts)
    text = f"In the last third of the run β·KL spread {percent(share)} of what the scores spread."
    return below("penalty_spread", share, UNSEEN, text, "more iterations")


def _lowered(evidence: Evidence) -> Finding:
    """Whether β was lowered while the KL of a response was above its target, which no controller of that KL does."""
    found = series(evidence.history, evidence.kl_name, "objective/kl_coef", "objective/kl_target")
    if not found:
        return missing("lowered_above_target", "objective/kl_coef and objective/kl_target of each iteration")
    kl, coef, target = found
    over = kl[:-1] > MISSED * target[:-1]
    times = int((over & (coef[1:] < coef[:-1])).sum())
    text = (
        f"KL of a response was above {MISSED:g} times its target in {int(over.sum())} iterations, and β was lowered "
        f"after {times} of them{': it is steered by something else, such as KL of a token' if times > ONCE else ''}."
    )
    return fact("lowered_above_target", times > ONCE, text)


def _unit(card: Estimate, evidence: Evidence, parts: int) -> Finding:
    """Whether a logit of reward is one of preference: what it is to be divided by to predict held-out labels best."""
    slope = at_level(
        Estimate(1 / card.value, 1 / card.high, 1 / card.low, card.clusters), CARD_ALPHA, evidence.alpha / parts
    )
    over = Estimate(card.value, 1 / slope.high, 1 / slope.low if slope.low > 0 else math.inf, card.clusters)
    text = (
        f"Held-out labels are predicted best by the reward divided by {rounded(over)} (card): so much less does β "
        "weigh beside it than in logits of preference."
    )
    return above("reward_over_preference", over, DOUBLE, text, "more held-out pairs")


def c3_where(evidence: Evidence) -> Hypothesis:
    """KL is paid in few tokens: the share of the top tenth."""
    statement = "The KL is paid in few tokens."
    found = series(evidence.history, "objective/kl_top_decile_share")
    drift = evidence.drift()
    if not found:
        needs = "objective/kl_top_decile_share of each iteration"
        return all_of("C3", statement, [missing("kl_top_decile_share", needs), drift])
    share = level(late(found[0]), evidence.alpha)
    text = f"The tenth of the tokens with the highest KL held {percent(share)} of all KL in the last third of the run."
    concentrated = above("kl_top_decile_share", share, CONCENTRATED, text, "more iterations")
    return all_of("C3", statement, [concentrated, drift])


def c4_controller(evidence: Evidence) -> Hypothesis:
    """The controller cannot catch up: KL stays above its target while it sits at its clip or its β still rises."""
    statement = "The controller of β does not catch up."
    needs = "objective/kl, objective/kl_coef and, where it is steered, objective/kl_target of each iteration"
    found = series(evidence.history, evidence.kl_name, "objective/kl_coef", "objective/kl_target")
    if found is None:
        beta = series(evidence.history, "objective/kl_coef")
        if beta is not None and np.ptp(beta[0]) == 0:
            text = f"β was fixed at {beta[0][-1]:.3g}: nothing steers it."
            return any_of("C4", statement, [fact("controller", False, text)])
        return any_of("C4", statement, [missing("controller", needs)])
    kl, coef, target = found
    ratio = level(late(kl / target), evidence.alpha)
    text = f"In the last third of the run KL was {rounded(ratio)} times its target of {target[-1]:g} nats."
    missed = above("kl_over_target", ratio, MISSED, text, "more iterations")
    budget = evidence.config.gate.kl_budget
    setting = (
        f"The target, {target[-1]:g} nats, is {'above' if target[-1] > budget else 'within'} the budget of {budget:g}."
    )
    late_clip, rise = _at_clip(evidence, kl / target), growth(late(coef), evidence.alpha / 2)
    clipped = above(
        "controller_at_clip",
        late_clip,
        OFTEN,
        f"Its error was clipped in {percent(late_clip)} of these iterations.",
        "more iterations",
    )
    rising = above(
        "beta_rises", rise, 1.0, f"β still went to {rounded(rise)} times itself in that time.", "more iterations"
    )
    if target[-1] > budget:
        return any_of("C4", statement, [fact("target_above_budget", True, setting), missed])
    unable = any_of("", "", [clipped, rising])
    if missed.shown is not True:
        return all_of("C4", statement, [missed], [setting])
    return any_of("C4", statement, unable.findings, [missed.words, setting])


def _at_clip(evidence: Evidence, ratio: Floats) -> Estimate:
    """Share of the last third in which the controller's error was clipped, as logged or from KL and target."""
    found = series(evidence.history, "objective/kl_coef_at_clip")
    values = found[0] if found else (np.abs(ratio - 1) >= AT_CLIP) * 1.0
    return level(late(np.asarray(values, dtype=np.float64)), evidence.alpha / 2)


def c5_estimator(evidence: Evidence) -> Hypothesis:
    """The estimator misreads: k1 of the samples and the full KL part, although both estimate the same mean."""
    statement = "The KL estimator misreads what the policy does."
    found = series(evidence.history, "objective/kl_k1", "objective/kl")
    unseen = "Neither sees what the policy has stopped saying: KL of the reference from the policy is not logged."
    if not found:
        return any_of(
            "C5", statement, [missing("k1_against_full", "objective/kl_k1 and objective/kl of each iteration")]
        )
    k1, full = (values[len(values) // 2 :] for values in found)
    if (full <= 0).any():
        return any_of("C5", statement, [fact("k1_against_full", False, "KL was zero in the second half of the run.")])
    gap = level(k1 / full - 1, evidence.alpha)
    text = f"In the second half of the run k1 of the samples differed from the full KL by {percent(gap)} of it."
    size = _magnitude(gap)
    return any_of("C5", statement, [above("k1_against_full", size, MISREAD, text, "more iterations")], [unseen])


def _magnitude(gap: Estimate) -> Estimate:
    """Interval of the absolute value."""
    if gap.low >= 0:
        return gap
    if gap.high <= 0:
        return Estimate(-gap.value, -gap.high, -gap.low, gap.clusters)
    return Estimate(abs(gap.value), 0.0, max(-gap.low, gap.high), gap.clusters)
