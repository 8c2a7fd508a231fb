"""runs/NAME-remedies: the measured arms as files, the next retraining's parameters, the diagnosis with its effects."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from kellet.config.file import dump_config
from kellet.config.run import Config
from kellet.diagnosis.history import read_history
from kellet.files import atomic_folder, read_json, write_json
from kellet.manifest import renew
from kellet.remedies import text as texts
from kellet.remedies.measure import BASELINE, FIRST, SECOND, Remedies
from kellet.report import remedies_page
from kellet.report.run import gather


@dataclass(frozen=True)
class ArmFiles:
    """The parameters of an arm, and the folder of each stage that it came to."""

    config: Config
    stages: Mapping[str, Path]


def write_remedies(out: Path, name: str, remedies: Remedies, arms: Mapping[str, ArmFiles]) -> None:
    """Write the folder ``out``; ``name`` is the baseline's.

    remedies.json, remedies.md and remedies.html have what was measured. Each arm has a folder with the files of a run,
    for ``kellet compare``. diagnosis.json is the baseline's with the effects. next.yaml exists when an arm is ready.
    """
    with atomic_folder(out) as folder:
        write_json(folder / "remedies.json", texts.to_dict(remedies))
        (folder / "remedies.md").write_text(f"{texts.as_markdown(remedies)}\n", encoding="utf-8")
        histories = {arm: _history(files) for arm, files in arms.items()}
        remedies_page.write(folder / "remedies.html", name, remedies, histories)
        for arm, files in arms.items():
            (folder / arm).mkdir()
            gather(files.config, files.stages, folder / arm)
        if remedies.chosen:
            patch = remedies.arm(remedies.chosen).arm.patch
            text = next_parameters(name, arms[remedies.chosen].config, patch, texts.ready(remedies))
            (folder / "next.yaml").write_text(text, encoding="utf-8")
        diagnosis = read_json(folder / BASELINE / "diagnosis.json")
        for arm, recommendation in zip((FIRST, SECOND), diagnosis["recommendations"], strict=True):
            if arm in arms:  # one without a patch has no arm
                recommendation["measured"] = texts.measured_effects(remedies.arm(arm), remedies)
        write_json(folder / "diagnosis.json", diagnosis)


def next_parameters(name: str, arm: Config, patch: Mapping[str, Any], why: str) -> str:
    """The parameter file of the next retraining: the arm's under the baseline's name, with the reason as a comment."""
    changed = yaml.safe_dump(dict(patch), sort_keys=True).splitlines() if patch else ["nothing"]
    comment = [why, "Changed from the baseline:", *(f"  {line}" for line in changed)]
    return "\n".join([*(f"# {line}" for line in comment), dump_config(arm.model_copy(update={"name": name}))])


def add_effects(run: Path, remedies_folder: Path) -> None:
    """Put the diagnosis with measured effects into the run's folder too, if that is of the same evaluation."""
    without, measured = run / "diagnosis.json", remedies_folder / "diagnosis.json"
    if without.is_file() and measured.is_file():
        old, new = read_json(without), read_json(measured)
        if old["inputs"].get("evaluation") == new["inputs"].get("evaluation"):
            write_json(without, new)
            renew(without)


def _history(arm: ArmFiles) -> list[dict[str, Any]]:
    return list(read_history(arm.stages["policy"] / "history.jsonl", gaps=True)) if "policy" in arm.stages else []
