"""remedies.html: which change helped, at which price; one self-contained page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kellet.remedies import text as texts
from kellet.remedies.effects import Effect
from kellet.remedies.measure import BASELINE, Measured, Remedies
from kellet.report import svg
from kellet.report.pages import colour, overlaid, write_page
from kellet.stats.bootstrap import Estimate


def write(out: Path, name: str, found: Remedies, histories: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write the page; ``histories`` are the training histories by arm."""
    colours = {item.arm.name: colour(number) for number, item in enumerate(found.arms)}
    level = f"{100 * (1 - 2 * found.gate.alpha):g}%"
    write_page(
        out,
        "remedies.html",
        name=name,
        chosen=found.chosen,
        baseline=BASELINE,
        ready=texts.ready(found),
        notes=[texts.NOT_COMPARABLE, texts.ONE_BY_ONE],
        level=level,
        prompts=found.prompts,
        judge=found.judge,
        plot=_plot(found, colours),
        front=found.front,
        arms=[_arm(item, found, colours) for item in found.arms],
        table=texts.table(found),
        compared=_compared(found, colours),
        curves=overlaid({item.arm.name: histories.get(item.arm.name, ()) for item in found.arms}, _levels(found)),
        inputs=[(key, str(value)) for key, value in found.inputs.items()],
    )


def _levels(found: Remedies) -> list[tuple[str, str, float]]:
    return [("budget", "budget", found.gate.kl_budget)]


def _arm(item: Measured, found: Remedies, colours: Mapping[str, str]) -> dict[str, Any]:
    arm = item.arm
    return {
        "name": arm.name,
        "colour": colours[arm.name],
        "verdict": arm.verdict,
        "headline": arm.stopped or arm.decision["headline"],
        "changes": arm.changes,
        "patch": [f"--set {key}={value}" for key, value in arm.patch.items()],
        "story": texts.story(item, found) if arm.name != BASELINE else [],
    }


def _plot(found: Remedies, colours: Mapping[str, str]) -> Markup | None:
    """Win rate by the judge against KL, an arm a bubble, its area the length of an answer."""
    dots = []
    for item in found.arms:
        effects = [item.reference.get(name) for name in ("kl", f"{found.judge}/win_rate", "length")]
        kl, rate, length = (one.estimate if one is not None else None for one in effects)
        if kl is not None and rate is not None and length is not None:
            share = (100 * rate.value, 100 * rate.low, 100 * rate.high)
            dots.append(svg.Bubble(item.arm.name, colours[item.arm.name], _ends(kl), share, length.value))
    if not dots:
        return None
    dots.append(svg.Bubble("reference", "reference", (0, 0, 0), (50, 50, 50), 1.0))
    places = found.places()
    front = [(0.0, 50.0)] + [(kl, 100 * rate) for name in found.front for kl, rate in [places[name] or (0.0, 0.0)]]
    title = "Wins by the judge against KL; area: length of an answer, that of the reference is 1"
    y_name = f"% wins over the reference by {found.judge}"
    return svg.bubbles(title, "KL from the reference, nats per response", y_name, dots, _rising(front))


def _rising(points: Sequence[svg.Point]) -> list[svg.Point]:
    """The points that no other beats both ways: what the reference at KL 0 leaves of the front."""
    return [(x, y) for x, y in points if not any(a <= x and b >= y and (a, b) != (x, y) for a, b in points)]


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _compared(found: Remedies, colours: Mapping[str, str]) -> list[dict[str, Any]]:
    """Each measure against the baseline, with every arm's interval on one axis."""
    groups = []
    for name, first in next((item.baseline for item in found.arms if item.baseline), {}).items():
        rows = [(item, item.baseline[name]) for item in found.arms if item.baseline]
        known = [value for _, effect in rows if effect.estimate for value in _ends(effect.estimate)]
        if not known:
            continue
        finite = [value for value in known if abs(value) < float("inf")]
        room = 0.25 * max((abs(value - first.still) for value in finite), default=0.0)
        domain = [*finite, first.still - room, first.still + room]
        lines = [
            {
                "name": item.arm.name,
                "colour": colours[item.arm.name],
                "words": texts.words(effect) if effect.estimate else effect.why,
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
    label = f"{effect.title}, {name} against the baseline: {texts.words(effect)}"
    return svg.interval(value, finite, effect.still, direction, effect.improved, label, domain=domain)
