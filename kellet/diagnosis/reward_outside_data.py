"""A3: whether the reward model is asked about answers unlike those it was trained on, and is wrong or unsure there."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy.special import expit

from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.hypothesis import MIN_CLUSTERS, Finding, Hypothesis, above, any_of, at_level, below, missing
from kellet.diagnosis.reward_hypotheses import word_counts
from kellet.evaluation.answers import pairs_scored_by
from kellet.reward.card_text import CARD_ALPHA
from kellet.stats.bootstrap import Codes, Estimate, Floats, cluster_means, mean, ratio_of_means
from kellet.stats.format import percent, rounded
from kellet.stats.win_rate import win_rate

LONG_QUANTILE = 0.95
"""An answer is longer than the labelled ones when it exceeds this quantile of their lengths ..."""
TOO_LONG_SHARE = 0.10
"""... and too many are longer when it is more than this share of the candidate's: twice what the quantile leaves."""
PROMISE_GAP = 0.2
"""The reward promises too much when it expects a share of wins this much above the share that the judge gives."""
OVERCONFIDENCE = 0.1
"""The same for held-out labelled pairs: half as much, since they are like the reward model's training pairs."""
UNSURE_RATIO = 1.5
"""An ensemble is unsure when its members differ by more than this times their difference on the reference's answers."""


def a3_outside(evidence: Evidence) -> Hypothesis:
    """The reward model is asked outside its data.

    Signs of it: answers longer than the labelled ones; a judge that prefers the answer with the lower reward, or that
    prefers the candidate much less often than the reward promises (this needs a reward in logits of preference, which
    is known where there is a card); overconfidence on held-out pairs; an ensemble whose members disagree.
    """
    tests: list[Callable[[Evidence, int], Finding]] = [_too_long, _agreement]
    if evidence.card is not None:
        tests.append(_promise)
    if (overconfidence := evidence.card_estimate("calibration", "overconfidence")) is not None:
        tests.append(partial(_overconfidence, overconfidence))
    if evidence.answers and not any(np.isnan(part.reward_std).any() for part in evidence.answers.values()):
        tests.append(_ensemble)
    findings = [test(evidence, len(tests)) for test in tests]
    return any_of("A3", "The reward model is asked outside the data it was trained on.", findings)


def _too_long(evidence: Evidence, tests: int) -> Finding:
    """Share of the candidate's answers that are longer than nearly all labelled ones, in words."""
    table = evidence.preferences
    if table is None or not evidence.answers:
        return missing("longer_than_labelled", "the preference table and an evaluation with texts")
    labelled = np.concatenate([word_counts(table["chosen"]), word_counts(table["rejected"])])
    limit = float(np.quantile(labelled, LONG_QUANTILE))
    shares = {}
    for system in ("candidate", "reference"):
        part = evidence.answers[system]
        longer = (word_counts(part.response) > limit) * 1.0
        shares[system] = mean(cluster_means(longer, part.prompt, evidence.prompts), **evidence.bootstrap(tests))
    text = (
        f"{percent(shares['candidate'])} of the candidate's answers are longer than {limit:.0f} words, which 5% of the "
        f"labelled answers are (reference: {percent(shares['reference'])})."
    )
    return above("longer_than_labelled", shares["candidate"], TOO_LONG_SHARE, text, "more prompts")


def _differences(evidence: Evidence) -> tuple[Floats, Floats, Codes] | None:
    """Judge's score and reward ``(N,)``, candidate minus reference, and the prompts; None when there are too few."""
    name = evidence.config.gate.judge
    if not evidence.answers or name not in evidence.answers["candidate"].judges:
        return None
    a, b = evidence.answers["reference"], evidence.answers["candidate"]
    rows_a, rows_b = pairs_scored_by(a, b, name)
    if len(np.unique(a.prompt[rows_a])) < MIN_CLUSTERS:
        return None
    judge: Floats = b.judges[name][rows_b] - a.judges[name][rows_a]
    return judge, b.reward[rows_b] - a.reward[rows_a], a.prompt[rows_a]


def _judge_needed(evidence: Evidence) -> str:
    name = evidence.config.gate.judge
    return f"scores of a judge ({name}) for both systems' answers to {MIN_CLUSTERS} prompts or more"


def _agreement(evidence: Evidence, tests: int) -> Finding:
    """How often judge and reward prefer the same answer, the candidate's or the reference's."""
    differences = _differences(evidence)
    if differences is None:
        return missing("judge_agreement", _judge_needed(evidence))
    judge, reward, prompt = differences
    decided = (judge != 0) & (reward != 0)
    if len(np.unique(prompt[decided])) < MIN_CLUSTERS:
        return missing("judge_agreement", _judge_needed(evidence))
    agrees = (np.sign(judge[decided]) == np.sign(reward[decided])) * 1.0
    rate = win_rate(agrees, prompt[decided], alpha=evidence.alpha / tests)
    name = evidence.config.gate.judge
    text = (
        f"Of two answers to a prompt, one of the candidate and one of the reference, {name} prefers the one with the "
        f"higher reward in {percent(rate)} of {int(decided.sum())} comparisons."
    )
    return below("judge_agreement", rate, 0.5, text, "more judged prompts")


def _promise(evidence: Evidence, tests: int) -> Finding:
    """The share of wins that the reward promises the candidate, mean of σ(Δr), minus the share that the judge gives.

    This is calibration on the policy's own answers: σ(Δr) is the probability of a win by a Bradley-Terry reward model.
    The interval is Wilson's of the judge's share; the promise is taken as exact for these pairs.
    """
    differences = _differences(evidence)
    if differences is None:
        return missing("promised_and_not_found", _judge_needed(evidence))
    judge, reward, prompt = differences
    promised = float(expit(reward).mean())
    won = win_rate(0.5 + 0.5 * np.sign(judge), prompt, alpha=evidence.alpha / tests)
    over = Estimate(promised - won.value, promised - won.high, promised - won.low, won.clusters)
    text = (
        f"In these comparisons the reward promises the candidate {promised:.0%} and "
        f"{evidence.config.gate.judge} gives it {won.value:.0%}, a difference of {rounded(over, 0, 100.0)} points."
    )
    return above("promised_and_not_found", over, PROMISE_GAP, text, "more judged prompts")


def _overconfidence(card: Estimate, evidence: Evidence, tests: int) -> Finding:
    """As :func:`_promise` on held-out labelled pairs: by how much the reward model is surer than it is right."""
    over = at_level(card, CARD_ALPHA, evidence.alpha / tests)
    text = (
        f"On held-out labelled pairs the reward model is surer than it is right, by {rounded(over, 0, 100.0)} points "
        "(card): what it learned does not reach beyond its own pairs."
    )
    return above("overconfidence", over, OVERCONFIDENCE, text, "more held-out pairs")


def _ensemble(evidence: Evidence, tests: int) -> Finding:
    """Disagreement of an ensemble's members on the candidate's answers, divided by that on the reference's."""
    a, b = evidence.answers["reference"], evidence.answers["candidate"]
    ratio = ratio_of_means(a.reward_std, b.reward_std, a.prompt, b.prompt, **evidence.bootstrap(tests))
    text = f"The ensemble's members differ {rounded(ratio)} times as much as on the reference's answers."
    return above("ensemble_disagreement", ratio, UNSURE_RATIO, text, "more prompts")
