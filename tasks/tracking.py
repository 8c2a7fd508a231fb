"""MLflow runs: one parent for each retraining, one nested run for each stage, metrics logged in batches."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import task

from adapters import owner
from adapters.artefacts import MODULES, RETRAINING, Artefact, code_version
from adapters.dvc import Dataset
from adapters.git import git_or_empty
from kellet.config.file import dump_config, flatten
from kellet.config.run import Config, Tracking
from kellet.errors import NotPromoted
from kellet.files import content_hash, value_hash
from tasks.stages import read_history

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOT_IN_A_NAME = re.compile(r"[^\w.\-/ :]")
"""What MLflow refuses in the name of a metric; a summary counts reasons in words, with brackets."""
METRICS_PER_CALL = 1000  # MLflow's limits
PARAMS_PER_CALL = 100
PARAM_LENGTH = 6000


def lineage(config: Config, data: Dataset) -> dict[str, str]:
    """Where a retraining comes from; ``retraining_key`` changes exactly when something that decides it does."""
    path = config.base_model.path
    base = content_hash(Path(path)) if path and Path(path).is_dir() else str(path)
    configuration = value_hash(config.model_dump(mode="json"))
    code = code_version(*(MODULES[stage] for stage in RETRAINING))
    return {
        "retraining_key": value_hash([data.hash, base, configuration, code])[:16],
        "data": data.name,
        "data_md5": data.hash,
        "config_hash": configuration[:16],
        "code_version": code[:16],
        "git_commit": git_or_empty("rev-parse", "HEAD") or "none",
        "git_dirty": str(bool(git_or_empty("status", "--porcelain", "--untracked-files=no"))).lower(),
    }


@contextmanager
def tracked(config: Config, data: Dataset, origin: Mapping[str, str], name: str | None = None) -> Iterator[str]:
    """Open the parent run with parameters, data set and lineage, give its id, and close it with its status.

    ``name``: the run's in MLflow, by default that of the parameters.
    """
    run_id = _start(config, data, origin, name or config.name)
    client = _client(config.tracking)
    try:
        yield run_id
    except NotPromoted as error:
        client.set_tag(run_id, "verdict", type(error).__name__)
        client.set_tag(run_id, "headline", str(error))
        client.set_terminated(run_id, status="FINISHED")
        raise
    except Exception:
        client.set_terminated(run_id, status="FAILED")
        raise
    except BaseException:  # Ctrl-C, or the process is told to end
        client.set_terminated(run_id, status="KILLED")
        raise
    client.set_terminated(run_id, status="FINISHED")


@task(name="track", retries=3, retry_delay_seconds=2)
def track(tracking: Tracking, run_id: str, artefact: Artefact) -> Artefact:
    """Log a stage as a nested run with its metrics; gives the artefact back."""
    client = _client(tracking)
    experiment = client.get_run(run_id).info.experiment_id
    tags = {
        "mlflow.parentRunId": run_id,
        "owner": owner.me(),
        "stage": artefact.stage,
        "path": str(artefact.path),
        "hash": artefact.hash,
    }
    nested = client.create_run(experiment, run_name=artefact.stage, tags=tags).info.run_id
    log_metrics(client, nested, [{"seconds": artefact.seconds, **_figures(artefact)}])
    log_metrics(client, nested, read_history(artefact))
    diagnosis = artefact.path / "diagnosis.json"
    if diagnosis.is_file():
        client.log_artifact(run_id, str(diagnosis))
    client.set_terminated(nested, status="FINISHED")
    return artefact


def log_metrics(client: "MlflowClient", run_id: str, steps: list[dict[str, Any]]) -> None:
    """Log the numbers of each step in as few calls as MLflow allows; what is not a number is left out."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    metrics = [
        Metric(NOT_IN_A_NAME.sub("", name), float(value), now, int(values.get("iteration", step)))
        for step, values in enumerate(steps)
        for name, value in values.items()
        if isinstance(value, int | float) and name != "iteration"
    ]
    for start in range(0, len(metrics), METRICS_PER_CALL):
        client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_CALL])


@task(name="start-tracking", retries=3, retry_delay_seconds=2)
def _start(config: Config, data: Dataset, origin: Mapping[str, str], name: str) -> str:
    from mlflow.entities import Dataset as LoggedDataset
    from mlflow.entities import DatasetInput, Param

    client = _client(config.tracking)
    found = client.get_experiment_by_name(config.tracking.experiment)
    experiment = found.experiment_id if found else client.create_experiment(config.tracking.experiment)
    run_id = str(client.create_run(experiment, run_name=name, tags={**origin, "owner": owner.me()}).info.run_id)
    flat = flatten(config.model_dump(mode="json"))
    params = [Param(key, str(value)[:PARAM_LENGTH]) for key, value in flat.items() if value != {}]
    for start in range(0, len(params), PARAMS_PER_CALL):
        client.log_batch(run_id, params=params[start : start + PARAMS_PER_CALL])
    source = json.dumps({"uri": str(data.preferences)})
    logged = LoggedDataset(name=data.name, digest=data.hash, source_type="local", source=source)
    client.log_inputs(run_id, datasets=[DatasetInput(logged)])
    client.log_text(run_id, dump_config(config), "params.yaml")
    log_metrics(client, run_id, [{f"data/{name}": value for name, value in flatten(data.summary).items()}])
    return run_id


def _figures(artefact: Artefact) -> dict[str, Any]:
    """The figures of a card.json, gate.json or diagnosis.json in the artefact, as metrics."""
    figures: dict[str, Any] = {}
    card = artefact.path / "card.json"
    if card.is_file():
        figures |= flatten(json.loads(card.read_text(encoding="utf-8")), "card/")
    gate = artefact.path / "gate.json"
    if gate.is_file():
        criteria = json.loads(gate.read_text(encoding="utf-8"))["criteria"]
        figures |= {f"gate/{criterion['name']}": criterion["value"] for criterion in criteria}
    diagnosis = artefact.path / "diagnosis.json"
    if diagnosis.is_file():
        rows = json.loads(diagnosis.read_text(encoding="utf-8"))["hypotheses"]
        figures |= {f"diagnosis/{row['id']}": row["statistic"]["value"] for row in rows}
    return figures


def _client(tracking: Tracking) -> "MlflowClient":
    from mlflow import MlflowClient

    return MlflowClient(tracking.uri)
