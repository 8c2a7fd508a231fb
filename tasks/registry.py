"""The MLflow model registry: every candidate becomes a version, only a promoted one gets the alias ``champion``.

Everything here may be repeated after a kill at any moment: a version is found again by its ``retraining_key``, and the
alias ``champion`` moves last.
"""

import json
import warnings
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from prefect import task

import adapters
from adapters.artefacts import Artefact
from adapters.log import logger
from adapters.registered import CHAMPION, fetch
from kellet.config.run import Config, Tracking
from kellet.errors import InputError, KelletError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

PREVIOUS = "previous"
SERVING = ("mlflow", "numpy", "pandas", "peft", "pydantic", "pyyaml", "safetensors", "torch", "transformers")
"""What the registered model needs to run, at the installed versions."""


def is_fault(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a task failed by accident: what was refused on purpose would be refused again."""
    return not isinstance(state.result(raise_on_failure=False), KelletError)


@task(name="find-version", retries=3, retry_delay_seconds=2)
def find_version(tracking: Tracking, retraining_key: str) -> "ModelVersion | None":
    """The version that this very retraining registered before, if it did."""
    where = f"name = '{tracking.registered_model}' and tags.`retraining_key` = '{retraining_key}'"
    found = _client(tracking).search_model_versions(where)
    return found[0] if found else None


@task(name="find-champion", retries=3, retry_delay_seconds=2)
def find_champion(config: Config, origin: dict[str, str], base: Artefact) -> Artefact | None:
    """The policy to compare with: the champion, or the one that this very retraining was compared with before.

    None without a champion, or when the champion's adapter belongs to another base model (which is logged).
    """
    version = _rival(config, origin)
    if version is None:
        return None
    if version.tags["base_hash"] != base.hash:
        logger().warning("the champion (version %s) has another base model; it is not compared with", version.version)
        return None
    path = Path(fetch(version.name, str(version.version), config.tracking.uri)["policy"])
    return Artefact(stage="champion", path=path, hash=version.tags["policy_hash"])


@task(name="describe-champion", retries=3, retry_delay_seconds=2)
def describe_champion(config: Config, origin: dict[str, str], champion: Artefact | None) -> dict[str, Any] | None:
    """What the report says of ``champion``: its name, the parameters of its run and where it came from."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    version = _rival(config, origin) if champion else None
    if version is None:
        return None
    told = {"name": f"{version.name}/{version.version}", "lineage": {key: version.tags.get(key) for key in origin}}
    try:
        uri = config.tracking.uri
        params = download_artifacts(run_id=version.run_id, artifact_path="params.yaml", tracking_uri=uri)
    except MlflowException as error:
        logger().warning("the champion's parameters are not in MLflow any more; the report leaves them out: %s", error)
        return told
    return told | {"config": yaml.safe_load(Path(params).read_text(encoding="utf-8"))}


def _rival(config: Config, origin: dict[str, str]) -> "ModelVersion | None":
    """The champion, or the version that this very retraining was compared with before; None where there is none."""
    earlier = find_version.fn(config.tracking, origin["retraining_key"])
    number = earlier.tags["compared_with"] if earlier else _aliases(config.tracking).get(CHAMPION, "none")
    if number == "none":
        return None
    return _client(config.tracking).get_model_version(config.tracking.registered_model, number)


@task(name="register", retries=3, retry_delay_seconds=2)
def register(
    config: Config,
    origin: dict[str, str],
    run_id: str,
    base: Artefact,
    policy: Artefact,
    report: Artefact,
    champion: Artefact | None,
) -> "ModelVersion":
    """Register the candidate with its verdict, reasons and lineage as tags, once for each retraining."""
    if found := find_version.fn(config.tracking, origin["retraining_key"]):
        return found
    tags = {
        **origin,
        **_verdict(report),
        "base_hash": base.hash,
        "policy_hash": policy.hash,
        "compared_with": _aliases(config.tracking).get(CHAMPION, "none") if champion else "none",
    }
    version = _create_version(config, run_id, base, policy, tags)
    client = _client(config.tracking)
    for name in ("verdict", "reasons", "headline"):
        client.set_tag(run_id, name, tags[name])
    logger().info("registered %s version %s, verdict %s", version.name, version.version, tags["verdict"])
    return version


@task(name="promote", retries=3, retry_delay_seconds=2)
def promote(tracking: Tracking, version: "ModelVersion") -> None:
    """Give a promoted version the alias ``champion`` and the one before it ``previous``; others stay without.

    A version that was champion once (tag ``promoted_at``) is not made champion again: what replaced it was later.
    """
    if version.tags["verdict"] != "promote" or "promoted_at" in version.tags:
        return
    client, name, number = _client(tracking), version.name, str(version.version)
    champion = _aliases(tracking).get(CHAMPION)
    if champion not in (None, number):
        client.set_registered_model_alias(name, PREVIOUS, champion)
    client.set_registered_model_alias(name, CHAMPION, number)
    client.set_model_version_tag(name, number, "promoted_at", datetime.now(UTC).isoformat(timespec="seconds"))
    logger().info("%s version %s is now %s", name, number, CHAMPION)


@task(name="require-current", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def require_current(tracking: Tracking, version: "ModelVersion") -> None:
    """Raise InputError when a promotion of ``version`` would replace a champion that it was not compared with."""
    name, number = version.name, str(version.version)
    champion, compared = _aliases(tracking).get(CHAMPION, "none"), version.tags["compared_with"]
    if champion == number:
        return
    if "promoted_at" in version.tags:
        raise InputError(
            f"{name}/{number} became champion at {version.tags['promoted_at']}, and version {champion} is it now; "
            f"python -m flows.rollback --to {number} brings it back"
        )
    if champion == compared:
        return
    if compared == "none" and champion != "none":
        tags = _client(tracking).get_model_version(name, champion).tags
        if tags.get("base_hash") != version.tags["base_hash"]:  # not comparable, so it never was compared with
            return
    raise InputError(
        f"{name}/{number} was compared with champion {compared}, and the champion is {champion} now: the comparison is "
        "out of date. Retrain with the same parameters and --set gate.seed=1 (another number if that was used): "
        "nothing is trained again, and its answers beside those of the champion of now are a new version to judge"
    )


@task(name="judge-anew", retries=3, retry_delay_seconds=2)
def judge_anew(tracking: Tracking, version: "ModelVersion", run_id: str, report: Artefact) -> "ModelVersion":
    """Tag a registered version with the verdict of another report; the tag ``report`` last: it says that all is done.

    The run keeps the files: verdicts of people, unlike the other artefacts, cannot be computed again.
    """
    client, name, number = _client(tracking), version.name, str(version.version)
    for file in ("evaluation.parquet", "gate.json", "report.html"):
        client.log_artifact(run_id, str(report.path / file))
    verdict = _verdict(report)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for key, value in {"regate_run": run_id, "regated_at": now, **verdict}.items():
        client.set_model_version_tag(name, number, key, value)
    for key in ("verdict", "reasons", "headline"):
        client.set_tag(run_id, key, verdict[key])
    logger().info("%s version %s is judged anew, verdict %s", name, number, verdict["verdict"])
    if verdict["verdict"] != "promote" and _aliases(tracking).get(CHAMPION) == number:
        logger().warning("%s/%s stays %s; python -m flows.rollback takes it back", name, number, CHAMPION)
    return client.get_model_version(name, number)


@task(name="roll-back", retries=3, retry_delay_seconds=2, retry_condition_fn=is_fault)
def roll_back(tracking: Tracking, reason: str, number: int | None = None, force: bool = False) -> str:
    """Give ``champion`` back to the version that has ``previous``, or to ``number``; says what was done.

    Both versions keep the reason as a tag. Raises InputError for a version that there is not, and for one that the gate
    did not pass unless ``force``.
    """
    from mlflow.exceptions import MlflowException

    client, name, aliases = _client(tracking), tracking.registered_model, _aliases(tracking)
    champion, target = aliases.get(CHAMPION), str(number or aliases.get(PREVIOUS, ""))
    if not target:
        raise InputError(f"no version of {name!r} has the alias {PREVIOUS!r}; name the version with --to")
    try:
        version = client.get_model_version(name, target)
    except MlflowException as error:
        raise InputError(f"{name}/{target} is not registered; name another version with --to") from error
    if champion == target:
        return f"{name}/{target} is {CHAMPION} already; nothing was changed"
    verdict = version.tags.get("verdict")
    if verdict != "promote" and not force:
        raise InputError(f"the gate said {verdict} of {name}/{target}; name another with --to, or insist with --force")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    client.set_model_version_tag(name, target, "rolled_back_to", f"{now}, from version {champion or 'none'}: {reason}")
    if champion:
        client.set_model_version_tag(name, champion, "rolled_back", f"{now}, to version {target}: {reason}")
    client.set_registered_model_alias(name, CHAMPION, target)
    logger().info("%s version %s is %s again: %s", name, target, CHAMPION, reason)
    return f"{name}/{target} is {CHAMPION} in place of version {champion or 'none'}: {reason}"


def _verdict(report: Artefact) -> dict[str, str]:
    """The tags of a version that say how it was judged."""
    decision = json.loads((report.path / "gate.json").read_text(encoding="utf-8"))
    return {
        "verdict": decision["verdict"],
        "reasons": ", ".join(row["name"] for row in decision["criteria"] if not row["passed"]) or "none",
        "headline": decision["headline"],
        "report": str(report.path),
    }


def _create_version(
    config: Config, run_id: str, base: Artefact, policy: Artefact, tags: dict[str, str]
) -> "ModelVersion":
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec

    mlflow.set_tracking_uri(config.tracking.uri)
    with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        # An example would be run through the model; the signature is given instead.
        warnings.filterwarnings("ignore", message=".*An input example was not provided")
        model = mlflow.pyfunc.log_model(
            name="policy",
            python_model=str(Path(adapters.__file__).with_name("served_model.py")),
            artifacts={"base": str(base.path.resolve()), "policy": str(policy.path.resolve())},
            model_config={"text": config.text.model_dump(mode="json")},
            code_paths=["kellet"],
            signature=ModelSignature(params=ParamSchema([ParamSpec("seed", DataType.long, None)])),
            pip_requirements=[f"{name}=={installed(name).split('+')[0]}" for name in SERVING],
        )
    client, name = _client(config.tracking), config.tracking.registered_model
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name)
    return client.create_model_version(name, model.model_uri, run_id=run_id, tags=tags, model_id=model.model_id)


def _aliases(tracking: Tracking) -> dict[str, str]:
    """Alias -> version number; empty when nothing is registered yet."""
    models = _client(tracking).search_registered_models(f"name = '{tracking.registered_model}'")
    return {alias: str(number) for alias, number in models[0].aliases.items()} if models else {}


def _client(tracking: Tracking) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking.uri, tracking.uri)
