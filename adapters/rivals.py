"""The policies that a candidate is compared with: the champion, and the anchor where that is another version.

An alias is moved by whoever may write to the registry. A version that Kellet did not register is refused, and never
left out: a candidate would replace it without having been held against it.
"""

from typing import TYPE_CHECKING, Any

import yaml

from adapters.artefacts import Artefact
from adapters.log import logger
from adapters.mlflow_client import aliases, client, run_file
from adapters.registered import CHAMPION, IDENTITY, fetch, find_version, require_tags
from kellet.config.run import Config
from kellet.errors import InputError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

ANCHOR = "anchor"
COMPARED = {CHAMPION: "compared_with", ANCHOR: "compared_with_anchor"}
"""The tags of a version that name the versions it was compared with."""
FOREIGN = (
    "a candidate cannot be compared with it. Give the alias to a version of Kellet's (flows.rollback --to N), "
    "take it away (MlflowClient.delete_registered_model_alias) and go on without a champion, or name another "
    "tracking.registered_model"
)
"""What to do about a champion that Kellet did not register."""


def find_rivals(config: Config, origin: dict[str, str], base: Artefact) -> dict[str, Artefact]:
    """The policies to compare with, by alias: champion, and anchor where that is another version.

    They are those of now, or those that this very retraining was compared with before. One that belongs to another base
    model, or answers at another temperature, is left out, which is logged. Raises InputError as
    :func:`require_rivals` does.
    """
    rivals = {}
    for alias, version in _rivals(config, origin).items():
        if why := _not_comparable(config, base, version):
            logger().warning("the %s (version %s) %s; it is not compared with", alias, version.version, why)
            continue
        rivals[alias] = Artefact(
            stage=alias,
            path=fetch(version, config.tracking).policy,
            hash=version.tags["policy_hash"],
            version=str(version.version),
        )
    return rivals


def passed_over(config: Config, origin: dict[str, str], base: Artefact) -> str:
    """The champion that a candidate replaces although it cannot be compared with it; ``none`` where there is none."""
    version = _rivals(config, origin).get(CHAMPION)
    return str(version.version) if version and _not_comparable(config, base, version) else "none"


def _not_comparable(config: Config, base: Artefact, version: "ModelVersion") -> str:
    """Why a candidate on ``base`` cannot be compared with a version; empty where it can."""
    if version.tags["base_hash"] != base.hash:
        return "has another base model"
    temperature = fetch(version, config.tracking).text.temperature
    if temperature != config.text.temperature:
        return f"answers at temperature {temperature:g}, this candidate at {config.text.temperature:g}"
    return ""


def require_rivals(config: Config, origin: dict[str, str]) -> None:
    """Raise InputError, before anything is trained, where the champion or the anchor cannot be compared with.

    That is one that Kellet did not register, or whose files are gone or changed: left out, it would be replaced by a
    candidate that was never held against it.
    """
    for version in _rivals(config, origin).values():
        fetch(version, config.tracking)


def describe_champion(config: Config, origin: dict[str, str], champion: Artefact | None) -> dict[str, Any] | None:
    """What the report says about ``champion``: its name, the parameters of its run and where it came from."""
    from mlflow.exceptions import MlflowException

    version = _rival(config, origin, CHAMPION) if champion else None
    if version is None:
        return None
    lineage = {key: version.tags.get(key) for key in origin}
    description = {"name": f"{version.name}/{version.version}", "lineage": lineage}
    try:
        params = run_file(config.tracking.uri, version.run_id, "params.yaml")
    except MlflowException as error:
        logger().warning("the champion's parameters are not in MLflow any more; the report leaves them out: %s", error)
        return description
    return description | {"config": yaml.safe_load(params.read_text(encoding="utf-8"))}


def _rivals(config: Config, origin: dict[str, str]) -> dict[str, "ModelVersion"]:
    """Champion, and anchor where that is another version, each registered by Kellet, else InputError."""
    found = {alias: _rival(config, origin, alias) for alias in COMPARED}
    versions = {alias: version for alias, version in found.items() if version}
    for alias, version in versions.items():
        require_tags(version, FOREIGN, *IDENTITY, role=f"alias {alias}")
    if ANCHOR in versions and CHAMPION in versions and versions[ANCHOR].version == versions[CHAMPION].version:
        del versions[ANCHOR]
    return versions


def _rival(config: Config, origin: dict[str, str], alias: str) -> "ModelVersion | None":
    """The version with this alias, or the one that this very retraining was compared with; None where there is none.

    Raises InputError when the latter is not registered any more.
    """
    from mlflow.exceptions import MlflowException

    earlier = find_version(config.tracking, origin["retraining_key"])
    tags = earlier.tags if earlier else {}
    number = tags.get(COMPARED[alias], "none") if earlier else aliases(config.tracking).get(alias, "none")
    if number == "none":
        return None
    try:
        return client(config.tracking.uri).get_model_version(config.tracking.registered_model, number)
    except MlflowException as error:
        raise InputError(
            f"{config.tracking.registered_model}/{number}, the {alias} that this retraining was compared with before, "
            f"is not registered any more ({error.message}); --set gate.seed=1 (another number if that was used) "
            "compares it with those of now, and trains nothing again"
        ) from error
