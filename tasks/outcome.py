"""How a retraining ends, as Prefect tasks: with a verdict that is published, now or once more."""

from pathlib import Path
from typing import TYPE_CHECKING

from prefect import task

from adapters import outcome
from adapters.artefacts import Artefact
from adapters.candidate import JUDGED
from adapters.log import logger
from adapters.outcome import Outcome
from adapters.promotion import has_verdict
from adapters.registered import require_tags
from kellet.config.run import Config
from tasks.registry import find_version, promote

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@task(name="publish")
def publish(config: Config, version: "ModelVersion", report: Artefact, reused: bool = False) -> Outcome:
    """Put the report and its files into runs/NAME and the verdict into Prefect."""
    return outcome.publish(config, version, report, reused)


def earlier_outcome(config: Config, origin: dict[str, str]) -> Outcome | None:
    """The outcome of this very retraining, if it has reached one and its report still exists; else None."""
    version = find_version(config.tracking, origin["retraining_key"])
    if version is not None:
        require_tags(version, "restore it, or delete the version and give the command again", *JUDGED)
    if version is None or not (Path(version.tags["report"]) / "report.html").is_file():
        return None
    if not has_verdict(config.tracking, version):  # a kill before it was written down
        return None
    logger().info("data, parameters and code are those of %s version %s", version.name, version.version)
    return standing(config, version)


def standing(config: Config, version: "ModelVersion") -> Outcome:
    """The outcome of a version that was judged before.

    What a kill after the verdict left undone (alias, runs/NAME) is done here. Raises InputError when another version
    has become champion since.
    """
    promote(config.tracking, version)
    return publish(config, version, Artefact(stage="report", path=Path(version.tags["report"]), hash=""), reused=True)
