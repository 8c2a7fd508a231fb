"""The MLflow model registry: every candidate becomes a version, and only a promoted one gets the alias ``champion``.

The alias ``anchor`` is on the champion that was last shown better than the anchor before it (kellet/gate/anchor.py).
Everything here may be repeated after a kill at any moment: a version is found again by its ``retraining_key``, and the
alias ``champion`` moves last.
"""

import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any

import adapters
from adapters.artefacts import Artefact
from adapters.log import logger
from adapters.mlflow_client import aliases, client
from adapters.programme import Taken, keep_look, looks_of
from adapters.registered import CHAMPION, IDENTITY, find_version, require_tags
from adapters.rivals import ANCHOR, COMPARED, FOREIGN
from kellet.config.run import Config, Tracking
from kellet.errors import InputError, KelletError
from kellet.files import read_json

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

PREVIOUS = "previous"
SERVING = ("mlflow", "numpy", "pandas", "peft", "pydantic", "pyyaml", "safetensors", "torch", "transformers")
"""What the registered model needs to run, at the installed versions."""


def is_fault(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a task failed by accident (a retry condition for Prefect): a refusal would be the same again."""
    return not isinstance(state.result(raise_on_failure=False), KelletError)


def register(
    config: Config,
    origin: dict[str, str],
    run_id: str,
    base: Artefact,
    policy: Artefact,
    report: Artefact,
    rivals: Mapping[str, Artefact],
    taken: Taken,
) -> "ModelVersion":
    """Register the candidate with its verdict, reasons, lineage and look as tags, once for each retraining."""
    if version := find_version(config.tracking, origin["retraining_key"]):
        return version
    current, hashes = aliases(config.tracking), {alias: rival.hash for alias, rival in rivals.items()}
    tags = {
        **origin,
        **_verdict(report),
        "base_hash": base.hash,
        "policy_hash": policy.hash,
        **{tag: current.get(alias, "none") if alias in rivals else "none" for alias, tag in COMPARED.items()},
        **keep_look(config.tracking, run_id, [], taken, report.path, hashes),
    }
    version = _create_version(config, run_id, base, policy, tags)
    for name in ("verdict", "reasons", "headline"):
        client(config.tracking.uri).set_tag(run_id, name, tags[name])
    logger().info("registered %s version %s, verdict %s", version.name, version.version, tags["verdict"])
    return version


def promote(tracking: Tracking, version: "ModelVersion") -> None:
    """Give a version that the gate promotes the alias ``champion``, and the champion before it ``previous``.

    It gets ``anchor`` too when it was shown better than the anchor so far; else that stays where it is, or, where no
    version has it yet, goes to the champion before. The tag ``anchor`` of a version names the anchor of its time. Other
    versions stay without an alias. A version that was champion once (tag ``promoted_at``) does not become champion
    again: what replaced it came later.
    """
    if version.tags["verdict"] != "promote" or "promoted_at" in version.tags:
        return
    registry, name, number = client(tracking.uri), version.name, str(version.version)
    current = aliases(tracking)
    champion = current.get(CHAMPION)
    if champion not in (None, number):
        registry.set_registered_model_alias(name, PREVIOUS, champion)
    better = version.tags.get("becomes_anchor") == "true"
    anchor = number if better else current.get(ANCHOR, champion or number)
    registry.set_registered_model_alias(name, ANCHOR, anchor)
    registry.set_model_version_tag(name, number, ANCHOR, anchor)
    registry.set_registered_model_alias(name, CHAMPION, number)
    registry.set_model_version_tag(name, number, "promoted_at", _now())
    logger().info("%s version %s is now %s", name, number, CHAMPION)


def require_current(tracking: Tracking, version: "ModelVersion") -> None:
    """Raise InputError when a promotion of ``version`` would replace a champion that it was not compared with."""
    name, number = version.name, str(version.version)
    champion, compared = aliases(tracking).get(CHAMPION, "none"), version.tags["compared_with"]
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
        rival = client(tracking.uri).get_model_version(name, champion)
        require_tags(rival, FOREIGN, *IDENTITY, role=f"alias {CHAMPION}")
        if rival.tags["base_hash"] != version.tags["base_hash"]:  # policies on two bases are never compared
            return
    raise InputError(
        f"{name}/{number} was compared with champion {compared}, and the champion is {champion} now: the comparison is "
        "out of date. Retrain with the same parameters and --set gate.seed=1 (another number if that was used): "
        "nothing is trained again, and its answers beside those of the champion of now are a new version to judge"
    )


def judge_anew(
    tracking: Tracking, version: "ModelVersion", run_id: str, report: Artefact, taken: Taken
) -> "ModelVersion":
    """Tag a registered version with the verdict of another report, and with the look that it was.

    The run keeps the files, because people's verdicts cannot be computed again as other artefacts can. The tag
    ``report`` is written last: where it exists, everything else does.
    """
    registry, name, number = client(tracking.uri), version.name, str(version.version)
    for file in ("evaluation.parquet", "gate.json", "report.html"):
        registry.log_artifact(run_id, str(report.path / file))
    verdict, looks = _verdict(report), looks_of(version)
    look = keep_look(tracking, run_id, looks, taken, report.path, looks[-1].rivals if looks else {})
    for key, value in {**look, "regate_run": run_id, "regated_at": _now(), **verdict}.items():
        registry.set_model_version_tag(name, number, key, value)
    for key in ("verdict", "reasons", "headline"):
        registry.set_tag(run_id, key, verdict[key])
    logger().info("%s version %s is judged anew, verdict %s", name, number, verdict["verdict"])
    if verdict["verdict"] != "promote" and aliases(tracking).get(CHAMPION) == number:
        logger().warning("%s/%s stays %s; python -m flows.rollback takes it back", name, number, CHAMPION)
    return registry.get_model_version(name, number)


def roll_back(tracking: Tracking, reason: str, number: int | None = None, force: bool = False) -> str:
    """Give ``champion`` to the version that has ``previous``, or to ``number``, and say what was done.

    ``anchor`` goes back to the version that had it while that one was champion: were it to stay on the version that is
    taken back, every later candidate would be held to one that proved bad. A version that never was champion by the
    gate is its own anchor. Both versions keep the reason as a tag. Raises InputError for a version that is not
    registered, and unless ``force`` for one that the gate did not promote or Kellet did not register.
    """
    from mlflow.exceptions import MlflowException

    registry, name, current = client(tracking.uri), tracking.registered_model, aliases(tracking)
    champion, target = current.get(CHAMPION), str(number or current.get(PREVIOUS, ""))
    if not target:
        raise InputError(f"no version of {name!r} has the alias {PREVIOUS!r}; name the version with --to")
    try:
        version = registry.get_model_version(name, target)
    except MlflowException as error:
        raise InputError(f"{name}/{target} is not registered; name another version with --to") from error
    if champion == target:
        return f"{name}/{target} is {CHAMPION} already; nothing was changed"
    verdict = version.tags.get("verdict")
    if not force:
        require_tags(version, "so no gate has judged it: name another with --to, or insist with --force", *IDENTITY)
    if verdict != "promote" and not force:
        raise InputError(f"the gate said {verdict} of {name}/{target}; name another with --to, or insist with --force")
    now, before = _now(), champion or "none"
    registry.set_model_version_tag(name, target, "rolled_back_to", f"{now}, from version {before}: {reason}")
    if champion:
        registry.set_model_version_tag(name, champion, "rolled_back", f"{now}, to version {target}: {reason}")
    registry.set_registered_model_alias(name, ANCHOR, _anchor_of(tracking, version))
    registry.set_registered_model_alias(name, CHAMPION, target)
    logger().info("%s version %s is %s again: %s", name, target, CHAMPION, reason)
    return f"{name}/{target} is {CHAMPION} in place of version {before}: {reason}"


def _anchor_of(tracking: Tracking, version: "ModelVersion") -> str:
    """The anchor of the time when a version was champion; itself where none is known or that was deleted."""
    from mlflow.exceptions import MlflowException

    try:
        number = version.tags.get(ANCHOR, str(version.version))
        return str(client(tracking.uri).get_model_version(version.name, number).version)
    except MlflowException:
        return str(version.version)


def _verdict(report: Artefact) -> dict[str, str]:
    """The tags of a version that hold its verdict."""
    decision = read_json(report.path / "gate.json")
    return {
        "verdict": decision["verdict"],
        "reasons": ", ".join(row["name"] for row in decision["criteria"] if not row["passed"]) or "none",
        "headline": decision["headline"],
        "becomes_anchor": str(decision.get("becomes_anchor", False)).lower(),
        "report": str(report.path),
    }


def _create_version(
    config: Config, run_id: str, base: Artefact, policy: Artefact, tags: dict[str, str]
) -> "ModelVersion":
    """Upload base and policy as a model that MLflow can serve, and register it."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec

    mlflow.set_tracking_uri(config.tracking.uri)
    with mlflow.start_run(run_id=run_id), warnings.catch_warnings():
        # MLflow would run the model on an example; the signature is given instead.
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
    registry, name = client(config.tracking.uri), config.tracking.registered_model
    if not registry.search_registered_models(f"name = '{name}'"):
        registry.create_registered_model(name)
    return registry.create_model_version(name, model.model_uri, run_id=run_id, tags=tags, model_id=model.model_id)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
