"""The looks of a programme as Prefect tasks (adapters/programme.py has what they do)."""

from typing import TYPE_CHECKING

from prefect import task

from adapters import programme
from adapters.artefacts import Artefact
from adapters.log import logger
from adapters.programme import Taken
from adapters.registered import find_version
from adapters.registry import is_fault
from kellet.config.run import Config

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@task(name="begin-look", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def begin_look(config: Config, origin: dict[str, str]) -> int | None:
    """The number of the look that this retraining will be, where it decides which prompts are asked."""
    return programme.begin_look(config, find_version(config.tracking, origin["retraining_key"]))


@task(name="take-look", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def take_look(
    config: Config, origin: dict[str, str], policy: Artefact, evaluation: Artefact, rivals: dict[str, Artefact]
) -> Taken:
    """The look that this retraining is, and all answers that it judges."""
    version = find_version(config.tracking, origin["retraining_key"])
    return _shown(programme.take_look(config, version, policy, evaluation, rivals))


@task(name="take-look-again", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def take_look_again(config: Config, version: "ModelVersion", evaluation: Artefact) -> Taken:
    """One more look at a registered version, by an evaluation with people's verdicts."""
    return _shown(Taken(evaluation, programme.take_look_again(config, version, evaluation)))


def _shown(taken: Taken) -> Taken:
    if taken.look is not None:
        logger().info("%s", taken.look.sentence)
    return taken
