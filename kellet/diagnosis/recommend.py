"""Two recommended changes for the supported hypotheses, each with a patch of the parameters, its effect, its price.

Expected effects are arithmetic on this run's figures and say so; ``flows/remedies`` measures them. Two rules of thumb
are used. Reward grows with √KL along a run (Gao et al. 2023 fit it in d = √KL), so holding KL at a target T keeps about
√(T/KL) of the gain, and the β at which reward - β·KL is greatest there is gain / (2·√(KL·T)). And a controller
overshoots, so its target is at most a quarter of the budget: twice the target, and the tail of KL, are then still
within it.

No recommendation makes the penalty of the run weaker: target and horizon of the controller never go up, β never goes
down. The exception is the one that uses the room left in the budget: it raises the target, says so, and is made only
where no hypothesis is supported and the reward model was judged and cleared (kellet/diagnosis/grounds.py). Where nobody
could judge it, the first recommendation is to bring what would.
"""

import math
from collections.abc import Mapping
from typing import Any

from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.grounds import bring_answers, cleared, judged, log_missing, repair_figures, unjudged
from kellet.diagnosis.hypothesis import Hypothesis, Recommendation
from kellet.stats.bootstrap import Estimate
from kellet.stats.format import percent, rounded
from kellet.stats.series import late

TARGET_SHARE = 0.25
"""Largest target of the controller, as a share of ``gate.kl_budget``."""
MISSED_SHARE = 0.5
"""Where the target was at most TARGET_SHARE and KL still left the budget, the new target is this share of the old one:
β falls while KL is below the target, so with a lower target it stops falling sooner."""
HORIZON_BATCHES = 8
"""Longest horizon of the controller, in batches: a clipped error then moves β by 2.5% an iteration."""


def recommend(evidence: Evidence, hypotheses: Mapping[str, Hypothesis]) -> tuple[Recommendation, Recommendation]:
    """The first two changes that apply, in order of what they would repair: reward, penalty, then PPO and the rest."""
    supported = {id_ for id_, item in hypotheses.items() if item.supported}
    repair = repair_figures(evidence)
    # Two are made: where figures are to be repaired, a KL over its budget has the second place.
    first_answers = unjudged(hypotheses) and not (repair and evidence.drift().shown)
    ranked = [
        repair,
        bring_answers(evidence) if first_answers else None,
        _length_control(evidence, supported),
        _calibrate(hypotheses),
        _hold_kl(evidence, supported),
        _distrust(evidence, supported),
        _smaller_steps(evidence, supported),
        _use_room(evidence, hypotheses),
        None if first_answers else bring_answers(evidence),
        log_missing(evidence, hypotheses),
        _look_closer(evidence),
        _more_labels(evidence),
    ]
    first, second, *_ = [item for item in ranked if item is not None]
    return first, second


def _length_control(evidence: Evidence, supported: set[str]) -> Recommendation | None:
    control = (evidence.card or {}).get("length_control", evidence.config.reward_model.length_control)
    because = tuple(sorted(supported & {"A1", "A2", "A4"}))
    if control != "none" or "A2" not in supported:
        return None
    effect = "The reward model no longer pays for length as such; expect answers about as long as the reference's"
    if evidence.lengthening is not None:
        ratio = evidence.lengthening
        change = Estimate(ratio.value - 1, ratio.low - 1, ratio.high - 1, ratio.clusters)
        effect += f" (length is now {percent(change)} above it)"
    effect += ", and a smaller gain of reward: what length was worth of it is not earned any more."
    return Recommendation(
        "Explain the labels' length taste away in the reward model",
        {"reward_model.length_control": "covariate"},
        effect,
        "Where honest quality goes with length, its linear part is lost too; other styles stay as they are, and the "
        "reward alone predicts these labels worse, because they do like length.",
        because,
    )


def _calibrate(hypotheses: Mapping[str, Hypothesis]) -> Recommendation | None:
    scale = {item.name: item for item in hypotheses["C2"].findings}.get("reward_over_preference")
    if scale is None or scale.estimate is None or not scale.shown:
        return None
    over = scale.estimate
    return Recommendation(
        "Bring the reward back to logits of preference",
        {"reward_model.calibrate": True},
        f"Rewards are divided by about {over.value:.2g}, so that beside them a nat of KL costs {over.value:.2g} times "
        "what it does now: a smaller gain is worth its drift.",
        "One number fitted on the held-out pairs, whose own figures are a little kind then; β and every threshold in "
        "reward units mean something else than before.",
        ("C2",),
    )


def _hold_kl(evidence: Evidence, supported: set[str]) -> Recommendation | None:
    because = tuple(sorted(supported & {"B2", "C1", "C2", "C4"}))
    kl, gain = evidence.kl, evidence.gain
    if kl is None or evidence.drift().shown is not True:
        return None
    settings, batch = evidence.config.policy.kl, evidence.config.policy.batch_size
    target, reason = _target(evidence)
    beta = _beta(evidence, target)
    patch: dict[str, Any] = {
        "policy.kl.controller": _controller(evidence),
        "policy.kl.target": target,
        "policy.kl.horizon": min(settings.horizon, float(HORIZON_BATCHES * batch)),
    }
    if beta is not None:
        patch["policy.kl.init_coef"] = beta
        if settings.controller == "dual" and beta > settings.max_coef:
            patch["policy.kl.max_coef"] = beta
    effect = f"KL near {_nats(target)} a response instead of {rounded(kl, 1)}."
    if gain is not None and gain.low > 0 and (evidence.answers or not evidence.begins_late):
        left = gain.value * math.sqrt(target / kl.value)
        effect += f" If reward goes with √KL, about {left:.2f} of the gain of {gain.value:.2f} remains."
    what = "Tighten the controller of β" if _steered(evidence) else "Steer β to a target instead of fixing it"
    return Recommendation(
        f"{what}: target {_nats(target)}, β from {'no less than the run had' if beta is None else f'{beta:g}'}",
        patch,
        effect,
        "Less reward, and whatever honest gain needs more KL than the target allows; the controller overshoots before "
        f"it holds, which is why the target is {reason}.",
        because,
    )


def _target(evidence: Evidence) -> tuple[float, str]:
    """Target for a run that is over its budget, never above its present one, and how it was chosen, in words."""
    current, most = _current_target(evidence), TARGET_SHARE * evidence.config.gate.kl_budget
    if current > most:
        return min(_round(most), current), "no more than a quarter of the budget"
    if _steered(evidence):
        return _round(MISSED_SHARE * current), f"half of the {_nats(current)} that the run was steered to and missed"
    return current, f"no more than the {_nats(current)} that the parameters have"


def _current_target(evidence: Evidence) -> float:
    """The target in the history; where there is none, that of the parameters."""
    logged = evidence.logged("objective/kl_target")
    return float(logged[0][-1]) if logged else evidence.config.policy.kl.target


def _steered(evidence: Evidence) -> bool:
    """Whether a controller set β: by the history; without one, by the parameters."""
    return evidence.adaptive or (not evidence.history and evidence.config.policy.kl.controller != "fixed")


def _controller(evidence: Evidence) -> str:
    """The dual controller, the quicker one, where the run has it; else the adaptive one."""
    return "dual" if evidence.config.policy.kl.controller == "dual" else "adaptive"


def _beta(evidence: Evidence, target: float) -> float | None:
    """The β at which reward - β·KL is greatest at the target KL; without a gain, twice the run's last β.

    Never below the run's first or last β. None where neither gain nor β is known: the log is then of a run whose
    parameters these need not be.
    """
    kl, gain = evidence.kl, evidence.gain
    gained = kl is not None and gain is not None and gain.low > 0
    beta = evidence.logged("objective/kl_coef")
    if beta is None and evidence.history and not gained:
        return None
    last = float(late(beta[0]).mean()) if beta else evidence.config.policy.kl.init_coef
    first = float(beta[0][0]) if beta else last
    if kl is None or gain is None or gain.low <= 0:
        return max(_round(2 * last), first)
    return max(_round(max(gain.value / (2 * math.sqrt(kl.value * target)), last)), first)


def _distrust(evidence: Evidence, supported: set[str]) -> Recommendation | None:
    because = tuple(sorted(supported & {"A3", "A5"}))
    if not because:
        return None
    iterations = max(1, evidence.config.policy.iterations // 2)
    return Recommendation(
        "Stop sooner, and label pairs of this policy's own answers before the next reward model",
        {"policy.iterations": iterations},
        f"{iterations} instead of {evidence.config.policy.iterations} iterations: the policy asks the reward model "
        "less about answers that nobody has labelled.",
        "Less of every gain, the honest one included; labels cost people's time, and without them the next run meets "
        "the same reward model.",
        because,
    )


def _smaller_steps(evidence: Evidence, supported: set[str]) -> Recommendation | None:
    because = tuple(sorted(supported & {"B1", "B2", "B3"}))
    if not because:
        return None
    rate = _round(evidence.config.policy.learning_rate / 2)
    return Recommendation(
        "Halve the policy's learning rate",
        {"policy.learning_rate": rate},
        f"Steps of about a quarter of the KL each ({rate:g} instead of {evidence.config.policy.learning_rate:g}): "
        "whitened advantages push as hard, and get less far.",
        "The same number of iterations gains less; where the reward model is right that is a loss.",
        because,
    )


def _use_room(evidence: Evidence, hypotheses: Mapping[str, Hypothesis]) -> Recommendation | None:
    kl, gain = evidence.kl, evidence.gain
    budget = evidence.config.gate.kl_budget
    if any(item.supported for item in hypotheses.values()) or not cleared(evidence, hypotheses):
        return None
    if evidence.broken or kl is None or gain is None or gain.low <= 0 or kl.high > budget / 2:
        return None
    target = _round(min(1.5 * max(kl.value, 0.1), budget / 2))
    if _steered(evidence) and target <= _current_target(evidence):
        return None
    return Recommendation(
        f"Use the room that is left: raise the KL target to {_nats(target)}",
        {"policy.kl.controller": _controller(evidence), "policy.kl.target": target},
        f"KL is {rounded(kl, 1)} nats of a budget of {budget:g}. If reward goes with √KL, the gain of {gain.value:.2f} "
        f"grows to about {gain.value * math.sqrt(target / max(kl.value, 0.1)):.2f}.",
        "More drift, and a gain to be judged anew: at a higher KL the reward model may be wrong where it was right.",
        (),
    )


def _look_closer(evidence: Evidence) -> Recommendation | None:
    if not evidence.answers:  # then there is nothing to look at yet: bring_answers
        return None
    prompts, checks = 2 * evidence.config.evaluation.prompts, max(2 * evidence.config.evaluation.spot_checks, 40)
    what = "Look closer: more held-out prompts and more spot checks"
    if not judged(evidence):
        what = "Have people or a judge compare the answers, more of them, before anything is loosened"
    return Recommendation(
        what,
        {"evaluation.prompts": prompts, "evaluation.spot_checks": checks},
        f"{prompts} prompts and {checks} spot checks: intervals shorter by about 30%.",
        "Twice the cost of evaluation and of people's time; the policy stays as it is.",
        (),
    )


def _more_labels(evidence: Evidence) -> Recommendation:
    epochs = evidence.config.reward_model.epochs + 1
    return Recommendation(
        "Train the reward model longer, on more labels where they can be had",
        {"reward_model.epochs": epochs},
        f"{epochs} passes over the pairs; the card's lift over 'always the longer one' says whether it helped.",
        "One more pass over few pairs also fits their noise.",
        (),
    )


def _nats(value: float) -> str:
    return f"{value:g} nat{'' if value == 1 else 's'}"


def _round(value: float) -> float:
    """Round to two significant digits, as a person would write a setting."""
    return float(f"{value:.2g}")
