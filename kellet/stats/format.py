"""Figures in words: numbers by their unit, estimates with their intervals."""

import math
from typing import Literal

from kellet.stats.bootstrap import Estimate

Unit = Literal["reward", "ratio", "share", "nats", "win rate", "reward per nat"]


def number(value: float, unit: Unit) -> str:
    """``value`` as a reader wants it: three digits, shares in percent, a ratio as a factor."""
    if not math.isfinite(value):
        return "unbounded"
    if unit in ("share", "win rate"):
        return f"{100 * value:.1f}%"
    if unit == "ratio":
        return f"{value:.3f}"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"
    return text + (" nats" if unit == "nats" else "")


def in_words(estimate: Estimate, unit: Unit) -> str:
    """``value [low, high]``."""
    ends = (number(end, unit).removesuffix(" nats") for end in (estimate.low, estimate.high))
    return f"{number(estimate.value, unit)} [{', '.join(ends)}]"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def told(estimate: Estimate, digits: int = 2, scale: float = 1.0, sign: str = "") -> str:
    """``value [low, high]`` with the given decimals; ``sign`` follows the value."""
    value, low, high = (
        f"{round(scale * item, digits) + 0.0:.{digits}f}" if math.isfinite(item) else "…"
        for item in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value}{sign} [{low}, {high}]"


def percent(estimate: Estimate, digits: int = 0) -> str:
    """``62% [60, 64]`` of a share."""
    return told(estimate, digits, 100.0, "%")
