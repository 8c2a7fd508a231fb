"""The reward model's card as Markdown: what it says first, what it pays for, how sure it is."""

from collections.abc import Mapping
from typing import Any

STYLES = {
    "courtesy": "a courtesy sentence",
    "structure": "a list item or heading",
    "hedging": "a hedging word",
    "certainty": "a word of over-confidence",
    "echo": "three words of the prompt repeated",
    "repetition": "three of its own words repeated",
}


def card_text(card: Mapping[str, Any]) -> str:
    """Markdown of what ``reward_card`` measured; a figure that cannot be told is ``?``."""
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
        *[f"| {STYLES[axis]}, at equal length | {_figure(found)} |" for axis, found in card["style_slopes"].items()],
        "",
        "## How sure it is",
        *_sureness(card),
    ]
    return "\n".join(lines) + "\n"


def _sureness(card: Mapping[str, Any]) -> list[str]:
    found = card["calibration"]
    lines = [
        f"Log loss {found['log_loss']:.3f} nats a pair (a coin: 0.693). Best temperature "
        f"{_figure(found['temperature'])} (above 1: over-confident); the rewards are divided by "
        f"{card['temperature']:.2f}.",
        f"It is sure of more than it gets right by {_share(found['overconfidence'])} of the pairs.",
        f"Expected calibration error {_share(found['expected_error'])}; a calibrated model would show "
        f"{100 * found['expected_error_by_chance']:.1f}% by chance.",
    ]
    if card["disagreement"] is not None:
        lines.append(f"Standard deviation of the reward between members: {_figure(card['disagreement'])}.")
    rows = [
        f"| {100 * row['confidence']:.1f}% | {_share(row['right'])} | {row['pairs']} |" for row in found["reliability"]
    ]
    return [*lines, "", "| confidence | right | pairs |", "|---|---|---|", *rows]


def _share(estimate: Mapping[str, Any] | None) -> str:
    return _figure(estimate, 100, "%")


def _figure(estimate: Mapping[str, Any] | None, scale: float = 1, unit: str = "") -> str:
    if estimate is None:
        return "?"
    value, low, high = (
        "?" if end is None or end != end else f"{scale * end:.{1 if scale > 1 else 3}f}"
        for end in (estimate["value"], *estimate["interval"])
    )
    return f"{value}{unit} [{low}, {high}]"
