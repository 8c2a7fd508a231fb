"""Killed (-9) in each stage in turn, the same command run again completes and leaves nothing half-written."""

import json
import sqlite3

import psutil
import pytest
from mlflow import MlflowClient

from tests.helpers import project

MOMENTS = (
    "dvc: > python -m kellet prepare",
    "base_model: computing",
    "reward_model: computing",
    "policy: computing",
    "evaluation: computing",
    "gate: computing",
    "registered kellet-smoke",
)


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A project in which the command was killed at each moment, and then ran to its end."""
    root = project.copy_project(tmp_path_factory.mktemp("killed") / "kellet")
    for moment in MOMENTS:
        with project.start(root, *project.SMOKE, "--set", "gate.min_gain=-100") as process:
            project.wait_for(process, moment)
            process.kill()
    done = project.run(root, *project.SMOKE, "--set", "gate.min_gain=-100")
    assert done.returncode in {0, 3}, done.stdout
    return root


def test_nothing_half_written_is_left(killed):
    for folder in ("artifacts", "runs", "data/prepared", "data/raw"):
        names = [
            path for path in (killed / folder).rglob("*") if path.name.startswith(".") and path.name != ".gitignore"
        ]
        assert names == []
    summary = json.loads((killed / "data/prepared/smoke/summary.json").read_text())
    assert summary["rows_in"] == summary["accepted"] + summary["quarantined"]


def test_one_version_and_its_verdict(killed):
    client = MlflowClient(f"sqlite:///{killed}/mlflow.db")
    (version,) = client.search_model_versions("name = 'kellet-smoke'")
    decision = json.loads((killed / "runs/smoke/gate.json").read_text())
    assert version.tags["verdict"] == decision["verdict"]
    looks = [item["past"]["look"]["number"] for item in json.loads(version.tags["looks"])]
    assert looks == [1]  # whoever was killed, it is one look
    expected = {"champion": 1, "anchor": 1} if decision["promote"] else {}
    assert {
        alias: int(number) for alias, number in client.get_registered_model("kellet-smoke").aliases.items()
    } == expected


def test_no_run_is_left_running(killed):
    client = MlflowClient(f"sqlite:///{killed}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("kellet").experiment_id])
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    with sqlite3.connect(killed / ".prefect/prefect.db") as database:
        states = dict(database.execute("select state_type, count(*) from flow_run group by 1"))
        (slots,) = database.execute("select active_slots from concurrency_limit_v2 where name = 'retrain'").fetchone()
    database.close()
    assert states == {"CRASHED": len(MOMENTS), "COMPLETED": 1}
    assert slots == 0


def test_no_embedded_server_is_left(killed):
    servers = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(killed):
                servers.append(process.cmdline())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    assert servers == []
