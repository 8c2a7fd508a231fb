"""How one system's answers differ from another's to the same prompts: judges, rewards, length, KL, style.

Everything is b against a, paired and resampled by prompt (kellet/stats/bootstrap.py): a is the reference or the
baseline's policy, b the policy in question. Each interval has level ``gate.alpha`` by itself, without correction for
their number: of some thirty side by side a few will miss the truth.

Rewards of two reward models share neither unit nor zero, so rewards are compared only where one reward model scored the
answers of both systems.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from kellet.config.judgement import Gate
from kellet.evaluation.answers import Answers, pairs, pairs_scored_by, win_rate_by, wins
from kellet.gate import criteria
from kellet.gate.degeneration import repetitive
from kellet.stats.bootstrap import Estimate, Floats, mean_difference, paired_means, ratio_of_means
from kellet.stats.format import Unit
from kellet.stats.shares import count_difference, share_difference
from kellet.stats.style import Style, style
from kellet.stats.win_rate import LengthControlled, length_controlled, win_rate

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Effect:
    """One measure of b against a; ``estimate`` is None where it cannot be made, and ``why`` then gives the reason."""

    name: str
    title: str
    unit: Unit | Literal["count"]
    better: Better
    """Which way is better; empty where neither is."""
    no_difference: float
    """The value that means no difference: 0, or 1 for a ratio, or one half for a win rate."""
    estimate: Estimate | None
    why: str = ""

    @property
    def direction(self) -> int:
        """1 where b is shown above ``no_difference``, -1 where it is shown below, 0 where neither is shown."""
        if self.estimate is None:
            return 0
        return int(self.estimate.low > self.no_difference) - int(self.estimate.high < self.no_difference)

    @property
    def improved(self) -> bool | None:
        """Whether b is shown better (True) or worse (False); None where neither is shown or no direction is better."""
        if not self.better or not self.direction:
            return None
        return (self.direction > 0) == (self.better == "higher")

    def to_dict(self) -> dict[str, Any]:
        """``{value, interval, prompts}`` with title, unit and what is better; value null with ``why``."""
        figures = self.estimate.to_dict() if self.estimate else {"value": None, "interval": None, "prompts": None}
        return {**figures, "title": self.title, "unit": self.unit, "better": self.better or None, "why": self.why}


def effects(
    a: Answers, b: Answers, slopes: Answers, rewards: Mapping[str, tuple[Floats, Floats, Floats]], gate: Gate
) -> dict[str, Effect]:
    """Measure b against a.

    ``slopes`` are the reference's answers: the gain at equal length uses their length slope
    (kellet/stats/within_prompt.py). ``rewards`` has, by reward model, its rewards of the answers of a, of b and of
    ``slopes``.
    """
    results = [*_judges(a, b, gate), _length(a, b, gate), _kl(a, b, gate), *_shares(a, b, gate), *_styles(a, b, gate)]
    for model, (of_a, of_b, of_slopes) in rewards.items():
        scored = a._replace(reward=of_a), b._replace(reward=of_b), slopes._replace(reward=of_slopes)
        results += _rewards(model, *scored, gate)
    return {effect.name: effect for effect in results}


def judges_of(a: Answers, b: Answers) -> list[str]:
    """Judges that scored both answers of at least one pair."""
    return [name for name in b.judges if len(pairs_scored_by(a, b, name)[0])]


def _judges(a: Answers, b: Answers, gate: Gate) -> list[Effect]:
    results = []
    for name in judges_of(a, b):
        estimates = win_rate_by(a, b, name, gate)
        results += [
            Effect(f"{name}/win_rate", f"win rate by {name}", "win rate", "higher", 0.5, estimates["win_rate"]),
            Effect(f"{name}/gain", f"gain by {name}", "reward", "higher", 0.0, estimates["mean_gain"]),
        ]
        rows_a, rows_b = pairs_scored_by(a, b, name)
        won = wins(a.judges[name][rows_a], b.judges[name][rows_b])
        rate = length_controlled(won, a.length[rows_a], b.length[rows_b], a.prompt[rows_a], alpha=gate.alpha)
        title = f"win rate by {name} at equal length"
        results.append(_at_equal_length(f"{name}/equal_length_win_rate", title, rate))
    return results


def _at_equal_length(name: str, title: str, rate: LengthControlled) -> Effect:
    estimate = None
    if rate.controlled is not None and rate.interval is not None:
        estimate = Estimate(rate.controlled, *rate.interval, rate.clusters)
    return Effect(name, title, "win rate", "higher", 0.5, estimate, "" if estimate else rate.reason)


def _length(a: Answers, b: Answers, gate: Gate) -> Effect:
    change = ratio_of_means(a.length, b.length, a.prompt, b.prompt, **gate.intervals)
    return Effect("length", "length, as a factor", "ratio", "", 1.0, change)


def _kl(a: Answers, b: Answers, gate: Gate) -> Effect:
    """KL from the reference, nats per response: b's minus a's. The reference's own, null in the file, is 0."""
    title = "KL from the reference"
    of_a = np.zeros(len(a.kl)) if np.isnan(a.kl).all() else a.kl
    if np.isnan(b.kl).any() or np.isnan(of_a).any():
        return Effect("kl", title, "nats", "lower", 0.0, None, "kl_nats is missing in some rows")
    return Effect("kl", title, "nats", "lower", 0.0, mean_difference(of_a, b.kl, a.prompt, b.prompt, **gate.intervals))


def _shares(a: Answers, b: Answers, gate: Gate) -> list[Effect]:
    """Shares of answers with a defect: cut at the token limit (where known), or repeating themselves."""
    defects: dict[str, tuple[Any, Any]] = {"repetitive": (repetitive(a.response), repetitive(b.response))}
    if not np.isnan(np.concatenate([a.truncated, b.truncated])).any():
        defects = {"truncated": (a.truncated, b.truncated), **defects}
    return [
        Effect(
            name, f"{name} answers", "share", "lower", 0.0, share_difference(x, y, a.prompt, b.prompt, alpha=gate.alpha)
        )
        for name, (x, y) in defects.items()
    ]


def _styles(a: Answers, b: Answers, gate: Gate) -> list[Effect]:
    """Differences of the mean count per answer on each axis of kellet/stats/style.py."""
    counts = [np.array([style(*texts) for texts in zip(one.query, one.response, strict=True)], float) for one in (a, b)]
    return [
        Effect(
            f"style/{axis}",
            f"{axis}, counts an answer",
            "count",
            "",
            0.0,
            count_difference(np.diff(paired_means(x, y, a.prompt, b.prompt))[:, 0], **gate.intervals),
        )
        for axis, x, y in zip(Style._fields, counts[0].T, counts[1].T, strict=True)
    ]


def _rewards(model: str, a: Answers, b: Answers, slopes: Answers, gate: Gate) -> list[Effect]:
    """Gain, win rate and gain at equal length by one reward model; a, b and ``slopes`` hold its rewards."""
    by = f"by the reward model of {model}"
    gain = mean_difference(a.reward, b.reward, a.prompt, b.prompt, **gate.intervals)
    rows_a, rows_b = pairs(a, b)
    rate = win_rate(wins(a.reward[rows_a], b.reward[rows_b]), a.prompt[rows_a], alpha=gate.alpha)
    equal = criteria.equal_length(a, b, slopes, gate)
    split, level = equal.split, equal.model
    left, why = (split.remaining, "") if split and level.identified else (None, level.reason or "no length slope")
    return [
        Effect(f"reward/{model}/gain", f"gain {by}", "reward", "higher", 0.0, gain),
        Effect(f"reward/{model}/win_rate", f"win rate {by}", "win rate", "higher", 0.5, rate),
        Effect(f"reward/{model}/equal_length_gain", f"gain at equal length {by}", "reward", "higher", 0.0, left, why),
    ]
