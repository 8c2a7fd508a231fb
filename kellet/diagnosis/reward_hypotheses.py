"""A1, A2, A4, A5: whether the reward model learned to pay for length or style, and the policy earns its gain by it.

Each function turns the run's files into one hypothesis; docs/reference/hypotheses.md has statistics and thresholds. A
threshold says from which size on an effect matters, not whether it exists: with enough data any difference is shown.
A3 has a file of its own (kellet/diagnosis/reward_outside_data.py).
"""

from collections.abc import Iterable

import numpy as np

from kellet.diagnosis.evidence import Evidence, scaled
from kellet.diagnosis.hypothesis import MIN_CLUSTERS, Finding, Hypothesis, above, all_of, any_of, fact, missing
from kellet.diagnosis.observations import change_in_words
from kellet.gate.style_shift import style_shift
from kellet.stats.bootstrap import Estimate, Floats
from kellet.stats.format import percent, rounded
from kellet.stats.style import style
from kellet.stats.win_rate import win_rate
from kellet.stats.within_prompt import correlation, equal_length_gain
from kellet.stats.words import word_count

LONGER_CHOSEN_SHARE = 0.55
"""A1: the labels prefer longer answers when the longer one was chosen in more than this share of pairs."""
SMALL_CORRELATION = 0.1
"""A2: a correlation that matters; 'small' in Cohen, Statistical Power Analysis (1988), 1% of the variance."""
MATERIAL_SHARE = 0.2
"""A4, A5: length, or another axis of style, matters when it explains more than this share of the gain."""
FAR_LONGER_RATIO = 1.5
"""A4: a mean length above this times the reference's is beyond the lengths at which the price was measured."""
MAX_STYLE_ANSWERS = 10_000
"""A2: the style of at most this many answers is counted, the first ones; it takes the most time."""


def a1_labels(evidence: Evidence) -> Hypothesis:
    """Labels prefer longer answers: share of pairs of different length, in words, whose longer answer was chosen."""
    table = evidence.preferences
    statement = "The labels prefer longer answers."
    if table is None:
        needs = "the preference table (prompt, chosen, rejected)"
        return any_of("A1", statement, [missing("longer_chosen", needs)])
    longer = word_counts(table["chosen"]) - word_counts(table["rejected"])
    differs = longer != 0
    if len(set(table["prompt"][differs])) < MIN_CLUSTERS:
        needs = f"{MIN_CLUSTERS} prompts with answers of two lengths"
        return any_of("A1", statement, [missing("longer_chosen", needs)])
    rate = win_rate((longer[differs] > 0) * 1.0, table["prompt"][differs].to_numpy(str), alpha=evidence.alpha)
    text = f"The longer answer was chosen in {percent(rate, 1)} of {int(differs.sum()):,} pairs of different length."
    findings = [above("longer_chosen", rate, LONGER_CHOSEN_SHARE, text, "more pairs")]
    first, second = (_courtesy(table["prompt"], table[side]) for side in ("chosen", "rejected"))
    alike = differs & (first == second)
    if len(set(table["prompt"][alike])) >= MIN_CLUSTERS:
        same = win_rate((longer[alike] > 0) * 1.0, table["prompt"][alike].to_numpy(str), alpha=evidence.alpha)
        text = f"Of the {int(alike.sum()):,} of them with equally many courtesies, in {percent(same, 1)}."
        findings.append(above("longer_chosen_at_equal_courtesy", same, LONGER_CHOSEN_SHARE, text, "more pairs"))
    context = ["Labels alone cannot say whether the longer answers were also the better ones."]
    return all_of("A1", statement, findings, context)


def a2_learned(evidence: Evidence) -> Hypothesis:
    """The reward model pays for length: correlation of reward and length within prompt, on the reference's answers."""
    statement = "The reward model pays for length."
    slope = evidence.card_estimate("length_slope")
    findings = _correlations(evidence) if evidence.answers else []
    if findings:
        return all_of("A2", statement, findings, _card_context(evidence, slope))
    if slope is None:
        needs = "two or more answers of the reference to each prompt in the evaluation, or the reward model's card"
        return any_of("A2", statement, [missing("reward_length_correlation", needs)])
    text = f"Within a pair, ten more tokens are worth {rounded(scaled(slope, 10))} reward (card)."
    finding = above("length_slope", slope, 0.0, text, "more held-out pairs")
    return any_of("A2", statement, [finding], _card_context(evidence, None))


def _correlations(evidence: Evidence) -> list[Finding]:
    """Correlation of reward and length within prompt on the reference's answers, plain and at equal style."""
    reference = evidence.answers["reference"]
    plain = correlation(reference.length, reference.reward, reference.prompt, **evidence.bootstrap())
    if plain is None:
        return []
    text = f"Within a prompt, reward and length of the reference's answers correlate with {rounded(plain)}."
    findings = [above("reward_length_correlation", plain, SMALL_CORRELATION, text, "more prompts")]
    n = MAX_STYLE_ANSWERS
    axes = np.array([style(*pair) for pair in zip(reference.query[:n], reference.response[:n], strict=True)], float)
    columns = reference.length[:n], reference.reward[:n], reference.prompt[:n]
    at_equal_style = correlation(*columns, axes, **evidence.bootstrap())
    if at_equal_style is not None:
        text = f"With courtesy, lists, hedging, certainty, echo and repetition held, with {rounded(at_equal_style)}."
        findings.append(above("correlation_at_equal_style", at_equal_style, SMALL_CORRELATION, text, "more prompts"))
    return findings


def _card_context(evidence: Evidence, slope: Estimate | None) -> list[str]:
    """What the card says about length: slope, filler probe, accuracy where the labels rejected the longer answer."""
    context = []
    if slope is not None:
        context.append(f"On held-out pairs ten more tokens are worth {rounded(scaled(slope, 10))} reward.")
    if filler := evidence.card_estimate("filler_probe"):
        context.append(f"A courtesy sentence that adds nothing changes the reward by {rounded(filler)}.")
    if accuracy := evidence.card_estimate("accuracy_longer_rejected"):
        overall = evidence.card_estimate("accuracy_reward")
        more = f", over all pairs {percent(overall)}" if overall else ""
        context.append(f"Where labels rejected the longer answer, the reward agrees in {percent(accuracy)}{more}.")
    return context


def a4_length_share(evidence: Evidence) -> Hypothesis:
    """Length explains a part of the gain that matters: the change of length times the price of length, over the gain.

    The price is measured on the reference's answers. Once plain and once at equal style: an answer with one more
    courtesy is longer too, and it may be the courtesy that pays.
    """
    statement = "A part of the reward gain that matters is length."
    name, needs = "gain_explained_by_length", "an evaluation with two or more answers of the reference to each prompt"
    if not evidence.answers or evidence.gain is None:
        return any_of("A4", statement, [missing(name, needs)])
    if evidence.gain.low <= 0:
        text = f"Reward {change_in_words(evidence.gain)}; there is no gain to explain."
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
    findings = [above(name, split.share, MATERIAL_SHARE, text, "more prompts")]
    at_equal_style = style_shift(a, b, evidence.config.gate).length
    if at_equal_style is not None and at_equal_style.explained is not None:
        share = scaled(at_equal_style.explained, 1 / evidence.gain.value)
        text = f"With courtesy, lists, hedging, certainty, echo and repetition held, {percent(share)}."
        findings.append(above("gain_explained_at_equal_style", share, MATERIAL_SHARE, text, "more prompts"))
    context = []
    if evidence.lengthening is not None and evidence.lengthening.value > FAR_LONGER_RATIO:
        context.append("The answers are so much longer that this carries a straight line beyond where it was measured.")
    return all_of("A4", statement, findings, context)


def a5_style(evidence: Evidence) -> Hypothesis:
    """Another style axis explains a part of the gain that matters, at equal length and equal other axes.

    Shift and price are those of the gate's criterion style_shift (kellet/gate/style_shift.py). The gain is taken at its
    estimate, without its own uncertainty. A style that became rarer is reported and does not count: a reward that
    dislikes padding pays for its absence, and these files cannot say whether that is taste or quality.
    """
    statement = "A style other than length is paid for, and the policy moved there."
    name, needs = "gain_explained_by_style", "an evaluation with texts and two or more answers to each prompt"
    if not evidence.answers or evidence.gain is None:
        return any_of("A5", statement, [missing(name, needs)])
    if evidence.gain.low <= 0:
        text = f"Reward {change_in_words(evidence.gain)}; there is no gain to explain."
        return any_of("A5", statement, [fact(name, False, text)])
    gate, a, b = evidence.config.gate, evidence.answers["reference"], evidence.answers["candidate"]
    priced = sum(axis.price is not None for axis in style_shift(a, b, gate).axes)
    if not priced:
        return any_of("A5", statement, [missing(name, needs)])
    shift = style_shift(a, b, gate.model_copy(update={"alpha": gate.alpha / priced}))
    findings, context = [], []
    for axis in shift.axes:
        if axis.explained is None:
            continue
        share = scaled(axis.explained, 1 / evidence.gain.value)
        text = (
            f"{axis.axis.capitalize()} moved by {rounded(axis.shift)} an answer; at its price with length and the "
            f"other axes held this is worth {percent(share)} of the gain."
        )
        if axis.shift.high < 0:
            context.append(f"{text} Less of a style is not paid for as a style.")
            continue
        findings.append(above(f"gain_explained_by_{axis.axis}", share, MATERIAL_SHARE, text, "more prompts"))
    findings.sort(key=lambda item: -(item.estimate.value if item.estimate else 0.0))
    unpriced = [axis.axis for axis in shift.axes if axis.explained is None and axis.shift.low > 0]
    if unpriced:
        context.append(f"{', '.join(unpriced).capitalize()} rose too, but no price can be told for it.")
    if not findings:
        findings = [fact(name, False, "The candidate has no more of any style that has a price.")]
    return any_of("A5", statement, findings, context)


def _courtesy(prompts: Iterable[str], answers: Iterable[str]) -> Floats:
    """Number of sentences of courtesy in each answer."""
    return np.array([style(*pair).courtesy for pair in zip(prompts, answers, strict=True)], dtype=np.float64)


def word_counts(texts: Iterable[str]) -> Floats:
    """Number of words in each text."""
    return np.array([word_count(text) for text in texts], dtype=np.float64)
