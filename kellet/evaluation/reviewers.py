"""What the reviewers of a spot check preferred, one by one, and how often they agree.

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
    """Share of pairs of reviewers with the same verdict on a comparison, and the share expected by chance.

    Over the comparisons that two or more reviewers judged; None when there is none. Expected by chance is the sum of
    the squared shares of better, tie and worse among all their verdicts (Scott 1955).
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


def summary(verdicts: pd.DataFrame, comparisons: int, against: str, alpha: float) -> list[str]:
    """One sentence about each reviewer, and one about their agreement where comparisons were judged twice."""
    sentences = []
    for name, rows in verdicts.groupby("reviewer"):
        count, sides = Counter(rows["candidate"]), rows.loc[rows["verdict"] != "tie", "verdict"]
        text = f"{name} judged {len(rows)} of {comparisons}: candidate better in {count[1.0]}, "
        text += f"{against} in {count[0.0]}, tie in {count[0.5]}"
        if len(sides):
            first = win_rate((sides == "a").to_numpy(np.float64), alpha=alpha)
            text += f"; chose A, whichever it was, in {in_words(first, 'share')} of {len(sides)}"
        sentences.append(text)
    if (agreed := agreement(verdicts, alpha)) is not None:
        share, chance = agreed
        sentences.append(
            f"two reviewers said the same in {in_words(share, 'share')} ({share.clusters} comparisons judged twice or "
            f"more); chance alone would give {100 * chance:.1f}%"
        )
    return sentences
