"""The MLflow model registry: every candidate becomes a version. Which one is champion: adapters/promotion.py.

Everything here may be repeated after a kill at any moment: a version is found again by its ``retraining_key``.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from adapters.artefacts import Artefact
from adapters.log import logger
from adapters.mlflow_client import aliases, client
from adapters.model_folder import upload
from adapters.outcome import verdict_of
from adapters.programme import Taken, keep_look, looks_of
from adapters.promotion import has_verdict, keep_verdict
from adapters.registered import CHAMPION, MANIFEST, find_version
from adapters.rivals import COMPARED, passed_over
from kellet.config.run import Config, Tracking
from kellet.errors import KelletError
from kellet.files import read_json
from kellet.manifest import check_manifest

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


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
    champion = rivals[CHAMPION].version if CHAMPION in rivals else passed_over(config, origin, base)
    if version := find_version(config.tracking, origin["retraining_key"]):
        if not has_verdict(config.tracking, version):  # a kill between version and row; else people may have judged it
            keep_verdict(config.tracking, version, report, champion)
        return version
    check_manifest(report.path)
    hashes = {alias: rival.hash for alias, rival in rivals.items()}
    tags = {
        **origin,
        **_verdict(report),
        "base_hash": base.hash,
        "policy_hash": policy.hash,
        **{tag: rivals[alias].version if alias in rivals else "none" for alias, tag in COMPARED.items()},
        **keep_look(config.tracking, run_id, [], taken, report.path, hashes),
    }
    version = _create_version(config, run_id, base, policy, tags)
    keep_verdict(config.tracking, version, report, champion)
    for name in ("verdict", "reasons", "headline"):
        client(config.tracking.uri).set_tag(run_id, name, tags[name])
    logger().info("registered %s version %s, verdict %s", version.name, version.version, tags["verdict"])
    return version


def judge_anew(
    tracking: Tracking, version: "ModelVersion", run_id: str, report: Artefact, taken: Taken
) -> "ModelVersion":
    """Tag a registered version with the verdict of another report, and with the look that it was.

    The run keeps the files, because people's verdicts cannot be computed again as other artefacts can. The tag
    ``report`` is written last: where it exists, everything else does.
    """
    check_manifest(report.path)
    registry, name, number = client(tracking.uri), version.name, str(version.version)
    for file in ("evaluation.parquet", "gate.json", "report.html"):
        registry.log_artifact(run_id, str(report.path / file))
    verdict, looks = _verdict(report), looks_of(version)
    look = keep_look(tracking, run_id, looks, taken, report.path, looks[-1].rivals if looks else {})
    keep_verdict(tracking, version, report, version.tags["compared_with"])
    for key, value in {**look, "regate_run": run_id, "regated_at": _now(), **verdict}.items():
        registry.set_model_version_tag(name, number, key, value)
    for key in ("verdict", "reasons", "headline"):
        registry.set_tag(run_id, key, verdict[key])
    logger().info("%s version %s is judged anew, verdict %s", name, number, verdict["verdict"])
    if verdict["verdict"] != "promote" and aliases(tracking).get(CHAMPION) == number:
        logger().warning("%s/%s stays %s; python -m flows.rollback takes it back", name, number, CHAMPION)
    return registry.get_model_version(name, number)


def _verdict(report: Artefact) -> dict[str, str]:
    """The tags of a version that hold its verdict."""
    becomes = bool(read_json(report.path / "gate.json").get("becomes_anchor", False))
    return {**verdict_of(report.path), "becomes_anchor": str(becomes).lower(), "report": str(report.path)}


def _create_version(
    config: Config, run_id: str, base: Artefact, policy: Artefact, tags: dict[str, str]
) -> "ModelVersion":
    """Upload base and policy as a model that MLflow can serve, and register it."""
    model, manifest_hash = upload(config.tracking, run_id, base, policy, config.text)
    registry, name = client(config.tracking.uri), config.tracking.registered_model
    if not registry.search_registered_models(f"name = '{name}'"):
        registry.create_registered_model(name)
    tags = {**tags, MANIFEST: manifest_hash}
    return registry.create_model_version(name, model.model_uri, run_id=run_id, tags=tags, model_id=model.model_id)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
