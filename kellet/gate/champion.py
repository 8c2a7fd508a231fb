"""The candidate against the champion, which a promoted candidate would replace."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kellet.config.judgement import Gate
from kellet.evaluation.answers import Answers, answered_by, intervals, win_rate_by
from kellet.gate import criteria
from kellet.gate.checks import GateCheck, Threshold, check_threshold
from kellet.stats.bootstrap import mean_difference


@dataclass(frozen=True)
class ChampionComparison:
    """The candidate against the champion, which a promoted candidate would replace.

    The candidate need not be shown better, or weekly retraining on little new data could never be promoted. A candidate
    that is shown worse, in reward at equal length or by the judge, is blocked.
    """

    reward_gain: GateCheck
    """Information; it does not decide."""
    checks: tuple[GateCheck, ...]
    """The checks that decide: passed is False when the candidate is shown worse."""

    @property
    def shown_worse(self) -> bool:
        """Whether the whole interval of a deciding check lies below its threshold; being equal is not worse."""
        return any(c.passed is False and c.estimate is not None and c.estimate.high < c.threshold for c in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """As in gate.json."""
        return {
            "shown_worse": self.shown_worse,
            "reward_gain": self.reward_gain.to_dict(),
            "checks": [check.to_dict() for check in self.checks],
        }


def against_champion(answers: Mapping[str, Answers], gate: Gate) -> ChampionComparison:
    """Compare reward, reward at equal length and ``gate.judge``; only the last two decide.

    The length slope is the reference's here too. Where lengths do not overlap, equal length decides nothing.
    """
    champion = answers["champion"]
    candidate, reference = (answered_by(answers[name], champion) for name in ("candidate", "reference"))
    sides = champion.reward, candidate.reward, champion.prompt, candidate.prompt
    gain = mean_difference(*sides, **intervals(champion, gate))
    threshold = Threshold("reward_gain", 0.0, "above", "reward")
    over = check_threshold(threshold, "mean reward gain over the champion", gain, gate.alpha)
    by_name = {
        check.name: check
        for check in criteria.controlled_gain(criteria.equal_length(champion, candidate, reference, gate), gate).checks
    }
    # The straight line has the smaller interval; without two answers to a prompt there is none.
    checks = [by_name[name] for name in ("equal_length_gain", "matched_length_gain") if name in by_name][:1]
    rate = win_rate_by(champion, candidate, gate.judge, gate).get("win_rate")
    if rate is not None:
        threshold = Threshold("judge_win_rate", 0.5, "above", "win rate")
        checks.append(check_threshold(threshold, f"win rate over the champion by {gate.judge}", rate, gate.alpha))
    return ChampionComparison(over, tuple(checks))
