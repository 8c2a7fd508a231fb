"""The model registry as Prefect tasks (adapters/registry.py has what they do). What a task refuses is not retried."""

from typing import TYPE_CHECKING, Any

from prefect import task

from adapters import promotion, registered, registry, rivals
from adapters.artefacts import Artefact
from adapters.programme import Taken
from adapters.registry import is_fault
from kellet.config.run import Config, Tracking

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@task(name="find-version", retries=3, retry_delay_seconds=2)
def find_version(tracking: Tracking, retraining_key: str) -> "ModelVersion | None":
    """The version that this very retraining has registered; None when it has not."""
    return registered.find_version(tracking, retraining_key)


@task(name="require-rivals", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def require_rivals(config: Config, origin: dict[str, str]) -> None:
    """Raise InputError where the champion or the anchor cannot be compared with, before anything is trained.

    A promotion that a kill left between its row and the alias is ended first: else the wrong champion is compared with.
    """
    promotion.settle(config.tracking)
    rivals.require_rivals(config, origin)


@task(name="find-rivals", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def find_rivals(config: Config, origin: dict[str, str], base: Artefact) -> dict[str, Artefact]:
    """The policies on this base model to compare with: champion and anchor, as far as there are any."""
    return rivals.find_rivals(config, origin, base)


@task(name="describe-champion", retries=3, retry_delay_seconds=2)
def describe_champion(config: Config, origin: dict[str, str], champion: Artefact | None) -> dict[str, Any] | None:
    """What the report says about the champion; None without one."""
    return rivals.describe_champion(config, origin, champion)


@task(name="register", retries=3, retry_delay_seconds=2)
def register(
    config: Config,
    origin: dict[str, str],
    run_id: str,
    base: Artefact,
    policy: Artefact,
    report: Artefact,
    rivals: dict[str, Artefact],
    taken: Taken,
) -> "ModelVersion":
    """Register the candidate with its verdict and its look, once for each retraining."""
    return registry.register(config, origin, run_id, base, policy, report, rivals, taken)


@task(name="promote", retries=3, retry_delay_seconds=2)
def promote(tracking: Tracking, version: "ModelVersion") -> None:
    """Make a version champion if its verdict says so and it was not champion before."""
    promotion.promote(tracking, version)


@task(name="require-current", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def require_current(tracking: Tracking, version: "ModelVersion") -> None:
    """Raise InputError when a promotion would replace a champion that the version was not compared with."""
    promotion.require_current(tracking, version)


@task(name="judge-anew", retries=3, retry_delay_seconds=2)
def judge_anew(
    tracking: Tracking, version: "ModelVersion", run_id: str, report: Artefact, taken: Taken
) -> "ModelVersion":
    """Tag a registered version with the verdict of another report, and with one more look."""
    return registry.judge_anew(tracking, version, run_id, report, taken)


@task(name="roll-back", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def roll_back(tracking: Tracking, reason: str, number: int | None = None, force: bool = False) -> str:
    """Give ``champion`` back to an earlier version, and say what was done."""
    return promotion.roll_back(tracking, reason, number, force)
