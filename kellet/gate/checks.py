"""The records of the gate: a check holds one estimate against one threshold, and a criterion is one or more checks.

A check has three outcomes: True (shown to hold), False (shown to be violated: the opposite one-sided bound is beyond
the threshold), None (neither is shown). Intervals are two-sided at 1 - 2·alpha, so each end is a one-sided bound at
level alpha.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from scipy.stats import norm

from kellet.stats.bootstrap import Estimate
from kellet.stats.format import Unit, in_words, number

MIN_PROMPTS = 10
"""With fewer prompts than this nothing is shown, whatever the interval says."""
POWER = 0.8
"""The number of prompts reported as needed shows the result with this probability, if the estimate is the truth."""

Direction = Literal["above", "at most"]


class Threshold(NamedTuple):
    """What a check wants. 'above': the interval's low end > ``limit``; 'at most': its high end <= ``limit``."""

    check: str
    """The check's name in gate.json."""
    limit: float
    direction: Direction
    unit: Unit


@dataclass(frozen=True)
class GateCheck:
    """One estimate against one :class:`Threshold`, whose four fields come first."""

    name: str
    threshold: float
    direction: Direction
    unit: Unit
    estimate: Estimate | None
    """None where nothing could be estimated."""
    passed: bool | None
    why: str
    needed_prompts: int | None = None
    """Prompts that would decide a check that is not shown either way, where more prompts can."""

    def softened(self, why: str) -> "GateCheck":
        """Turn a violation into 'not shown', adding ``why`` to the reason."""
        return replace(self, passed=None, why=f"{self.why} {why}")

    def to_dict(self) -> dict[str, Any]:
        """As in gate.json; value and interval are null where nothing could be estimated."""
        return {
            "name": self.name,
            "value": self.estimate.value if self.estimate else None,
            "interval": [_finite(self.estimate.low), _finite(self.estimate.high)] if self.estimate else None,
            "prompts": self.estimate.clusters if self.estimate else None,
            "threshold": self.threshold,
            "direction": self.direction,
            "unit": self.unit,
            "passed": self.passed if self.estimate else None,
            "why": self.why,
            "needed_prompts": self.needed_prompts,
        }


@dataclass(frozen=True)
class Criterion:
    """One criterion of the gate; it passes when all its checks do. No checks: the evaluation lacks what it needs."""

    name: str
    required: bool
    checks: tuple[GateCheck, ...]
    note: str = ""

    @property
    def counted(self) -> bool:
        """Whether the verdict depends on it: it is required, or the evaluation had what it needs."""
        return self.required or bool(self.checks)

    @property
    def passed(self) -> bool | None:
        """False when a check is shown violated, else None when one is not shown, else True."""
        values = [check.passed for check in self.checks]
        if False in values:
            return False
        return None if None in values or not values else True

    @property
    def deciding(self) -> GateCheck | None:
        """The check that made ``passed`` what it is: the first violated, else the first not shown, else the first."""
        for wanted in (False, None):
            for check in self.checks:
                if check.passed is wanted:
                    return check
        return self.checks[0] if self.checks else None

    @property
    def why(self) -> str:
        """The reasons of the checks that decided, with numbers, and the note."""
        reasons = list(dict.fromkeys(check.why for check in self.checks if check.passed is self.passed))
        if not self.checks:
            reasons = ["Absent: " + ("cannot tell, and it is required." if self.required else "optional, not counted.")]
        return " ".join([*reasons, *([self.note] if self.note else [])])

    def to_dict(self) -> dict[str, Any]:
        """As in gate.json: the deciding check's value, interval and threshold, and all checks."""
        check = self.deciding
        shown = check.to_dict() if check else {"value": None, "interval": None, "threshold": None, "unit": None}
        return {
            "name": self.name,
            "value": shown["value"],
            "interval": shown["interval"],
            "threshold": shown["threshold"],
            "unit": shown["unit"],
            "passed": self.passed,
            "why": self.why,
            "required": self.required,
            "counted": self.counted,
            "checks": [item.to_dict() for item in self.checks],
        }


def check_threshold(
    threshold: Threshold,
    subject: str,
    estimate: Estimate,
    alpha: float,
    needed: int | None = None,
    few: int | None = None,
) -> GateCheck:
    """Hold an estimate, whose interval is at ``alpha``, against its threshold.

    ``subject`` begins the sentence: 'mean reward gain'. ``needed`` is the number of prompts without which the interval
    has no end on the side of the threshold, ``few`` the number that is given when there are fewer than MIN_PROMPTS.
    """
    subject = subject[0].upper() + subject[1:]
    result = f"{subject} {in_words(estimate, threshold.unit)} over {estimate.clusters} {estimate.of}"
    direction, limit = threshold.direction, number(threshold.limit, threshold.unit)
    if math.isnan(estimate.value):
        return GateCheck(*threshold, None, None, f"{subject} cannot be told from these answers.")
    if estimate.clusters < MIN_PROMPTS:
        enough = max(MIN_PROMPTS, few or prompts_needed(estimate, threshold.limit, alpha) or MIN_PROMPTS)
        why = f"{result}: cannot tell from fewer than {MIN_PROMPTS} {estimate.of}; about {enough:,} would show which."
        if estimate.of == "clusters":
            why += " Prompts with the same text, or with the same value in the column cluster, are one cluster."
        return GateCheck(*threshold, estimate, None, why, enough)
    if direction == "above":
        holds, violated = estimate.low > threshold.limit, estimate.high <= threshold.limit
    else:
        holds, violated = estimate.high <= threshold.limit, estimate.low > threshold.limit
    if holds:
        return GateCheck(*threshold, estimate, True, f"{result}: shown to be {direction} {limit}.")
    if violated:
        opposite = "at most" if direction == "above" else "above"
        why = f"{result}: shown to be {opposite} {limit}, wanted {direction} {limit}."
        return GateCheck(*threshold, estimate, False, why)
    prompts = needed or prompts_needed(estimate, threshold.limit, alpha)
    why = f"{result}: not shown to be {direction} {limit}, nor the opposite"
    why += f"; about {prompts:,} {estimate.of} would show which." if prompts else "; it lies on the limit itself."
    return GateCheck(*threshold, estimate, None, why, prompts)


def cannot_tell(threshold: Threshold, why: str) -> GateCheck:
    """Make a check whose input is missing."""
    return GateCheck(*threshold, None, None, f"Cannot tell: {why}.")


def prompts_needed(estimate: Estimate, threshold: float, alpha: float) -> int | None:
    """Prompts at which the bound clears the threshold with probability POWER, if the estimate is the truth.

    n·(h/d·(z_alpha + z_power)/z_alpha)², h the half-width on the side of the threshold and d the distance to it, since
    intervals shrink with √n. None when d is less than a thousandth of h, so that no feasible number is enough.
    """
    distance = abs(estimate.value - threshold)
    half = estimate.value - estimate.low if estimate.value > threshold else estimate.high - estimate.value
    if not math.isfinite(half) or distance * 1e3 <= half:
        return None
    z = float(norm.ppf(1 - alpha))
    factor = (half / distance * (z + float(norm.ppf(POWER))) / z) ** 2
    return max(estimate.clusters + 1, math.ceil(estimate.clusters * factor))


def comparisons_needed(distance: float, rate: float, alpha: float) -> int:
    """Comparisons, one a prompt, that show a win rate of ``rate`` to be above a limit ``distance`` below it.

    (z_alpha + z_power)²·rate(1 - rate)/distance², with probability POWER.
    """
    z = float(norm.ppf(1 - alpha) + norm.ppf(POWER))
    return math.ceil(z**2 * rate * (1 - rate) / distance**2)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
