"""remedies.html: what each recommended change did and what it cost, on one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kellet.remedies import text as texts
from kellet.remedies.effects import Effect
from kellet.remedies.measure import BASELINE, MeasuredArm, Remedies
from kellet.report import svg
from kellet.report.figures import colour, overlaid
from kellet.report.html import write_page
from kellet.stats.bootstrap import Estimate


def write(out: Path, name: str, remedies: Remedies, histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write the page ``out``; ``histories`` are the training histories by arm."""
    colours = {item.arm.name: colour(number) for number, item in enumerate(remedies.arms)}
    write_page(
        out,
        "remedies.html",
        ("report.css", "compare.css"),
        name=name,
        chosen=remedies.chosen,
        baseline=BASELINE,
        ready=texts.ready(remedies),
        notes=[texts.NOT_COMPARABLE, texts.ONE_BY_ONE],
        level=f"{100 * (1 - 2 * remedies.gate.alpha):g}%",
        prompts=remedies.prompts,
        plot=_plot(remedies, colours),
        arms=[_arm(item, remedies, colours) for item in remedies.arms],
        table=texts.table(remedies),
        compared=_compared(remedies, colours),
        curves=overlaid(
            {item.arm.name: histories.get(item.arm.name, ()) for item in remedies.arms},
            [("budget", "budget", remedies.gate.kl_budget)],
        ),
        inputs=[(key, str(value)) for key, value in remedies.inputs.items()],
    )


def _arm(item: MeasuredArm, remedies: Remedies, colours: Mapping[str, str]) -> dict[str, Any]:
    arm = item.arm
    return {
        "name": arm.name,
        "colour": colours[arm.name],
        "verdict": arm.verdict,
        "headline": arm.stopped or arm.decision["headline"],
        "changes": arm.changes,
        "patch": [f"--set {key}={value}" for key, value in arm.patch.items()],
        "story": texts.story(item, remedies) if arm.name != BASELINE else [],
    }


def _plot(remedies: Remedies, colours: Mapping[str, str]) -> Markup | None:
    """Win rate by the judge against KL: one bubble per arm, its area the mean length; None without an arm to draw."""
    dots = []
    for item in remedies.arms:
        effects = [item.reference.get(name) for name in ("kl", f"{remedies.judge}/win_rate", "length")]
        kl, rate, length = (one.estimate if one is not None else None for one in effects)
        if kl is not None and rate is not None and length is not None:
            share = (100 * rate.value, 100 * rate.low, 100 * rate.high)
            dots.append(svg.Bubble(item.arm.name, colours[item.arm.name], _ends(kl), share, length.value))
    if not dots:
        return None
    dots.append(svg.Bubble("reference", "reference", (0, 0, 0), (50, 50, 50), 1.0))
    points = remedies.points()
    front = [(0.0, 50.0)] + [(kl, 100 * rate) for name in remedies.front for kl, rate in [points[name] or (0.0, 0.0)]]
    title = "Wins by the judge against KL; area: length of an answer, that of the reference is 1"
    y_name = f"% wins over the reference by {remedies.judge}"
    return svg.bubbles(title, "KL from the reference, nats per response", y_name, dots, _rising(front))


def _rising(points: Sequence[svg.Point]) -> list[svg.Point]:
    """The points to which no other is better in both coordinates: the reference at KL 0 may beat arms of the front."""
    return [(x, y) for x, y in points if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)]


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _compared(remedies: Remedies, colours: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each measure against the baseline, with the intervals of all arms on one axis."""
    groups = []
    for name, first in next((item.baseline for item in remedies.arms if item.baseline), {}).items():
        rows = [(item, item.baseline[name]) for item in remedies.arms if item.baseline]
        values = [value for _, effect in rows if effect.estimate for value in _ends(effect.estimate)]
        if not values:
            continue
        finite = [value for value in values if abs(value) < float("inf")]
        room = 0.25 * max((abs(value - first.no_difference) for value in finite), default=0.0)
        domain = [*finite, first.no_difference - room, first.no_difference + room]
        lines = [
            {
                "name": item.arm.name,
                "colour": colours[item.arm.name],
                "text": texts.effect_text(effect) if effect.estimate else effect.why,
                "shown": _shown(effect),
                "drawing": _drawing(item.arm.name, effect, domain),
            }
            for item, effect in rows
        ]
        groups.append({"title": first.title, "better": first.better, "lines": lines})
    return groups


def _shown(effect: Effect) -> str:
    if effect.improved is None:
        return "moved" if effect.direction else ""
    return "better" if effect.improved else "worse"


def _drawing(name: str, effect: Effect, domain: Sequence[float]) -> Markup | str:
    if effect.estimate is None:
        return ""
    value, *ends = _ends(effect.estimate)
    direction = {"higher": "above", "lower": "at most", "": ""}[effect.better]
    finite = [end if abs(end) < float("inf") else None for end in ends]
    label = f"{effect.title}, {name} against the baseline: {texts.effect_text(effect)}"
    return svg.interval(value, finite, effect.no_difference, direction, effect.improved, label, domain=domain)
