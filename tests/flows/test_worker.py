"""A Prefect server and a worker on loopback see one deployment through to a verdict.

After test_retrain.py, whose project it adds a run to.
"""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pandas as pd
import pytest

from tests.helpers import project


@pytest.fixture
def prefect(smoke):
    """A server for the smoke project; gives a function that runs the prefect command against it, or starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    environment = project.environment(smoke.root, PREFECT_API_URL=url, DO_NOT_TRACK="true")
    started = []

    def start(*arguments):
        with (smoke.root / f".prefect/{arguments[0]}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments], cwd=smoke.root, env=environment, stdout=log, stderr=log
            )
        started.append(process)
        return process

    def run(*arguments):
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(command, cwd=smoke.root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run.start = start
    start("server", "start", "--port", str(port))
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()  # noqa: S310  # our own server
            break
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    yield run
    for process in reversed(started):
        process.terminate()
        process.wait(timeout=30)


def test_a_deployment_runs_to_a_verdict(prefect, smoke):
    prefect("work-pool", "create", "retraining", "--type", "process")
    prefect("deploy", "--all")
    weekly = json.loads(prefect("deployment", "inspect", "retrain/weekly", "--output", "json"))
    assert [entry["schedule"]["cron"] for entry in weekly["schedules"]] == ["0 4 * * 1"]
    manual = json.loads(prefect("deployment", "inspect", "retrain/manual", "--output", "json"))
    assert manual["schedules"] == []
    for deployment in (weekly, manual):
        assert deployment["global_concurrency_limit"]["limit"] == 1
        assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"

    prefect.start("worker", "start", "--pool", "retraining")
    overrides = ["gate.kl_budget=7", "evaluation.judge=true"]
    changed = json.dumps({"params": "profiles/smoke.yaml", "overrides": overrides})
    output = prefect("deployment", "run", "retrain/manual", "--params", changed, "--watch")
    assert "Completed" in output
    decision = json.loads((smoke.root / "runs/smoke/gate.json").read_text())
    assert decision["config"]["kl_budget"] == 7
    assert decision["verdict"] in {"promote", "block", "inconclusive"}
    (judge,) = (smoke.root / "artifacts/judge").glob("*/card.json")
    scores = pd.read_parquet(smoke.root / "runs/smoke/evaluation.parquet")["judge_reward"]
    low = json.loads(judge.read_text())["lift"]["interval"][0]
    assert bool(scores.isna().all()) == (low is None or low <= 0)  # without lift it is silent
