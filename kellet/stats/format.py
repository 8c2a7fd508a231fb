"""Figures as text: numbers by their unit, estimates with their intervals, tables with aligned columns."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from kellet.stats.bootstrap import Estimate

Unit = Literal["reward", "ratio", "share", "nats", "win rate", "reward per nat"]
Figure = Estimate | Mapping[str, Any]
"""An estimate, or its ``{value, interval}`` from a JSON file, where an end without bound is null."""


def number(value: float, unit: Unit) -> str:
    """``value`` in three digits; shares and win rates in percent, a ratio as a factor."""
    if not math.isfinite(value):
        return "unbounded"
    if unit in ("share", "win rate"):
        return f"{100 * value:.1f}%"
    if unit == "ratio":
        return f"{value:.3f}"
    text = f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"
    return text + (" nats" if unit == "nats" else "")


def value_and_interval(figure: Figure, write: Callable[[float], str], after_value: str = "", missing: str = "…") -> str:
    """``value [low, high]``, each number as ``write`` gives it, or ``missing`` where it is null or not finite."""
    if isinstance(figure, Estimate):
        figure = figure.to_dict()
    numbers = (figure["value"], *(figure.get("interval") or (None, None)))
    value, low, high = (missing if item is None or not math.isfinite(item) else write(item) for item in numbers)
    return f"{value}{after_value} [{low}, {high}]"


def in_words(figure: Figure, unit: Unit, missing: str = "unbounded") -> str:
    """``value [low, high]`` by :func:`number`; nats are named once, after the value."""
    nats = " nats" if unit == "nats" else ""
    return value_and_interval(figure, lambda item: number(item, unit).removesuffix(nats), nats, missing)


def rounded(figure: Figure, digits: int = 2, scale: float = 1.0, after_value: str = "", missing: str = "…") -> str:
    """``value [low, high]`` with ``digits`` decimals, without a negative zero."""
    return value_and_interval(figure, lambda item: f"{scale * item:z.{digits}f}", after_value, missing)


def percent(share: Figure, digits: int = 0, missing: str = "…") -> str:
    """``62% [60, 64]`` of a share."""
    return rounded(share, digits, 100.0, "%", missing)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of a table as lines of text: columns padded to their widest cell, two spaces between them."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
