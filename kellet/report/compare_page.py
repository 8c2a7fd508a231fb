"""compare.html: several runs side by side (kellet/report/compare.py reads them)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kellet.report import svg
from kellet.report.compare import NOTHING, cell, differing, estimate, notes, summary
from kellet.report.pages import colour, overlaid, write_page
from kellet.report.run import Run
from kellet.stats.format import number, percent, rounded

CARD = {
    "accuracy": "accuracy on held-out labels",
    "accuracy_reward": "accuracy of the reward alone",
    "lift": "lift over 'always the longer one'",
    "length_slope": "reward for ten more tokens",
    "filler_probe": "reward for one more courtesy",
}


def write_comparison(out: Path, runs: Sequence[Run]) -> None:
    """Write the page ``out``."""
    levels = [("budget", "budget", float(runs[0].decision["config"]["kl_budget"]))]
    alphas = {float(run.decision["config"]["alpha"]) for run in runs}
    write_page(
        out,
        "compare.html",
        runs=[(run.name, colour(number), run.decision) for number, run in enumerate(runs)],
        level="/".join(f"{100 * (1 - 2 * alpha):g}%" for alpha in sorted(alphas)),
        notes=notes(runs),
        summary=summary(runs),
        criteria=_criteria(runs),
        judges=_judges(runs),
        styles=_styles(runs),
        causes=_causes(runs),
        card=_card(runs),
        params=differing([run.params for run in runs]),
        missing=[run.name for run in runs if not run.params],
        curves=overlaid({run.name: run.history for run in runs}, levels),
    )


def _criteria(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Each check with every run's interval on one axis."""
    keys = dict.fromkeys(key for run in runs for key in run.checks())
    groups = []
    for key in keys:
        checks = [(number, run.name, run.checks().get(key)) for number, run in enumerate(runs)]
        known = [check for _, _, check in checks if check is not None]
        ends = _domain(known)
        lines = [
            {
                "name": name,
                "colour": colour(place),
                "passed": check["passed"] if check else None,
                "words": cell(check),
                "drawing": _drawn(name, check, ends) if check else "",
            }
            for place, name, check in checks
        ]
        first = known[0]
        wanted = {f"{check['direction']} {number(float(check['threshold']), check['unit'])}" for check in known}
        groups.append(
            {"criterion": key[0], "check": first["name"], "wanted": " / ".join(sorted(wanted)), "lines": lines}
        )
    return groups


def _domain(checks: Sequence[Mapping[str, Any]]) -> list[float]:
    """What the axis of all these checks has to reach: their ends, and room around their thresholds."""
    ends = [end for check in checks for end in (check["value"], *(check["interval"] or ())) if end is not None]
    limits = [float(check["threshold"]) for check in checks]
    room = 0.25 * max((abs(end - limit) for end in ends for limit in limits), default=1.0)
    return [*ends, min(limits) - room, max(limits) + room]


def _drawn(name: str, check: Mapping[str, Any], domain: Sequence[float]) -> Markup:
    label = f"{check['name']}, {name}: {cell(check)}"
    threshold, direction = float(check["threshold"]), str(check["direction"])
    return svg.interval(check["value"], check["interval"], threshold, direction, check["passed"], label, domain=domain)


def _judges(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    names = dict.fromkeys(name for run in runs for name in run.decision.get("judges", {}))
    rows = []
    for name in names:
        found = [run.decision.get("judges", {}).get(name) for run in runs]
        rows.append((f"{name}, win rate", [percent(estimate(one["win_rate"])) if one else NOTHING for one in found]))
        rows.append((f"{name}, mean gain", [rounded(estimate(one["mean_gain"])) if one else NOTHING for one in found]))
    return rows


def _styles(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """Shift on each style axis, counts an answer; 'paid' where the run's reward is shown to pay for it."""
    axes = [{axis["axis"]: axis for axis in run.decision.get("style", {}).get("axes", ())} for run in runs]
    names = dict.fromkeys(name for found in axes for name in found)
    return [(name, [_axis(found.get(name)) for found in axes]) for name in names]


def _axis(axis: Mapping[str, Any] | None) -> str:
    if not axis or not axis["shift"]:
        return NOTHING
    return rounded(estimate(axis["shift"])) + (", paid" if axis["paid"] else "")


def _causes(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    found = [{item["id"]: item for item in run.diagnosis.get("hypotheses", ())} for run in runs]
    ids = {id_: item["statement"] for items in found for id_, item in items.items()}
    return [
        (f"{id_} {statement}", [items[id_]["verdict"] if id_ in items else NOTHING for items in found])
        for id_, statement in ids.items()
    ]


def _card(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    rows = [("length control", [str(run.card.get("length_control", NOTHING)) for run in runs])]
    for key, title in CARD.items():
        rows.append((title, [_figure(run.card.get(key)) for run in runs]))
    return [row for row in rows if any(cell != NOTHING for cell in row[1])]


def _figure(value: Any) -> str:
    if not isinstance(value, Mapping) or value.get("value") is None:
        return NOTHING
    return rounded(estimate(value), 3)
