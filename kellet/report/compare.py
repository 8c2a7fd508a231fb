"""Several runs in one page: verdicts, criteria, curves, style, parameters, causes side by side.

Reads what a retraining leaves in runs/NAME, or the verbs in their own folders; only gate.json is needed. Every run
stands against its own reference. Runs are not paired with each other here: what a change does, on the same prompts and
by the same reward model, is measured by ``python -m flows.remedies``. The page is kellet/report/compare_page.py.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kellet.report.run import Run
from kellet.stats.bootstrap import Estimate
from kellet.stats.format import in_words

NOTHING = "–"


def summary(runs: Sequence[Run]) -> list[tuple[str, list[str]]]:
    """The figures that a reader looks for first: a row a measure, a cell a run."""
    rows = [("verdict", [str(run.decision["verdict"]) for run in runs])]
    wanted = {
        "reward gain (own reward model)": ("reward_gain", "mean_gain"),
        "gain at equal length (own)": ("controlled_gain", "equal_length_gain"),
        "length, candidate / reference": ("length_inflation", "length_ratio"),
        "KL from the reference": ("kl_budget", "mean_kl"),
        "win rate by the judge": ("independent_judge", "win_rate"),
    }
    for title, key in wanted.items():
        rows.append((title, [cell(run.checks().get(key)) for run in runs]))
    return [row for row in rows if any(cell != NOTHING for cell in row[1])]


def as_text(runs: Sequence[Run]) -> str:
    """The summary for a terminal, and each run's criteria that did not pass."""
    lines = [["", *(run.name for run in runs)], *([title, *cells] for title, cells in summary(runs))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    for run in runs:
        names = [row["name"] for row in run.decision["criteria"] if row["counted"] and not row["passed"]]
        text.append(f"{run.name}: not passed: {', '.join(names) or 'none'}")
    return "\n".join(text)


def notes(runs: Sequence[Run]) -> list[str]:
    """What keeps the runs from being compared figure by figure."""
    found = ["Every figure is a run's own against its own reference; the runs are not paired with each other."]
    controls = {json.dumps([run.card.get("length_control"), run.params.get("reward_model")]) for run in runs}
    if len(controls) > 1:
        found.append(
            "Their reward models differ, so that rewards share neither unit nor zero: compare judges, length, KL."
        )
    for key, words in (("data_md5", "data"), ("code_version", "code")):
        values = {str(run.decision["inputs"].get(key)) for run in runs}
        if len(values) > 1:
            found.append(f"They come from different {words} ({key}: {', '.join(sorted(values))}).")
    sizes = {run.decision["inputs"].get("prompts") for run in runs}
    if len(sizes) > 1:
        found.append(f"They answered different numbers of prompts: {', '.join(map(str, sorted(sizes, key=str)))}.")
    gates = differing([run.decision["config"] for run in runs])
    if gates:
        found.append(f"The gate's settings differ: {', '.join(key for key, _ in gates)}.")
    return found


def differing(configs: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Dotted parameters that are not the same everywhere, with each configuration's value; credentials are masked.

    An empty configuration is one that is not known.
    """
    flat = [dict(_flat(config)) for config in configs]
    known = [place for place, values in enumerate(flat) if values]
    keys = dict.fromkeys(key for values in flat for key in values)
    rows = [(key, [_masked(values.get(key, NOTHING)) for values in flat]) for key in keys if key != "name"]
    return [(key, cells) for key, cells in rows if len({cells[place] for place in known}) > 1]


def estimate(value: Mapping[str, Any]) -> Estimate:
    """An estimate from JSON, where an end without bound is null."""
    low, high = value.get("interval") or (None, None)
    return Estimate(
        float(value["value"]),
        float("-inf") if low is None else float(low),
        float("inf") if high is None else float(high),
        int(value.get("prompts") or 0),
    )


def cell(check: Mapping[str, Any] | None) -> str:
    """``value [low, high]`` of a check of gate.json."""
    if check is None or check["value"] is None:
        return NOTHING if check is None else "cannot tell"
    return in_words(estimate(check), check["unit"])


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)


def _masked(text: str) -> str:
    """``text`` without a user and password that a URI may hold."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)
