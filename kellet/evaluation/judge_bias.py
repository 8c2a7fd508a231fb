"""What a judging model's verdicts are worth: its bias of position and of length, and its agreement with people.

Position: a pair is judged in both orders. Of the pairs with both verdicts, how many turned with the order, and how
often the answer that stood first won. A judge without this bias has 50% there; so has one that throws a coin, but its
verdicts turn.

Length: how often the longer answer wins says little, because the better answers may be the longer ones. Held against
people's verdicts on the same pairs it says what is the judge's own. At equal verdict of people, that is where they
prefer one answer clearly, a judge that does not look at length agrees with them as often when it is the longer one as
when it is the shorter. The difference is its length preference, in points.

Intervals are Wilson's over prompts, or clusters of such (:func:`kellet.stats.win_rate.win_rate`), and Newcombe's for
differences of two of them (1998, method 10), which takes the two groups of pairs for independent; two-sided
1 - 2·alpha.

Legend: a pair's share w is 1 where the candidate won, 1/2, 0 (kellet/evaluation/endpoint_judge.py).
"""

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from kellet.stats.bootstrap import Estimate
from kellet.stats.format import in_words
from kellet.stats.win_rate import win_rate

ENOUGH = 10
"""Prompts on each side that a length preference takes."""


@dataclass(frozen=True)
class JudgeBias:
    """Shares with their intervals; None where no pair can tell."""

    pairs: int
    """With both verdicts; equal answers, about which nobody is asked, are no part of anything here."""
    ties: Estimate | None
    """Pairs called a tie in both orders."""
    order_dependent: Estimate | None
    """Pairs whose verdict is another in the other order."""
    first_wins: Estimate | None
    """Verdicts for the answer that stands first, ties as one half."""
    longer_wins: Estimate | None
    """The longer answer's share, over pairs of different lengths."""
    longer_wins_by_people: Estimate | None
    """The same by people, over the pairs of those that they judged."""
    agreement: Estimate | None
    """The judge's share for the answer that people preferred."""
    agreement_where_longer: Estimate | None
    """The same where people preferred the longer answer."""
    agreement_where_shorter: Estimate | None
    length_preference: Estimate | None
    """The first of these two less the second: at equal verdict of people, what being longer is worth to the judge."""
    same_verdict: Estimate | None
    """Pairs on which judge and people say the same of better, tie and worse."""
    same_by_chance: float | None
    """That share if both gave their verdicts without reading (Scott 1955)."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON: estimates as ``{value, interval, prompts}``."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value.to_dict() if isinstance(value, Estimate) else value for name, value in given.items()}


def judge_bias(judged: pd.DataFrame, alpha: float) -> JudgeBias:
    """Measure it on the pairs of :func:`kellet.evaluation.endpoint_judge.shares`."""
    both = judged[judged["asked"] & judged["share"].notna()]
    share, first, last, people = (both[name].to_numpy(np.float64) for name in ("share", "first", "last", "people"))
    longer = np.sign((both["length_c"] - both["length_o"]).to_numpy(np.float64))
    uneven, known, decided = longer != 0, ~np.isnan(people), ~np.isnan(people) & (people != 0.5)
    preferred = np.where(people == 1, share, 1 - share)
    by_longer = np.where(longer > 0, share, 1 - share)
    people_by_longer = np.where(longer > 0, people, 1 - people)

    def rate(values: Any, where: Any) -> Estimate | None:
        kept = np.asarray(where, bool)
        if not kept.any():
            return None
        prompt, group = (both[name].to_numpy()[kept] for name in ("prompt_code", "group"))
        return win_rate(np.asarray(values, np.float64)[kept], prompt, alpha=alpha, group=group)

    everywhere = np.ones(len(both), bool)
    where_longer, where_shorter = (rate(preferred, decided & uneven & (people_by_longer == side)) for side in (1, 0))
    model, human = 0.5 + 0.5 * np.sign(share - 0.5), people[known]
    shares = pd.Series(np.concatenate([model[known], human])).value_counts(normalize=True).to_numpy()
    return JudgeBias(
        len(both),
        rate((first == 0.5) & (last == 0.5), everywhere),
        rate(first != last, everywhere),
        rate((first + 1 - last) / 2, everywhere),
        rate(by_longer, uneven),
        rate(people_by_longer, uneven & known),
        rate(preferred, decided),
        where_longer,
        where_shorter,
        _difference(where_longer, where_shorter),
        rate(model == people, known),
        float((shares**2).sum()) if known.any() else None,
    )


def sentences(bias: JudgeBias, other: str = "judge_human") -> list[str]:
    """What a reader should know about the judge, one sentence each."""
    if bias.order_dependent is None or bias.first_wins is None or bias.ties is None:
        return ["no pair has a verdict in both orders: nothing is known about the judge"]
    told = [
        f"position: the verdict turned with the order in {in_words(bias.order_dependent, 'share')} of {bias.pairs:,} "
        f"pairs, the answer that stood first won {in_words(bias.first_wins, 'share')} of the verdicts (50% without "
        f"bias); a pair that turned counts as a tie; {in_words(bias.ties, 'share')} are ties in both orders"
    ]
    if bias.longer_wins is not None:
        text = f"length: the longer answer won {in_words(bias.longer_wins, 'share')}"
        if bias.longer_wins_by_people is not None:
            text += f", by {other} {in_words(bias.longer_wins_by_people, 'share')} where it judged"
        told.append(text)
    if bias.length_preference is not None:
        points = bias.length_preference
        value, low, high = (f"{100 * item:+.1f}" for item in (points.value, points.low, points.high))
        told.append(f"length at equal verdict of {other}: being the longer one is worth {value} [{low}, {high}] points")
    elif bias.longer_wins is not None:
        told.append(
            f"whether that is a preference for length cannot be told: it takes {ENOUGH} prompts of which {other} "
            "prefers the longer answer, and as many of which it prefers the shorter"
        )
    if bias.agreement is not None:
        told.append(
            f"agreement: of what {other} prefers it prefers {in_words(bias.agreement, 'share')} (50% by chance)"
        )
    if bias.same_verdict is not None and bias.same_by_chance is not None:
        told.append(
            f"the same verdict as {other}, ties included, in {in_words(bias.same_verdict, 'share')} of "
            f"{bias.same_verdict.clusters} {bias.same_verdict.of}; chance alone would give "
            f"{100 * bias.same_by_chance:.1f}%"
        )
    return told


def _difference(one: Estimate | None, other: Estimate | None) -> Estimate | None:
    """One share less another; None where one of them is of too few prompts."""
    if one is None or other is None or min(one.clusters, other.clusters) < ENOUGH:
        return None
    # value ± √(distance of one's end² + distance of the other's opposite end²)
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Estimate(value, low, high, min(one.clusters, other.clusters), one.of)
