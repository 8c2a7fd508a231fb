"""Do the prompts of a batch differ from the current ones? A classifier two-sample test, with an interval.

A naive Bayes classifier on the words of a prompt is fitted on one half to separate batch from current and scored on the
other half, and the other way round. AUC is the probability that it ranks a prompt of the batch above a current one: 0.5
when both come from the same distribution. Interval and test use the variance of AUC (DeLong et al. 1988) of one half,
because the two halves are not independent: with the variance of independent halves, 95% intervals held 0.5 in only 87%
of 300 simulated batches that came from the same distribution.
Source of the test: Lopez-Paz and Oquab 2017, Revisiting Classifier Two-Sample Tests, arXiv:1610.06545.
Left out: the order of words.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, rankdata

from kellet.stats.words import words as words_of

Floats = npt.NDArray[np.float64]
FEWEST = 20
"""Distinct prompts that either side needs."""
MOST = 20_000
"""Distinct prompts of either side that are read; of more, a random sample by the seed."""
_WORD = re.compile(r"\w+")


def prompt_drift(current: Sequence[str], batch: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """AUC with 95% interval, one-sided p-value (AUC > 0.5), prompts of each side and the five most distinctive words.

    Only distinct prompts count. With fewer than FEWEST on a side all but the counts are None.
    """
    rng = np.random.default_rng(seed)
    sides = [sorted(set(current)), sorted(set(batch))]
    result: dict[str, Any] = {"auc": None, "interval": None, "p_value": None, "words": []}
    result["prompts"] = [len(side) for side in sides]
    if min(result["prompts"]) < FEWEST:
        return result
    words: list[list[set[str]]] = []
    for side in sides:
        drawn = rng.permutation(len(side))[:MOST]
        words.append([_words(side[i]) for i in drawn])
    aucs, variances = [], []
    for part in (0, 1):
        ratios = _log_ratios(*(side[part::2] for side in words))
        scores = [np.array([_score(prompt, ratios) for prompt in side[1 - part :: 2]]) for side in words]
        auc, variance = auc_delong(scores[1], scores[0])
        aucs.append(auc)
        variances.append(variance)
    value, error = float(np.mean(aucs)), max(math.sqrt(sum(variances) / 2), 1e-9)
    half = float(norm.ppf(0.975)) * error
    ratios = _log_ratios(*words)
    common = Counter(word for prompt in words[1] for word in prompt)
    distinctive = sorted(common, key=lambda word: -common[word] * ratios[word])[:5]
    return result | {
        "auc": value,
        "interval": [max(0.0, value - half), min(1.0, value + half)],
        "p_value": float(norm.sf((value - 0.5) / error)),
        "words": distinctive,
    }


def auc_delong(high: Floats, low: Floats) -> tuple[float, float]:
    """P(high > low) + P(equal)/2 over two samples ``(m,)``, ``(n,)``, and its variance (DeLong et al. 1988)."""
    m, n = len(high), len(low)
    ranks = rankdata(np.concatenate([high, low]))
    # Placements: the share of the other sample below each value.
    above = (ranks[:m] - rankdata(high)) / n
    below = 1 - (ranks[m:] - rankdata(low)) / m
    return float(above.mean()), float(above.var(ddof=1) / m + below.var(ddof=1) / n)


def _words(prompt: str) -> set[str]:
    """Runs of letters and digits, cut into words in scripts without spaces."""
    return {word for run in _WORD.findall(prompt.lower()) for word in words_of(run)}


def _log_ratios(current: Sequence[set[str]], batch: Sequence[set[str]]) -> dict[str, float]:
    """Of each word log P(word | batch) - log P(word | current), each with half a prompt added."""
    counts = [Counter(word for words in side for word in words) for side in (current, batch)]
    sizes = (len(current) + 1, len(batch) + 1)
    return {
        word: math.log((counts[1][word] + 0.5) / sizes[1]) - math.log((counts[0][word] + 0.5) / sizes[0])
        for word in counts[0] | counts[1]
    }


def _score(words: set[str], ratios: dict[str, float]) -> float:
    return sum(ratios.get(word, 0.0) for word in sorted(words)) / max(len(words), 1)
