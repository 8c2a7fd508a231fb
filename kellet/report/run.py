"""The folder of a run and its one reader: gate, diagnosis, spot check, report and comparison find files through it.

The verbs write the files of a stage into a subfolder, such as RUN/policy/history.jsonl. A retraining publishes all
files in the run's folder itself, such as RUN/history.jsonl. Both layouts are read.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from kellet.config.file import dump_config
from kellet.config.run import Config
from kellet.diagnosis.history import read_history
from kellet.errors import DataError, InputError
from kellet.manifest import check_evaluated, check_file

if TYPE_CHECKING:
    import pandas as pd

FILES = {
    "gate.json": "",
    "diagnosis.json": "",
    "params.yaml": "",
    "evaluation.parquet": "evaluation",
    "token_kl.json": "evaluation",
    "history.jsonl": "policy",
    "card.json": "reward_model",
}
"""The files of a run, each with the subfolder into which a verb writes it."""


@dataclass(frozen=True)
class Run:
    """The content of a run's folder. Only gate.json has to exist; what is missing is empty."""

    name: str
    """The folder's name; its path where two runs of one comparison share a name."""
    folder: Path
    decision: Mapping[str, Any]
    """gate.json"""
    diagnosis: Mapping[str, Any] = field(default_factory=dict)
    """diagnosis.json"""
    history: Sequence[Mapping[str, Any]] = ()
    """history.jsonl of the policy: the metrics of each iteration."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """card.json of the reward model."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """params.yaml: the resolved configuration."""
    evaluation: "pd.DataFrame | None" = None
    """Checked rows of evaluation.parquet; None unless ``read_run`` was asked for answers."""
    token_kl: Mapping[str, Any] = field(default_factory=dict)
    """token_kl.json; empty unless ``read_run`` was asked for answers."""

    def checks(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """The checks of the decision by (criterion, check)."""
        return {(item["name"], check["name"]): check for item in self.decision["criteria"] for check in item["checks"]}


def file_of(run: Path, name: str) -> Path:
    """Path of the file ``name`` of FILES in either layout; where it does not exist, the path that its verb writes."""
    by_verb, published = run / FILES[name] / name, run / name
    return published if published.is_file() and not by_verb.is_file() else by_verb


def read_run(folder: Path, answers: bool = False) -> Run:
    """Read a run's folder; with ``answers`` also evaluation.parquet, which then has to exist, and token_kl.json.

    Raises InputError for a folder that does not exist or has no gate.json, DataError for a file that cannot be read.
    """
    if not folder.is_dir():
        problem = "is a file, not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {problem}; name folders of runs, such as runs/support")
    gate = file_of(folder, "gate.json")
    if not gate.is_file():
        content = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) or "nothing"
        raise InputError(
            f"{folder} is no run: it has no gate.json (it holds {content}); name a folder that a retraining wrote, or "
            "make the decision with 'kellet gate'"
        )
    history = file_of(folder, "history.jsonl")
    check_evaluated(*(file_of(folder, name) for name in ("evaluation.parquet", "history.jsonl", "card.json")))
    run = Run(
        folder.resolve().name,
        folder,
        _decision(gate),
        read_object(file_of(folder, "diagnosis.json")),
        read_history(history, gaps=True) if history.is_file() else (),
        read_object(file_of(folder, "card.json")),
        read_object(file_of(folder, "params.yaml")),
    )
    if not answers:
        return run
    from kellet.evaluation.file import read_evaluation

    rows = read_evaluation(file_of(folder, "evaluation.parquet"))
    return replace(run, evaluation=rows, token_kl=read_object(file_of(folder, "token_kl.json")))


def gather(config: Config, stages: Mapping[str, Path], out: Path) -> None:
    """Copy the files of a run into ``out`` from the folders of the stages that made them, and write params.yaml."""
    for name, subfolder in FILES.items():
        stage = subfolder or Path(name).stem  # gate.json is the file of the stage gate
        if stage in stages:
            shutil.copy(stages[stage] / name, out)
    (out / "params.yaml").write_text(dump_config(config), encoding="utf-8")


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read two or more runs; runs of the same name are called by their paths. Raises InputError for fewer than two."""
    distinct = list(dict.fromkeys(folder.resolve() for folder in folders))
    if len(distinct) < 2:
        raise InputError(
            f"got {len(distinct)} run to compare; name two or more folders, such as runs/naive runs/support"
        )
    runs = [read_run(folder) for folder in dict.fromkeys(folders)]
    names = [run.name for run in runs]
    return [replace(run, name=str(run.folder)) if names.count(run.name) > 1 else run for run in runs]


def read_object(path: Path) -> dict[str, Any]:
    """The mapping in a JSON or YAML file, empty where there is no file. Raises DataError for anything else."""
    if not path.is_file():
        return {}
    check_file(path)
    language, parse = ("YAML", yaml.safe_load) if path.suffix == ".yaml" else ("JSON", json.loads)
    try:
        values = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise DataError(f"{path} is not {language} ({error}); give the file as Kellet writes it") from error
    if not isinstance(values, dict):
        raise DataError(f"{path} holds a {type(values).__name__}; give the file as Kellet writes it")
    return values


def _decision(path: Path) -> dict[str, Any]:
    decision = read_object(path)
    missing = [key for key in ("verdict", "headline", "criteria", "inputs", "config") if key not in decision]
    if missing:
        raise DataError(f"{path} has no {', '.join(missing)}; give a gate.json as 'kellet gate' writes it")
    return decision
