"""One reader of the folder of a run: report.html, remedies, comparisons read runs through it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kellet.diagnosis.evidence import read_card
from kellet.diagnosis.history import read_history
from kellet.errors import DataError, InputError

PLACES = {
    "diagnosis": ("diagnosis.json",),
    "history": ("history.jsonl", "policy/history.jsonl"),
    "card": ("card.json", "reward_model/card.json"),
    "params": ("params.yaml",),
}
"""Where a run keeps the files that it may lack: as a retraining publishes them, and as the verbs write them."""


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
