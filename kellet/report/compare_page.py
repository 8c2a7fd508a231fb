"""compare.html: several runs on one page."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from kellet.report import svg
from kellet.report.compare import NOTHING, Row, cell, differing, filled, notes, summary
from kellet.report.figures import colour, overlaid
from kellet.report.html import write_page
from kellet.report.judgements import interval_level
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
        ("report.css", "compare.css"),
        runs=[(run.name, colour(number), run.decision) for number, run in enumerate(runs)],
        names=[(run.name, colour(number)) for number, run in enumerate(runs)],
        level="/".join(interval_level(alpha) for alpha in sorted(alphas)),
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
        by_run = [(run.name, run.checks().get(key)) for run in runs]
        made = [check for _, check in by_run if check is not None]
        domain = _domain(made)
        lines = [
            {
                "name": name,
                "colour": colour(place),
                "passed": check["passed"] if check else None,
                "text": cell(check),
                "drawing": _drawn(name, check, domain) if check else "",
            }
            for place, (name, check) in enumerate(by_run)
        ]
        wanted = {f"{check['direction']} {number(float(check['threshold']), check['unit'])}" for check in made}
        groups.append(
            {"criterion": key[0], "check": made[0]["name"], "wanted": " / ".join(sorted(wanted)), "lines": lines}
        )
    return groups


def _domain(checks: Sequence[Mapping[str, Any]]) -> list[float]:
    """Values that the common axis of these checks has to reach: values, interval ends, and room around thresholds."""
    ends = [end for check in checks for end in (check["value"], *(check["interval"] or ())) if end is not None]
    limits = [float(check["threshold"]) for check in checks]
    room = 0.25 * max((abs(end - limit) for end in ends for limit in limits), default=1.0)
    return [*ends, min(limits) - room, max(limits) + room]


def _drawn(name: str, check: Mapping[str, Any], domain: Sequence[float]) -> Markup:
    label = f"{check['name']}, {name}: {cell(check)}"
    threshold, direction = float(check["threshold"]), str(check["direction"])
    return svg.interval(check["value"], check["interval"], threshold, direction, check["passed"], label, domain=domain)


def _judges(runs: Sequence[Run]) -> list[Row]:
    names = dict.fromkeys(name for run in runs for name in run.decision.get("judges", {}))
    rows = []
    for name in names:
        by_run = [run.decision.get("judges", {}).get(name) for run in runs]
        rates = [percent(judge["win_rate"]) if judge else NOTHING for judge in by_run]
        gains = [rounded(judge["mean_gain"]) if judge else NOTHING for judge in by_run]
        rows += [(f"{name}, win rate", rates), (f"{name}, mean gain", gains)]
    return rows


def _styles(runs: Sequence[Run]) -> list[Row]:
    """Shift on each style axis, counts per answer, with 'paid' where the run's reward is shown to pay for it."""
    by_run = [{axis["axis"]: axis for axis in run.decision.get("style", {}).get("axes", ())} for run in runs]
    names = dict.fromkeys(name for axes in by_run for name in axes)
    return [(name, [_axis(axes.get(name)) for axes in by_run]) for name in names]


def _axis(axis: Mapping[str, Any] | None) -> str:
    if not axis or not axis["shift"]:
        return NOTHING
    return rounded(axis["shift"]) + (", paid" if axis["paid"] else "")


def _causes(runs: Sequence[Run]) -> list[Row]:
    by_run = [{item["id"]: item for item in run.diagnosis.get("hypotheses", ())} for run in runs]
    statements = {id_: item["statement"] for items in by_run for id_, item in items.items()}
    return [
        (f"{id_} {statement}", [items[id_]["verdict"] if id_ in items else NOTHING for items in by_run])
        for id_, statement in statements.items()
    ]


def _card(runs: Sequence[Run]) -> list[Row]:
    rows = [("length control", [str(run.card.get("length_control", NOTHING)) for run in runs])]
    rows += [(title, [_figure(run.card.get(key)) for run in runs]) for key, title in CARD.items()]
    return filled(rows)


def _figure(value: Any) -> str:
    return rounded(value, 3) if isinstance(value, Mapping) and value.get("value") is not None else NOTHING
