"""A1 to A5: whether the reward model, which was trained on rankings, is biased or exploited.

Each function takes the run's files and gives one hypothesis; docs/diagnosis.md has the statistics and thresholds. The
thresholds say from where on an effect matters, not whether it exists: with enough data any difference is shown.
"""

from collections.abc import Iterable

import numpy as np

from kellet.answers import pairs
from kellet.bootstrap import Estimate, Floats, cluster_means
from kellet.equal_length import equal_length_gain
from kellet.evidence import Evidence, mean_over_prompts, moved
from kellet.hypothesis import (
    MIN_CLUSTERS,
    Finding,
    Hypothesis,
    above,
    all_of,
    any_of,
    below,
    fact,
    missing,
    percent,
    told,
)
from kellet.style import style
from kellet.style_shift import style_shift
from kellet.win_rate import win_rate
from kellet.within_prompt import correlation

LONGER_WINS = 0.55
"""A1: labels prefer longer answers when more than this share of pairs of different length went to the longer one."""
SMALL = 0.1
"""A2: a correlation that matters; 'small' in Cohen, Statistical Power Analysis (1988), which is 1% of the variance."""
LONG = 0.95
"""A3: an answer is longer than the labelled ones when it exceeds this quantile of their lengths ..."""
TOO_OFTEN = 0.10
"""... and the reward model is asked outside its data when more than this share of answers does: twice the expected."""
MATERIAL = 0.2
"""A4, A5: the share of the gain from which on length, or another axis, matters: a fifth."""
FAR = 1.5
"""A4: a longer mean than this times the reference's is beyond the lengths at which the price was measured."""
MAX_STYLED = 10_000
"""A2: answers whose style is counted for the correlation at equal style; the first ones when there are more."""


def a1_labels(evidence: Evidence) -> Hypothesis:
    """Labels prefer longer answers: share of pairs of different length, in words, whose longer answer was chosen."""
    table = evidence.preferences
    statement = "The labels prefer longer answers."
    needs = "the preference table (prompt, chosen, rejected)"
    if table is None:
        return any_of("A1", statement, [missing("longer_chosen", needs)])
    longer = words(table["chosen"]) - words(table["rejected"])
    differs = longer != 0
    if len(set(table["prompt"][differs])) < MIN_CLUSTERS:
        return any_of(
            "A1", statement, [missing("longer_chosen", f"{MIN_CLUSTERS} prompts with answers of two lengths")]
        )
    rate = win_rate((longer[differs] > 0) * 1.0, table["prompt"][differs].to_numpy(str), alpha=evidence.alpha)
    text = f"The longer answer was chosen in {percent(rate, 1)} of {int(differs.sum()):,} pairs of different length."
    findings = [above("longer_chosen", rate, LONGER_WINS, text, "more pairs")]
    first, second = (_courtesy(table["prompt"], table[side]) for side in ("chosen", "rejected"))
    alike = differs & (first == second)
    if len(set(table["prompt"][alike])) >= MIN_CLUSTERS:
        same = win_rate((longer[alike] > 0) * 1.0, table["prompt"][alike].to_numpy(str), alpha=evidence.alpha)
        text = f"Of the {int(alike.sum()):,} of them with equally many courtesies, in {percent(same, 1)}."
        findings.append(above("longer_chosen_at_equal_courtesy", same, LONGER_WINS, text, "more pairs"))
    beside = ["Labels alone cannot say whether the longer answers were also the better ones."]
    return all_of("A1", statement, findings, beside)


def a2_learned(evidence: Evidence) -> Hypothesis:
    """The reward model pays for length: correlation of reward and length within prompt, of the reference's answers."""
    statement = "The reward model pays for length."
    slope = _estimate(evidence.card, "length_slope")
    findings = _correlations(evidence) if evidence.answers else []
    if findings:
        return all_of("A2", statement, findings, _of_card(evidence, slope))
    if slope is None:
        needs = "two or more answers of the reference to each prompt in the evaluation, or the reward model's card"
        return any_of("A2", statement, [missing("reward_length_correlation", needs)])
    text = f"Within a pair, ten more tokens are worth {told(_times(slope, 10))} reward (card)."
    finding = above("length_slope", slope, 0.0, text, "more held-out pairs")
    return any_of("A2", statement, [finding], _of_card(evidence, None))


def _correlations(evidence: Evidence) -> list[Finding]:
    """Reward and length of the reference's answers within prompt, plainly and with the style axes held."""
    own = evidence.answers["reference"]
    plain = correlation(own.length, own.reward, own.prompt, **evidence.bootstrap())
    if plain is None:
        return []
    text = f"Within a prompt, reward and length of the reference's answers correlate with {told(plain)}."
    findings = [above("reward_length_correlation", plain, SMALL, text, "more prompts")]
    read = slice(0, MAX_STYLED)
    axes = np.array([style(*pair) for pair in zip(own.query[read], own.response[read], strict=True)], float)
    held = correlation(own.length[read], own.reward[read], own.prompt[read], axes, **evidence.bootstrap())
    if held is not None:
        text = f"With courtesy, lists, hedging, certainty, echo and repetition held, with {told(held)}."
        findings.append(above("correlation_at_equal_style", held, SMALL, text, "more prompts"))
    return findings


def _of_card(evidence: Evidence, slope: Estimate | None) -> list[str]:
    beside = []
    if slope is not None:
        beside.append(f"On held-out pairs ten more tokens are worth {told(_times(slope, 10))} reward.")
    if filler := _estimate(evidence.card, "filler_probe"):
        beside.append(f"A courtesy sentence that adds nothing changes the reward by {told(filler)}.")
    if lost := _estimate(evidence.card, "accuracy_longer_rejected"):
        overall = _estimate(evidence.card, "accuracy_reward")
        more = f", over all pairs {percent(overall)}" if overall else ""
        beside.append(f"Where labels rejected the longer answer, the reward agrees in {percent(lost)}{more}.")
    return beside


def a3_outside(evidence: Evidence) -> Hypothesis:
    """The reward model is asked outside its data: longer than labelled answers, contradicted by the judge, unsure."""
    findings = []
    if evidence.preferences is not None and evidence.answers:
        findings.append(_too_long(evidence))
    else:
        findings.append(missing("longer_than_labelled", "the preference table and an evaluation with texts"))
    agreement = _agreement(evidence, 2)
    findings.append(agreement)
    return any_of("A3", "The reward model is asked outside the data it was trained on.", findings)


def _too_long(evidence: Evidence) -> Finding:
    table = evidence.preferences
    assert table is not None  # noqa: S101 -- the caller looked
    limit = float(np.quantile(np.concatenate([words(table["chosen"]), words(table["rejected"])]), LONG))
    shares = {}
    for system in ("candidate", "reference"):
        part = evidence.answers[system]
        longer = words(part.response) > limit
        shares[system] = mean_over_prompts(cluster_means(longer * 1.0, part.prompt, evidence.prompts), evidence, 2)
    text = (
        f"{percent(shares['candidate'])} of the candidate's answers are longer than {limit:.0f} words, which 5% of the "
        f"labelled answers are (reference: {percent(shares['reference'])})."
    )
    return above("longer_than_labelled", shares["candidate"], TOO_OFTEN, text, "more prompts")


def _agreement(evidence: Evidence, parts: int) -> Finding:
    """How often the judge prefers the answer that the reward prefers, candidate against reference, within prompt."""
    name = evidence.config.gate.judge
    needs = f"scores of a judge ({name}) for both systems' answers to {MIN_CLUSTERS} prompts or more"
    if not evidence.answers or name not in evidence.answers["candidate"].judges:
        return missing("judge_agreement", needs)
    a, b = evidence.answers["reference"], evidence.answers["candidate"]
    rows_a, rows_b = pairs(a, b)
    judge: Floats = b.judges[name][rows_b] - a.judges[name][rows_a]
    reward = b.reward[rows_b] - a.reward[rows_a]
    known = ~np.isnan(judge) & (judge != 0) & (reward != 0)
    prompt = a.prompt[rows_a][known]
    if len(np.unique(prompt)) < MIN_CLUSTERS:
        return missing("judge_agreement", needs)
    rate = win_rate((np.sign(judge[known]) == np.sign(reward[known])) * 1.0, prompt, alpha=evidence.alpha / parts)
    text = (
        f"Of two answers to a prompt, one of the candidate and one of the reference, {name} prefers the one with the "
        f"higher reward in {percent(rate)} of {int(known.sum())} comparisons."
    )
    return below("judge_agreement", rate, 0.5, text, "more judged prompts")


def a4_length_share(evidence: Evidence) -> Hypothesis:
    """A part of the reward gain that matters is length: its share at the price of the reference's own answers."""
    statement = "A part of the reward gain that matters is length."
    name, needs = "gain_explained_by_length", "an evaluation with two or more answers of the reference to each prompt"
    if not evidence.answers or evidence.gain is None:
        return any_of("A4", statement, [missing(name, needs)])
    if evidence.gain.low <= 0:
        text = f"Reward {moved(evidence.gain)}; there is no gain to explain."
        return any_of("A4", statement, [fact(name, False, text)])
    a, b = evidence.answers["reference"], evidence.answers["candidate"]
    columns = ((a.reward, b.reward), (a.length, b.length), (a.prompt, b.prompt))
    split = equal_length_gain(*columns, **evidence.bootstrap())
    if split is None:
        return any_of("A4", statement, [missing(name, needs)])
    text = (
        f"At the price that the reference's own answers show, the change of length is worth {percent(split.share)} of "
        "the reward gain."
    )
    beside = []
    if evidence.lengthening is not None and evidence.lengthening.value > FAR:
        beside.append("The answers are so much longer that this carries a straight line beyond where it was measured.")
    return any_of("A4", statement, [above(name, split.share, MATERIAL, text, "more prompts")], beside)


def a5_style(evidence: Evidence) -> Hypothesis:
    """Another style axis is paid for: the share of the gain that its change is worth, length and other axes held.

    Shift and price are those of the gate's criterion style_shift (kellet/style_shift.py); the gain that they are a
    share of is taken at its estimate.
    """
    statement = "A style other than length is paid for, and the policy moved there."
    name, needs = "gain_explained_by_style", "an evaluation with texts and two or more answers to each prompt"
    if not evidence.answers or evidence.gain is None:
        return any_of("A5", statement, [missing(name, needs)])
    if evidence.gain.low <= 0:
        text = f"Reward {moved(evidence.gain)}; there is no gain to explain."
        return any_of("A5", statement, [fact(name, False, text)])
    gate = evidence.config.gate
    axes = style_shift(evidence.answers["reference"], evidence.answers["candidate"], gate).axes
    moving = [axis.axis for axis in axes if axis.price is not None]
    if not moving:
        return any_of("A5", statement, [missing(name, needs)])
    level = gate.model_copy(update={"alpha": gate.alpha / len(moving)})
    shift = style_shift(evidence.answers["reference"], evidence.answers["candidate"], level)
    findings = []
    for axis in shift.axes:
        if axis.explained is None:
            continue
        share = _times(axis.explained, 1 / evidence.gain.value)
        text = (
            f"{axis.axis.capitalize()} moved by {told(axis.shift)} an answer; at its price with length and the other "
            f"axes held this is worth {percent(share)} of the gain."
        )
        findings.append(above(f"gain_explained_by_{axis.axis}", share, MATERIAL, text, "more prompts"))
    findings.sort(key=lambda item: -(item.estimate.value if item.estimate else 0.0))
    silent = [axis.axis for axis in shift.axes if axis.explained is None and axis.shift.low > 0]
    beside = [f"{', '.join(silent).capitalize()} rose too, but no price can be told for it."] if silent else []
    return any_of("A5", statement, findings, beside)


def _courtesy(prompts: Iterable[str], answers: Iterable[str]) -> Floats:
    """Sentences of courtesy of each answer."""
    return np.array([style(*pair).courtesy for pair in zip(prompts, answers, strict=True)], dtype=np.float64)


def words(texts: Iterable[str]) -> Floats:
    """Words of each text."""
    return np.array([len(text.split()) for text in texts], dtype=np.float64)


def _estimate(card: object, name: str) -> Estimate | None:
    """A figure of card.json with its interval; None where it is absent or unknown."""
    figure = card.get(name) if isinstance(card, dict) else None
    if not isinstance(figure, dict) or figure.get("value") is None or None in figure.get("interval", [None]):
        return None
    low, high = figure["interval"]
    return Estimate(float(figure["value"]), float(low), float(high), int(figure.get("prompts", 0)))


def _times(estimate: Estimate, factor: float) -> Estimate:
    return Estimate(factor * estimate.value, factor * estimate.low, factor * estimate.high, estimate.clusters)
