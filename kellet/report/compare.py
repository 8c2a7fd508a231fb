"""Several runs side by side: what the terminal and compare.html (compare_page.py) show of them.

Each run is compared with its own reference; the runs are not paired with each other. ``python -m flows.remedies``
measures what a change of parameters does on the same prompts and by the same reward model.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from kellet.config.file import flatten
from kellet.mask import masked_values
from kellet.report.run import Run
from kellet.stats.format import aligned, in_words

NOTHING = "–"
MEASURES = {
    "reward gain (own reward model)": ("reward_gain", "mean_gain"),
    "gain at equal length (own)": ("controlled_gain", "equal_length_gain"),
    "length, candidate / reference": ("length_inflation", "length_ratio"),
    "KL from the reference": ("kl_budget", "mean_kl"),
    "win rate by the judge": ("independent_judge", "win_rate"),
}
"""What a reader looks for first: a title, and the (criterion, check) of gate.json under it."""
Row = tuple[str, list[str]]
"""A title and one cell for each run."""


def summary(runs: Sequence[Run]) -> list[Row]:
    """Verdicts and MEASURES, without the measures that no run has."""
    rows = [("verdict", [str(run.decision["verdict"]) for run in runs])]
    rows += [(title, [cell(run.checks().get(key)) for run in runs]) for title, key in MEASURES.items()]
    return filled(rows)


def filled(rows: Sequence[Row]) -> list[Row]:
    """The rows in which at least one run has something."""
    return [row for row in rows if any(text != NOTHING for text in row[1])]


def as_text(runs: Sequence[Run]) -> str:
    """The summary for a terminal, and the criteria that each run did not pass."""
    text = aligned([["", *(run.name for run in runs)], *([title, *cells] for title, cells in summary(runs))])
    for run in runs:
        names = [row["name"] for row in run.decision["criteria"] if row["counted"] and not row["passed"]]
        text.append(f"{run.name}: not passed: {', '.join(names) or 'none'}")
    return "\n".join(text)


def notes(runs: Sequence[Run]) -> list[str]:
    """Sentences on what limits a comparison of the runs' figures."""
    sentences = ["Every figure is a run's own against its own reference; the runs are not paired with each other."]
    controls = {json.dumps([run.card.get("length_control"), run.params.get("reward_model")]) for run in runs}
    if len(controls) > 1:
        sentences.append(
            "Their reward models differ, so that rewards share neither unit nor zero: compare judges, length, KL."
        )
    for key, title in (("data_md5", "data"), ("code_version", "code")):
        values = {str(run.decision["inputs"].get(key)) for run in runs}
        if len(values) > 1:
            sentences.append(f"They come from different {title} ({key}: {', '.join(sorted(values))}).")
    sizes = {run.decision["inputs"].get("prompts") for run in runs}
    if len(sizes) > 1:
        sentences.append(f"They answered different numbers of prompts: {', '.join(map(str, sorted(sizes, key=str)))}.")
    gates = differing([run.decision["config"] for run in runs])
    if gates:
        sentences.append(f"The gate's settings differ: {', '.join(key for key, _ in gates)}.")
    return sentences


def differing(configs: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Dotted parameters that are not the same everywhere, with the value in each configuration, credentials masked.

    An empty configuration is unknown: it makes no parameter differ.
    """
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for values in flat for key in values if key != "name")
    rows = [(key, [_json(values[key]) if key in values else NOTHING for values in flat]) for key in keys]
    return [(key, cells) for key, cells in rows if len({cells[i] for i, values in enumerate(flat) if values}) > 1]


def cell(check: Mapping[str, Any] | None) -> str:
    """``value [low, high]`` of a check of gate.json."""
    if check is None or check["value"] is None:
        return NOTHING if check is None else "cannot tell"
    return in_words(check, check["unit"])


def _json(value: Any) -> str:
    return json.dumps(masked_values(value), ensure_ascii=False, default=str)
