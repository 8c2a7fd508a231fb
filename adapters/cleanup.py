"""What a killed process leaves behind is put in order before a retraining, under the lock of adapters/exclusive.py."""

import shutil

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from adapters import owner
from adapters.artefacts import SECTIONS
from adapters.mlflow_client import client
from adapters.settings import ARTIFACTS, FETCHED, RUNS
from kellet.config.run import Tracking


def stop_orphaned_servers() -> int:
    """End embedded Prefect servers that outlived the process that started them (of any checkout of this project)."""
    stopped = 0
    for process in psutil.process_iter():
        try:
            signature = process.environ().get(owner.VARIABLE)
            if signature and "prefect.server.api.server:create_app" in process.cmdline() and owner.is_gone(signature):
                process.terminate()
                stopped += 1
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return stopped


def crash_dead_flow_runs() -> int:
    """Give the state Crashed to unfinished flow runs whose process is gone."""
    open_states = [StateType.RUNNING, StateType.PENDING, StateType.PAUSED, StateType.CANCELLING]
    unfinished = FlowRunFilter.model_validate({"state": {"type": {"any_": open_states}}})
    crashed = 0
    with get_client(sync_client=True) as prefect:
        for run in prefect.read_flow_runs(flow_run_filter=unfinished):
            owners = [tag for tag in run.tags if tag.startswith("owner:")]
            if owners and all(owner.is_gone(tag) for tag in owners):
                prefect.set_flow_run_state(run.id, Crashed(message="The process was killed."), force=True)
                crashed += 1
    return crashed


def end_dead_mlflow_runs(tracking: Tracking) -> int:
    """Give the status KILLED to running MLflow runs whose process is gone, and drop models they did not register."""
    server = client(tracking.uri)
    experiment = server.get_experiment_by_name(tracking.experiment)
    if experiment is None:
        return 0
    dead = [
        run.info.run_id
        for run in server.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
        if "owner" in run.data.tags and owner.is_gone(run.data.tags["owner"])
    ]
    where = f"name = '{tracking.registered_model}'"
    registered = {version.model_id for version in server.search_model_versions(where, max_results=1000) if dead}
    for run_id in dead:
        for model in server.search_logged_models([experiment.experiment_id], f"source_run_id = '{run_id}'"):
            if model.model_id not in registered:
                server.delete_logged_model(model.model_id)
        server.set_terminated(run_id, status="KILLED")
    return len(dead)


def remove_half_written() -> int:
    """Remove temporary files and folders of the stages and of runs/."""
    folders = (RUNS, FETCHED, *(ARTIFACTS / stage for stage in SECTIONS))
    paths = [path for folder in folders for path in folder.glob(".*")]
    paths += ARTIFACTS.glob("*/*/.*")
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return len(paths)
