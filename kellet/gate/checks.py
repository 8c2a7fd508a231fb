"""The records of the gate's criteria: a check is one interval against one threshold, a criterion is all its checks.

Three values: True is shown to hold, False is shown to be violated (the opposite one-sided bound is on the wrong side),
None is neither. ``interval`` is two-sided 1 - 2·alpha, each end a one-sided bound at alpha.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from scipy.stats import norm

from kellet.stats.bootstrap import Estimate
from kellet.stats.format import Unit, _finite, in_words, number

MIN_PROMPTS = 10
"""With fewer prompts than this nothing is shown, whatever the interval says."""
POWER = 0.8
"""The number of prompts that is said to be needed would show it this often, were the estimate the truth."""

Direction = Literal["above", "at most"]


@dataclass(frozen=True)
class Check:
    """One estimate against one threshold. ``direction``: 'above' wants low > threshold, 'at most' high <= threshold."""

    name: str
    estimate: Estimate | None
    threshold: float
    direction: Direction
    unit: Unit
    passed: bool | None
    why: str
    needed_prompts: int | None = None
    """Prompts that would decide it, when more prompts can."""

    def softened(self, why: str) -> "Check":
        """Make a violation 'not shown', and say why."""
        return replace(self, passed=None, why=f"{self.why} {why}")

    def to_dict(self) -> dict[str, Any]:
        """As in gate.json; value and interval are null where nothing could be estimated."""
        known = self.estimate is not None
        return {
            "name": self.name,
            "value": self.estimate.value if self.estimate else None,
            "interval": [_finite(self.estimate.low), _finite(self.estimate.high)] if self.estimate else None,
            "prompts": self.estimate.clusters if self.estimate else None,
            "threshold": self.threshold,
            "direction": self.direction,
            "unit": self.unit,
            "passed": self.passed if known else None,
            "why": self.why,
            "needed_prompts": self.needed_prompts,
        }


@dataclass(frozen=True)
class Criterion:
    """A criterion of DESIGN's table; it passes when every check does. No checks: it is absent from the file."""

    name: str
    required: bool
    checks: tuple[Check, ...]
    note: str = ""

    @property
    def counted(self) -> bool:
        """Whether it takes part in the verdict: required, or there."""
        return self.required or bool(self.checks)

    @property
    def passed(self) -> bool | None:
        """False when a check is shown violated, else None when one is not shown, else True."""
        values = [check.passed for check in self.checks]
        if False in values:
            return False
        return None if None in values or not values else True

    @property
    def deciding(self) -> Check | None:
        """The check that made ``passed`` what it is: the first violated, else the first not shown, else the first."""
        for wanted in (False, None):
            for check in self.checks:
                if check.passed is wanted:
                    return check
        return self.checks[0] if self.checks else None

    @property
    def why(self) -> str:
        """A sentence with numbers."""
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


def judge(
    name: str,
    subject: str,
    estimate: Estimate,
    threshold: float,
    direction: Direction,
    unit: Unit,
    alpha: float,
    needed: int | None = None,
) -> Check:
    """Hold an estimate against its threshold. ``subject`` begins the sentence: 'mean reward gain'.

    ``needed`` is the number of prompts without which the interval has no end on the side that matters.
    """
    subject = subject[0].upper() + subject[1:]
    told = f"{subject} {in_words(estimate, unit)} over {estimate.clusters} prompts"
    limit = number(threshold, unit)
    if math.isnan(estimate.value):
        return Check(name, None, threshold, direction, unit, None, f"{subject} cannot be told from these answers.")
    if estimate.clusters < MIN_PROMPTS:
        why = f"{told}: cannot tell, at least {MIN_PROMPTS} prompts are needed."
        return Check(name, estimate, threshold, direction, unit, None, why, MIN_PROMPTS)
    if direction == "above":
        holds, violated = estimate.low > threshold, estimate.high <= threshold
    else:
        holds, violated = estimate.high <= threshold, estimate.low > threshold
    if holds:
        return Check(name, estimate, threshold, direction, unit, True, f"{told}: shown to be {direction} {limit}.")
    if violated:
        opposite = "at most" if direction == "above" else "above"
        why = f"{told}: shown to be {opposite} {limit}, wanted {direction} {limit}."
        return Check(name, estimate, threshold, direction, unit, False, why)
    prompts = needed or prompts_needed(estimate, threshold, alpha)
    why = f"{told}: not shown to be {direction} {limit}, nor the opposite"
    why += f"; about {prompts:,} prompts would show which." if prompts else "; it lies on the limit itself."
    return Check(name, estimate, threshold, direction, unit, None, why, prompts)


def cannot_tell(name: str, threshold: float, direction: Direction, unit: Unit, why: str) -> Check:
    """Make a check whose input is missing."""
    return Check(name, None, threshold, direction, unit, None, f"Cannot tell: {why}.")


def prompts_needed(estimate: Estimate, threshold: float, alpha: float) -> int | None:
    """Prompts at which the bound would clear the threshold with probability POWER, were the estimate the truth.

    n·(h/d·(z_alpha + z_power)/z_alpha)², h the half-width on the side of the threshold and d the distance to it, since
    intervals shrink with √n. None when the estimate is on the threshold, or when it would take a thousand times more.
    """
    distance = abs(estimate.value - threshold)
    half = estimate.value - estimate.low if estimate.value > threshold else estimate.high - estimate.value
    if not math.isfinite(half) or distance * 1e3 <= half:
        return None
    z = float(norm.ppf(1 - alpha))
    factor = (half / distance * (z + float(norm.ppf(POWER))) / z) ** 2
    return max(estimate.clusters + 1, math.ceil(estimate.clusters * factor))


def judged_needed(distance: float, rate: float, alpha: float) -> int:
    """Prompts, one comparison each, that show a win rate ``rate`` to be above one that is ``distance`` lower.

    (z_alpha + z_power)²·rate(1 - rate)/distance², with probability POWER.
    """
    z = float(norm.ppf(1 - alpha) + norm.ppf(POWER))
    return math.ceil(z**2 * rate * (1 - rate) / distance**2)
