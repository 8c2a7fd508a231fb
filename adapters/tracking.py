"""MLflow runs: one parent for each retraining, one nested run for each stage, metrics logged in batches."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters import owner
from adapters.artefacts import MODULES, RETRAINING, Artefact, code_version
from adapters.dvc import Dataset
from adapters.git import git_or_empty
from adapters.mlflow_client import client
from kellet.config.file import dump_config, flatten
from kellet.config.run import Config, Tracking
from kellet.errors import InputError, NotPromoted
from kellet.files import content_hash, read_json, value_hash
from kellet.mask import masked_values

if TYPE_CHECKING:
    from mlflow import MlflowClient

NOT_IN_A_NAME = re.compile(r"[^\w.\-/ :]")
"""What MLflow refuses in a metric's name; names of quarantine reasons are sentences with brackets and commas."""
METRICS_PER_CALL = 1000  # MLflow's limits
PARAMS_PER_CALL = 100
PARAM_LENGTH = 6000


def lineage(config: Config, data: Dataset) -> dict[str, str]:
    """Where a retraining comes from; ``retraining_key`` changes exactly when something that decides it does."""
    paths = (config.base_model.path, config.reward_model.base)
    bases = [content_hash(Path(path)) if path and Path(path).is_dir() else str(path) for path in paths]
    configuration = value_hash(config.model_dump(mode="json"))
    code = code_version(*(MODULES[stage] for stage in RETRAINING))
    return {
        "retraining_key": value_hash([data.hash, *bases, configuration, code])[:16],
        "data": data.name,
        "data_md5": data.hash,
        "config_hash": configuration[:16],
        "code_version": code[:16],
        "git_commit": git_or_empty("rev-parse", "HEAD") or "none",
        "git_dirty": str(bool(git_or_empty("status", "--porcelain", "--untracked-files=no"))).lower(),
    }


def start_run(config: Config, data: Dataset, origin: Mapping[str, str], name: str) -> str:
    """Open a retraining's run with parameters, data set and lineage; gives its id. Raises InputError."""
    from mlflow.entities import Dataset as LoggedDataset
    from mlflow.entities import DatasetInput, Param

    server = client(config.tracking.uri)
    existing = server.get_experiment_by_name(config.tracking.experiment)
    if existing and existing.lifecycle_stage == "deleted":
        raise InputError(
            f"the experiment {config.tracking.experiment!r} of {config.tracking.uri} was deleted; restore it (mlflow "
            f"experiments restore --experiment-id {existing.experiment_id}), or name another tracking.experiment"
        )
    experiment = existing.experiment_id if existing else server.create_experiment(config.tracking.experiment)
    run_id = str(server.create_run(experiment, run_name=name, tags={**origin, "owner": owner.me()}).info.run_id)
    shown = flatten(masked_values(config.model_dump(mode="json")))
    params = [Param(key, str(value)[:PARAM_LENGTH]) for key, value in shown.items()]
    for start in range(0, len(params), PARAMS_PER_CALL):
        server.log_batch(run_id, params=params[start : start + PARAMS_PER_CALL])
    source = json.dumps({"uri": str(data.preferences)})
    logged = LoggedDataset(name=data.name, digest=data.hash, source_type="local", source=source)
    server.log_inputs(run_id, datasets=[DatasetInput(logged)])
    server.log_text(run_id, dump_config(config), "params.yaml")
    log_metrics(server, run_id, [{f"data/{name}": value for name, value in flatten(data.summary).items()}])
    return run_id


@contextmanager
def closing(tracking: Tracking, run_id: str) -> Iterator[None]:
    """Close the run with the status that the work inside ends with; a 'no' of the pipeline is a finished run."""
    server = client(tracking.uri)
    try:
        yield
    except NotPromoted as error:
        server.set_tag(run_id, "verdict", type(error).__name__)
        server.set_tag(run_id, "headline", str(error))
        server.set_terminated(run_id, status="FINISHED")
        raise
    except Exception:
        server.set_terminated(run_id, status="FAILED")
        raise
    except BaseException:  # Ctrl-C, or a signal to end
        server.set_terminated(run_id, status="KILLED")
        raise
    server.set_terminated(run_id, status="FINISHED")


def log_stage(tracking: Tracking, run_id: str, artefact: Artefact) -> None:
    """Log a stage as a nested run with its figures and the metrics of its training steps."""
    server = client(tracking.uri)
    experiment = server.get_run(run_id).info.experiment_id
    tags = {
        "mlflow.parentRunId": run_id,
        "owner": owner.me(),
        "stage": artefact.stage,
        "path": str(artefact.path),
        "hash": artefact.hash,
    }
    nested = server.create_run(experiment, run_name=artefact.stage, tags=tags).info.run_id
    log_metrics(server, nested, [{"seconds": artefact.seconds, **_figures(artefact)}])
    history = artefact.path / "history.jsonl"
    if history.is_file():
        with history.open(encoding="utf-8") as lines:
            log_metrics(server, nested, [json.loads(line) for line in lines])
    diagnosis = artefact.path / "diagnosis.json"
    if diagnosis.is_file():
        server.log_artifact(run_id, str(diagnosis))
    server.set_terminated(nested, status="FINISHED")


def log_metrics(server: "MlflowClient", run_id: str, steps: list[dict[str, Any]]) -> None:
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
        server.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_CALL])


def _figures(artefact: Artefact) -> dict[str, Any]:
    """The figures of a card.json, gate.json or diagnosis.json in the artefact, by the names they have as metrics."""
    card, gate, diagnosis = (artefact.path / name for name in ("card.json", "gate.json", "diagnosis.json"))
    figures: dict[str, Any] = {}
    if card.is_file():
        figures |= flatten(read_json(card), "card/")
    if gate.is_file():
        figures |= {f"gate/{criterion['name']}": criterion["value"] for criterion in read_json(gate)["criteria"]}
    if diagnosis.is_file():
        rows = read_json(diagnosis)["hypotheses"]
        figures |= {f"diagnosis/{row['id']}": row["statistic"]["value"] for row in rows}
    return figures
