"""What a diagnosis has to explain, in words: reward, length, KL, a judge; and the figures of the log that cannot be."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from kellet.diagnosis.evidence import Evidence, scaled
from kellet.stats.bootstrap import Codes, Estimate, Floats, cluster_means
from kellet.stats.format import percent, rounded
from kellet.stats.series import late, start


def observations(evidence: Evidence) -> list[dict[str, Any]]:
    """Name, words, value and interval of each figure that the files have; then what is wrong with the history.

    A fault of a metric has the name ``impossible:METRIC`` or ``missing:METRIC``, the number of iterations as its value,
    and no interval; ``begins_late`` has neither.
    """
    judge = evidence.config.gate.judge
    figures: list[tuple[str, Estimate | None, Callable[[Estimate], str]]] = [
        ("reward_gain", evidence.gain, lambda e: f"Reward {change_in_words(e)}{_reward_levels(evidence, e)}."),
        ("length_ratio", evidence.lengthening, lambda e: f"Length {ratio_in_words(e)}{_length_levels(evidence, e)}."),
        ("kl", evidence.kl, lambda e: f"{evidence.kl_words} is {rounded(e, 1)} nats."),
        ("kl_rise", evidence.kl_rise, lambda e: f"Over the second half of training it {change_in_words(e, 1)}."),
        (
            "judge_win_rate",
            evidence.judge_win_rate,
            lambda e: f"{judge} prefers the candidate in {percent(e)} of its comparisons.",
        ),
    ]
    seen: list[dict[str, Any]] = [
        {"name": name, "words": sentence(e), "value": e.value, "interval": [e.low, e.high]}
        for name, e, sentence in figures
        if e is not None
    ]
    if evidence.begins_late and not evidence.answers:
        words = (
            f"These are figures of the logged part alone: {evidence.begins_late}, so the level at its start is not the "
            "reference's, and what moved before is not in them."
        )
        seen.append({"name": "begins_late", "words": words, "value": None, "interval": None})
    for fault in evidence.broken:
        name = f"{'missing' if fault.missing else 'impossible'}:{fault.metric}"
        seen.append({"name": name, "words": fault.sentence, "value": float(fault.iterations), "interval": None})
    return seen


def _reward_levels(evidence: Evidence, gain: Estimate) -> str:
    """Where reward came from and went to, in parentheses; empty where it did not clearly move."""
    if gain.low <= 0 <= gain.high:
        return ""
    if evidence.answers:
        a, b = evidence.answers["reference"], evidence.answers["candidate"]
        n = evidence.prompts
        return f" (from {_mean(a.reward, a.prompt, n):.2f} to {_mean(b.reward, b.prompt, n):.2f})"
    (values,) = evidence.logged("objective/reward") or [np.zeros(1)]
    return f" (from {start(values):.2f} at the start to {late(values).mean():.2f} in the last third)"


def _length_levels(evidence: Evidence, ratio: Estimate) -> str:
    """The same for length: of a history geometric means, of which the ratio is one."""
    if ratio.low <= 1 <= ratio.high:
        return ""
    if evidence.answers:
        a, b = evidence.answers["reference"], evidence.answers["candidate"]
        n = evidence.prompts
        return f" (from {_mean(a.length, a.prompt, n):.0f} to {_mean(b.length, b.prompt, n):.0f} tokens)"
    log = np.log((evidence.logged("tokens/response_mean") or [np.ones(1)])[0])
    first, last = math.exp(start(log)), math.exp(float(late(log).mean()))
    return f" (from {first:.0f} tokens at the start to {last:.0f} in the last third)"


def _mean(values: Floats, prompt: Codes, prompts: int) -> float:
    """The mean over prompts."""
    return float(cluster_means(values, prompt, prompts).mean())


def change_in_words(change: Estimate, digits: int = 2) -> str:
    """'rose by 0.91 [0.76, 1.06]', 'fell by …', 'did not clearly move: …'."""
    if change.low > 0:
        return f"rose by {rounded(change, digits)}"
    if change.high < 0:
        return f"fell by {rounded(scaled(change, -1), digits)}"
    return f"did not clearly move: {rounded(change, digits)}"


def ratio_in_words(ratio: Estimate) -> str:
    """'rose by 112% [104, 122]', 'fell by …', 'did not clearly change: …'."""
    change = Estimate(ratio.value - 1, ratio.low - 1, ratio.high - 1, ratio.clusters)
    if change.low > 0:
        return f"rose by {percent(change)}"
    if change.high < 0:
        return f"fell by {percent(scaled(change, -1))}"
    return f"did not clearly change: {percent(change)}"
