"""Degeneration: shares of truncated, empty, repetitive and duplicate answers, which reward models rarely penalise."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from kellet.config.judgement import Gate
from kellet.evaluation.answers import Answers
from kellet.gate.checks import Criterion, GateCheck, Threshold, cannot_tell, check_threshold
from kellet.stats.shares import share_difference
from kellet.stats.words import characters_a_word, is_blank, words

REPEATED_SENTENCE_WORDS = 4
"""A sentence of at least this many words that occurs twice is a repetition; shorter ones ('Thank you.') are not."""
REPEATED_GRAM = (4, 3)
"""So is a run of this many words that occurs this many times: (words, times). In a script without spaces, here and in a
sentence, twice as many characters are needed as words."""
STOCK_SHARE = 0.2
"""An answer is a duplicate when its text answers more than this share of the prompts (and at least three of them).

The same text twice is not enough: a support policy may well give one good answer to everyone who asks the same. One
text for a fifth of all prompts means that the policy ignores the prompt."""


def degeneration(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Shares of truncated, empty, repetitive and duplicate answers exceed a's by at most ``degeneration_tolerance``."""
    required = "degeneration" in gate.required
    checks: list[GateCheck] = []
    note = ""
    if not np.isnan(np.concatenate([a.truncated, b.truncated])).any():
        checks.append(_share_check("truncated", a, b, a.truncated, b.truncated, gate))
    elif required:
        why = "the column truncated is missing or has nulls; say for each answer whether it was cut at the limit"
        checks.append(cannot_tell(_threshold("truncated", gate), why))
    else:
        note = "The column truncated has nulls and was left out."
    for name, marks in (("empty", _empty), ("repetitive", repetitive)):
        checks.append(_share_check(name, a, b, marks(a.response), marks(b.response), gate))
    checks.append(_share_check("duplicate", a, b, duplicate(a), duplicate(b), gate))
    return Criterion("degeneration", required, tuple(checks), note)


def _threshold(name: str, gate: Gate) -> Threshold:
    return Threshold(name, gate.degeneration_tolerance, "at most", "share")


def _share_check(name: str, a: Answers, b: Answers, marks_a: Any, marks_b: Any, gate: Gate) -> GateCheck:
    """Compare the shares of marked answers."""
    # The same text under two ids is asked twice: a share that was never seen, was not seen in so many texts.
    units = (a.prompt, b.prompt) if a.group is None else (a.query, b.query)
    change = share_difference(marks_a, marks_b, *units, alpha=gate.alpha, group=a.group)
    subject = f"share of {name} answers minus the reference's is"
    limit, needed = gate.degeneration_tolerance, None
    if limit > 0 and not np.any(marks_a) and not np.any(marks_b):
        # No answer is marked: the half-width is then z·√2/(n + 2), which shrinks with n instead of √n.
        needed = int(np.ceil(norm.ppf(1 - gate.alpha) * np.sqrt(2) / limit)) - 2
    return check_threshold(_threshold(name, gate), subject, change, gate.alpha, needed)


def _empty(responses: Sequence[str]) -> npt.NDArray[np.bool_]:
    return np.array([is_blank(text) for text in responses])


def repetitive(responses: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Mark responses with a sentence that occurs twice or a run of words that occurs three times, ``(N,)``."""
    by_text: dict[str, bool] = {}
    for text in responses:
        if text not in by_text:
            by_text[text] = _repeats(text.lower())
    return np.array([by_text[text] for text in responses])


def _repeats(text: str) -> bool:
    scale = characters_a_word(text)
    sentences = [tuple(words(part)) for part in re.split(r"[.!?]+(?:\s+|$)|[。！？｡]+|\n+", text)]
    long = [sentence for sentence in sentences if len(sentence) >= REPEATED_SENTENCE_WORDS * scale]
    if len(set(long)) < len(long):
        return True
    size, times = REPEATED_GRAM
    each = words(text)
    grams = list(zip(*(each[start:] for start in range(size * scale)), strict=False))
    if len(grams) - len(set(grams)) < times - 1:
        return False
    counts: dict[tuple[str, ...], int] = {}
    for gram in grams:
        counts[gram] = counts.get(gram, 0) + 1
    return max(counts.values()) >= times


def duplicate(answers: Answers) -> npt.NDArray[np.bool_]:
    """Mark answers whose text the same system gave to more than STOCK_SHARE of its prompts, ``(N,)``."""
    texts = pd.factorize(pd.Series([" ".join(text.split()) for text in answers.response], dtype=object))[0]
    distinct = pd.DataFrame({"text": texts, "prompt": answers.prompt}).drop_duplicates()
    prompts = np.bincount(distinct["text"].to_numpy(np.int64))
    limit = max(2.0, STOCK_SHARE * len(np.unique(answers.prompt)))
    return np.asarray(prompts[texts] > limit)
