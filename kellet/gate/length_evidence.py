"""How far length alone explains each result, and the results among pairs of matched length.

A judge or a reward that agrees with 'the longer one is better' in 80% of comparisons has shown little beyond length.
The gate reports these figures beside its verdict so that a reader can see this; they do not enter the verdict.

Legend: a pair is the answers of reference (a) and candidate (b) to the same prompt and sample number.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kellet.config.judgement import Gate
from kellet.evaluation.answers import Answers, pairs, pairs_scored_by, wins
from kellet.gate.checks import MIN_PROMPTS
from kellet.gate.criteria import EqualLength
from kellet.stats.bootstrap import Codes, Estimate, Floats, mean_difference
from kellet.stats.format import in_words
from kellet.stats.local_regression import LocalGain
from kellet.stats.win_rate import LengthControlled, length_controlled, win_rate
from kellet.stats.within_prompt import EqualLengthGain


@dataclass(frozen=True)
class LengthAlone:
    """The win rate by one score (the reward or a judge) beside the win rate that length alone would give."""

    by: str
    """'reward', or the judge's column."""
    win_rate: Estimate
    """Share of pairs in which b's score is higher."""
    longer: Estimate
    """Share of pairs in which b is longer: the win rate if length alone decided."""
    agreement: Estimate
    """Share of pairs in which the longer answer has the higher score; ties count half, and 0.5 means no relation."""
    equal_length: LengthControlled

    def to_dict(self) -> dict[str, Any]:
        """All fields by name."""
        names = ("win_rate", "longer", "agreement", "equal_length")
        return {"by": self.by, **{name: getattr(self, name).to_dict() for name in names}}


@dataclass(frozen=True)
class Stratum:
    """Pairs of matched length whose mean length lies in [shortest, longest] tokens."""

    shortest: float
    longest: float
    pairs: int
    gain: Estimate
    win_rate: Estimate

    def to_dict(self) -> dict[str, Any]:
        """All fields by name."""
        tokens = {"shortest": self.shortest, "longest": self.longest, "pairs": self.pairs}
        return {**tokens, "gain": self.gain.to_dict(), "win_rate": self.win_rate.to_dict()}


@dataclass(frozen=True)
class LengthEvidence:
    """The gain split by length, what length alone gives beside each score, and the pairs of matched length."""

    decomposition: EqualLengthGain | None
    alone: tuple[LengthAlone, ...]
    matched: Stratum | None
    """All pairs whose lengths differ by at most ``length_tolerance``."""
    strata: tuple[Stratum, ...]
    """The same pairs in thirds by length; a third with fewer than MIN_PROMPTS prompts is left out."""
    sentence: str
    local: LocalGain | None = None
    """The local regression that decides controlled_gain, with its curve."""

    def to_dict(self) -> dict[str, Any]:
        """As gate.json has it under ``length``."""
        return {
            "decomposition": self.decomposition.to_dict() if self.decomposition else None,
            "alone": [item.to_dict() for item in self.alone],
            "matched": self.matched.to_dict() if self.matched else None,
            "strata": [item.to_dict() for item in self.strata],
            "local": self.local.to_dict() if self.local else None,
            "sentence": self.sentence,
        }


def length_evidence(a: Answers, b: Answers, equal: EqualLength, gate: Gate) -> LengthEvidence:
    """Collect the evidence; ``equal`` is what the criterion controlled_gain rests on."""
    split = equal.split
    rows_a, rows_b = pairs(a, b)
    alone = [_length_alone("reward", a.reward, b.reward, a, b, (rows_a, rows_b), gate)]
    for name in a.judges:
        scored = pairs_scored_by(a, b, name)
        if len(scored[0]):
            alone.append(_length_alone(name, a.judges[name], b.judges[name], a, b, scored, gate))
    middle = (a.length[rows_a] + b.length[rows_b]) / 2
    close = np.abs(b.length[rows_b] - a.length[rows_a]) <= gate.length_tolerance * middle
    matched = _stratum(a, b, rows_a[close], rows_b[close], gate)
    strata = []
    if matched is not None:
        thirds = np.digitize(middle, np.quantile(middle[close], [1 / 3, 2 / 3]), right=True)
        strata = [_stratum(a, b, rows_a[close & (thirds == k)], rows_b[close & (thirds == k)], gate) for k in range(3)]
    kept = tuple(item for item in strata if item is not None)
    sentence = _sentence(split, alone[0], matched)
    return LengthEvidence(split, tuple(alone), matched, kept, sentence, equal.local)


def _length_alone(
    by: str, score_a: Floats, score_b: Floats, a: Answers, b: Answers, rows: tuple[Codes, Codes], gate: Gate
) -> LengthAlone:
    """Compare one score of each system, over the pairs of ``rows``, with the lengths of the same answers."""
    rows_a, rows_b = rows
    length_a, length_b, prompt = a.length[rows_a], b.length[rows_b], a.prompt[rows_a]
    group = None if a.group is None else a.group[rows_a]
    won, longer = wins(score_a[rows_a], score_b[rows_b]), wins(length_a, length_b)
    agrees = 0.5 + 2 * (won - 0.5) * (longer - 0.5)
    settings: dict[str, Any] = {"alpha": gate.alpha, "group": group}
    rate, length, agreement = (win_rate(values, prompt, **settings) for values in (won, longer, agrees))
    controlled = length_controlled(won, length_a, length_b, prompt, **settings)
    return LengthAlone(by, rate, length, agreement, controlled)


def _stratum(a: Answers, b: Answers, rows_a: Codes, rows_b: Codes, gate: Gate) -> Stratum | None:
    """Results of these pairs; None with fewer than MIN_PROMPTS prompts."""
    prompt = a.prompt[rows_a]
    if len(np.unique(prompt)) < MIN_PROMPTS:
        return None
    middle = (a.length[rows_a] + b.length[rows_b]) / 2
    group = None if a.group is None else a.group[rows_a]
    gain = mean_difference(a.reward[rows_a], b.reward[rows_b], prompt, prompt, **gate.intervals, group=group)
    rate = win_rate(wins(a.reward[rows_a], b.reward[rows_b]), prompt, alpha=gate.alpha, group=group)
    return Stratum(float(middle.min()), float(middle.max()), len(rows_a), gain, rate)


def _sentence(split: EqualLengthGain | None, reward: LengthAlone, matched: Stratum | None) -> str:
    words = []
    if split is not None:
        part = f" ({in_words(split.share, 'share')} of it)" if split.share.finite else ""
        words.append(
            f"Length explains {in_words(split.explained, 'reward')} of the reward gain{part}, and "
            f"{in_words(split.remaining, 'reward')} is left at equal length."
        )
    words.append(
        f"The candidate wins {in_words(reward.win_rate, 'win rate')} by reward and would win "
        f"{in_words(reward.longer, 'win rate')} if length alone decided; the longer answer has the higher reward in "
        f"{in_words(reward.agreement, 'share')} of comparisons."
    )
    if matched is not None:
        words.append(f"Among {matched.pairs:,} pairs of matched length the gain is {in_words(matched.gain, 'reward')}.")
    return " ".join(words)
