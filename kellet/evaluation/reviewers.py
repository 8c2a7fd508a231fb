"""What a spot check's reviewers said, reviewer by reviewer, and whether they agree.

Intervals are Wilson's over comparisons (kellet/stats/win_rate.py), two-sided 1 - 2·alpha.
"""

from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd

from kellet.stats.bootstrap import Estimate
from kellet.stats.format import in_words
from kellet.stats.win_rate import win_rate


def agreement(verdicts: pd.DataFrame, alpha: float) -> tuple[Estimate, float] | None:
    """Share of pairs of reviewers that said the same about a comparison, and what chance alone would give.

    Over the comparisons that two or more have judged; None without any. Chance: the sum of the squared shares of
    better, tie and worse among all their verdicts (Scott 1955).
    """
    several = verdicts[verdicts.groupby("item")["reviewer"].transform("size") > 1]
    same, item = list[float](), list[str]()
    for name, group in several.groupby("item"):
        for one, other in combinations(group["candidate"], 2):
            same.append(float(one == other))
            item.append(str(name))
    if not same:
        return None
    shares = several["candidate"].value_counts(normalize=True).to_numpy()
    return win_rate(same, pd.factorize(np.array(item))[0], alpha=alpha), float((shares**2).sum())


def told(verdicts: pd.DataFrame, comparisons: int, against: str, alpha: float) -> list[str]:
    """A sentence for each reviewer, and one on their agreement where there are several."""
    sentences = []
    for name, own in verdicts.groupby("reviewer"):
        count, sides = Counter(own["candidate"]), own.loc[own["verdict"] != "tie", "verdict"]
        text = f"{name} judged {len(own)} of {comparisons}: candidate better in {count[1.0]}, {against} in {count[0.0]}"
        text += f", tie in {count[0.5]}"
        if len(sides):
            first = win_rate((sides == "a").to_numpy(np.float64), alpha=alpha)
            text += f"; chose A, whichever it was, in {in_words(first, 'share')} of {len(sides)}"
        sentences.append(text)
    if (found := agreement(verdicts, alpha)) is not None:
        share, chance = found
        sentences.append(
            f"two reviewers said the same in {in_words(share, 'share')} ({share.clusters} comparisons judged twice or "
            f"more); chance alone would give {100 * chance:.1f}%"
        )
    return sentences
