"""Several runs in one page: verdicts, criteria, curves, style, parameters, causes side by side.

Reads what a retraining leaves in runs/NAME, or the verbs in their own folders; only gate.json is needed. Every run
stands against its own reference. Runs are not paired with each other here: what a change does, on the same prompts and
by the same reward model, is measured by ``python -m flows.remedies``. The page is kellet/compare_page.py.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kellet.bootstrap import Estimate
from kellet.checks import in_words
from kellet.errors import DataError, InputError
from kellet.evidence import read_card
from kellet.history import read_history

PLACES = {
    "diagnosis": ("diagnosis.json",),
    "history": ("history.jsonl", "policy/history.jsonl"),
    "card": ("card.json", "reward_model/card.json"),
    "params": ("params.yaml",),
}
"""Where a run keeps the files that it may lack: as a retraining publishes them, and as the verbs write them."""
NOTHING = "–"


@dataclass(frozen=True)
class Run:
    """What a run's folder holds; all but the decision may be missing."""

    name: str
    folder: Path
    decision: Mapping[str, Any]
    diagnosis: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    card: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)

    def checks(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """The checks of the criteria by (criterion, check)."""
        return {(item["name"], check["name"]): check for item in self.decision["criteria"] for check in item["checks"]}


def read_run(folder: Path) -> Run:
    """Read a run's folder.

    Raises InputError when it is none (no folder, no gate.json), DataError when a file of it cannot be read.
    """
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}; name folders of runs, such as runs/support")
    gate = folder / "gate.json"
    if not gate.is_file():
        holds = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
        raise InputError(
            f"{folder} is no run: it has no gate.json (it holds {holds}); name a folder that a retraining wrote, or "
            "make the decision with 'kellet gate'"
        )
    found = {
        name: next((folder / place for place in places if (folder / place).is_file()), None)
        for name, places in PLACES.items()
    }
    return Run(
        folder.resolve().name,
        folder,
        _decision(gate),
        read_card(found["diagnosis"]) if found["diagnosis"] else {},
        read_history(found["history"], gaps=True) if found["history"] else (),
        read_card(found["card"]) if found["card"] else {},
        _params(found["params"]) if found["params"] else {},
    )


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read two or more runs; those of the same name are told apart by their folders. Raises InputError for fewer."""
    distinct = list(dict.fromkeys(folder.resolve() for folder in folders))
    if len(distinct) < 2:
        raise InputError(
            f"got {len(distinct)} run to compare; name two or more folders, such as runs/naive runs/support"
        )
    runs = [read_run(folder) for folder in dict.fromkeys(folders)]
    names = [run.name for run in runs]
    return [
        Run(str(run.folder), *[getattr(run, name) for name in list(Run.__dataclass_fields__)[1:]])
        if names.count(run.name) > 1
        else run
        for run in runs
    ]


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


def _decision(path: Path) -> dict[str, Any]:
    decision = read_card(path)
    missing = [key for key in ("verdict", "headline", "criteria", "inputs", "config") if key not in decision]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}; give a gate.json as 'kellet gate' writes it")
    return decision


def _params(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} is no YAML ({error}); give a run's params.yaml") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} holds a {type(values).__name__}; give a run's params.yaml")
    return values


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, default=str)


def _masked(text: str) -> str:
    """``text`` without a user and password that a URI may hold."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)
