"""The reward model's card as Markdown: warnings first, then what the reward pays for and how sure it is."""

from collections.abc import Mapping
from typing import Any

from kellet.stats.format import percent, value_and_interval

CARD_ALPHA = 0.05
"""One-sided level of each end of the card's intervals: together they are 90%. Here, so that who only reads a card need
not load torch."""
STYLES = {
    "courtesy": "a courtesy sentence",
    "structure": "a list item or heading",
    "hedging": "a hedging word",
    "certainty": "a word of over-confidence",
    "echo": "three words of the prompt repeated",
    "repetition": "three of its own words repeated",
}
"""One more of each style axis, in words."""


def card_text(card: Mapping[str, Any]) -> str:
    """Markdown of what ``reward_card`` measured; a figure that could not be measured is ``?``."""
    lines = [
        "# Reward model card",
        "",
        f"On {card['pairs']:,} held-out pairs of {card['prompts']:,} prompts; brackets are 90% intervals over prompts.",
        f"Length control: {card['length_control']}. What each figure is: docs/reference/metrics.md of Kellet.",
        "",
        *[f"- **Warning:** {warning}" for warning in card["warnings"] or ["none"]],
        "",
        "## What it predicts",
        "| | share of pairs |",
        "|---|---|",
        f"| accuracy, all that was fitted | {_share(card['accuracy'])} |",
        f"| always the longer one | {_share(card['length_baseline'])} |",
        f"| lift over it | {_share(card['lift'])} |",
        f"| accuracy of the reward alone | {_share(card['accuracy_reward'])} |",
        f"| accuracy of the reward where the longer one was rejected | {_share(card['accuracy_longer_rejected'])} |",
        "",
        "## What it pays for",
        "| change | reward, logits of preference |",
        "|---|---|",
        f"| one more token, within a pair | {_figure(card['length_slope'])} |",
        f"| a courtesy sentence appended (probe) | {_figure(card['filler_probe'])} |",
        f"| the last sentence cut off (probe) | {_figure(card['truncation_probe'])} |",
        *[f"| {STYLES[axis]}, at equal length | {_figure(slope)} |" for axis, slope in card["style_slopes"].items()],
        "",
        "## How sure it is",
        *_calibration_lines(card),
    ]
    return "\n".join(lines) + "\n"


def _calibration_lines(card: Mapping[str, Any]) -> list[str]:
    calibration = card["calibration"]
    lines = [
        f"Log loss {calibration['log_loss']:.3f} nats a pair (a coin: 0.693). Best temperature "
        f"{_figure(calibration['temperature'])} (above 1: over-confident); the rewards are divided by "
        f"{card['temperature']:.2f}.",
        f"It is sure of more than it gets right by {_share(calibration['overconfidence'])} of the pairs.",
        f"Expected calibration error {_share(calibration['expected_error'])}; a calibrated model would show "
        f"{100 * calibration['expected_error_by_chance']:.1f}% by chance.",
    ]
    if card["disagreement"] is not None:
        lines.append(f"Standard deviation of the reward between members: {_figure(card['disagreement'])}.")
    rows = [
        f"| {100 * row['confidence']:.1f}% | {_share(row['right'])} | {row['pairs']} |"
        for row in calibration["reliability"]
    ]
    return [*lines, "", "| confidence | right | pairs |", "|---|---|---|", *rows]


def _share(estimate: Mapping[str, Any] | None) -> str:
    return "?" if estimate is None else percent(estimate, 1, missing="?")


def _figure(estimate: Mapping[str, Any] | None) -> str:
    return "?" if estimate is None else value_and_interval(estimate, "{:.3f}".format, missing="?")
