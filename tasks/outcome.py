"""What a retraining ends in: a verdict that a person can read in runs/NAME, in Prefect and on the terminal."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import TaskRunContext
from pydantic import BaseModel

from adapters.artefacts import CACHE_RECORD, Artefact
from adapters.log import logger
from adapters.settings import RUNS
from kellet.config.file import dump_config
from kellet.config.run import Config
from kellet.errors import NoLift
from kellet.files import atomic_folder
from tasks.registry import find_version, promote, require_current
from tasks.stages import read_card

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


class Outcome(BaseModel):
    """The verdict of a retraining and where it stands."""

    name: str
    verdict: str
    headline: str
    reasons: str
    """The criteria that did not pass."""
    model: str
    """The registered version, as NAME/VERSION."""
    folder: Path
    """runs/NAME"""
    reused: bool = False
    """Nothing had changed since this verdict was reached, so nothing was computed."""

    @property
    def promoted(self) -> bool:
        """Whether the candidate became champion."""
        return self.verdict == "promote"

    @property
    def exit_code(self) -> int:
        """0 for a promotion, 3 for a block or an inconclusive evaluation."""
        return 0 if self.promoted else 3

    def __str__(self) -> str:
        """Several lines for the terminal."""
        unchanged = " (unchanged since this verdict was reached)" if self.reused else ""
        return "\n".join(
            (
                f"{self.name}: {self.verdict.upper()}{unchanged}",
                f"  {self.headline}",
                f"  not passed: {self.reasons}",
                f"  model {self.model}; report {self.folder / 'report.html'}",
            )
        )


def earlier_outcome(config: Config, origin: dict[str, str]) -> Outcome | None:
    """The outcome of this very retraining, if it has reached one and its report still exists; else None."""
    version = find_version(config.tracking, origin["retraining_key"])
    if version is None or not (Path(version.tags["report"]) / "report.html").is_file():
        return None
    logger().info("data, parameters and code are those of %s version %s", version.name, version.version)
    return standing(config, version)


def standing(config: Config, version: "ModelVersion") -> Outcome:
    """The outcome of a version that was judged before.

    What a kill after the verdict left undone (alias, runs/NAME) is done here. Raises InputError when another version
    has become champion since.
    """
    if version.tags["verdict"] == "promote" and "promoted_at" not in version.tags:
        require_current(config.tracking, version)
    promote(config.tracking, version)
    return publish(config, version, Artefact(stage="report", path=Path(version.tags["report"]), hash=""), reused=True)


@task(name="publish")
def publish(config: Config, version: "ModelVersion", report: Artefact, reused: bool = False) -> Outcome:
    """Put the report and its files into runs/NAME and the verdict into Prefect."""
    folder = RUNS / config.name
    with atomic_folder(folder) as temporary:
        shutil.copytree(report.path, temporary, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CACHE_RECORD))
    outcome = Outcome(
        name=config.name,
        verdict=version.tags["verdict"],
        headline=version.tags["headline"],
        reasons=version.tags["reasons"],
        model=f"{version.name}/{version.version}",
        folder=folder,
        reused=reused,
    )
    if TaskRunContext.get():
        _show(outcome)
    logger().info("verdict %s: %s", outcome.verdict, outcome.folder / "report.html")
    return outcome


def require_lift(config: Config, reward: Artefact) -> None:
    """Stop the run before any PPO is paid for when the reward model has learned no more than length.

    Raises NoLift, with the card in runs/NAME as all there is to read, or only warns when
    ``reward_model.require_lift`` is false.
    """
    from kellet.reward import card as reward_card

    try:
        reward_card.require_lift(read_card(reward))
    except NoLift as error:
        if config.reward_model.require_lift:
            with atomic_folder(RUNS / config.name) as temporary:
                shutil.copy(reward.path / "card.json", temporary)
                (temporary / "params.yaml").write_text(dump_config(config), encoding="utf-8")
            raise
        logger().warning("%s", error)


def _show(outcome: Outcome) -> None:
    """The verdict as markdown and the criteria as a table, in Prefect's user interface."""
    decision = json.loads((outcome.folder / "gate.json").read_text(encoding="utf-8"))
    name = "".join(letter if letter.isalnum() else "-" for letter in outcome.name.lower())
    markdown = f"## {outcome.verdict}\n\n{outcome.headline}\n\nModel {outcome.model}, report in `{outcome.folder}`."
    create_markdown_artifact(markdown, key=f"verdict-{name}", description=outcome.verdict)
    columns = ("name", "passed", "value", "interval", "threshold", "why")
    rows = [{column: str(criterion.get(column)) for column in columns} for criterion in decision["criteria"]]
    create_table_artifact(rows, key=f"criteria-{name}", description=outcome.headline)
