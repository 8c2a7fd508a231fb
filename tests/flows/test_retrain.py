"""The user's command, end to end, on a smoke-sized profile; the order of the tests is that of a user's day."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request

import pandas as pd
import pytest
from filelock import FileLock
from mlflow import MlflowClient

from kellet.config.file import load_config
from kellet.models.sampling import generate_text, load_policy
from tests.helpers import project

STAGES = ("base_model", "reward_model", "policy", "evaluation", "gate", "diagnosis", "report")
VERDICTS = {0: "promote", 3: ("block", "inconclusive")}


def test_a_verdict_with_its_files(smoke):
    decision = json.loads((smoke.root / "runs/smoke/gate.json").read_text())
    assert decision["verdict"] in VERDICTS[smoke.done.returncode], smoke.done.stdout
    assert {file.name for file in (smoke.root / "runs/smoke").iterdir()} == {
        "card.json",
        "diagnosis.json",
        "evaluation.parquet",
        "gate.json",
        "history.jsonl",
        "manifest.json",
        "params.yaml",
        "report.html",
        "token_kl.json",
    }
    assert (smoke.root / "runs/smoke.1/notes.txt").read_text() == "mine"
    page = (smoke.root / "runs/smoke/report.html").read_text()
    assert decision["verdict"] in page
    for section in ("What changed", "Why it came out so", "Where the KL is", "The reward model's card"):
        assert section in page
    assert set(pd.read_parquet(smoke.root / "runs/smoke/evaluation.parquet")["system"]) == {"candidate", "reference"}
    assert f"smoke: {decision['verdict'].upper()}" in smoke.done.stdout
    assert "Traceback" not in smoke.done.stdout


def test_a_fresh_clone_reproduces_the_committed_data_hashes(smoke):
    changed = subprocess.run(
        ["git", "status", "--porcelain"], cwd=smoke.root, capture_output=True, text=True, check=True
    )
    assert changed.stdout == ""


def test_one_mlflow_run_per_stage_under_one_parent(smoke):
    client = MlflowClient(f"sqlite:///{smoke.root}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("kellet").experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    nested = {
        run.data.tags["stage"]: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    assert set(nested) == set(STAGES) - {"report"}
    assert {run.info.status for run in runs} == {"FINISHED"}
    steps = [json.loads(line) for line in (smoke.root / "runs/smoke/history.jsonl").read_text().splitlines()]
    logged = client.get_metric_history(nested["policy"].info.run_id, "objective/kl")
    assert [point.value for point in logged] == [step["objective/kl"] for step in steps]
    assert "diagnosis.json" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    (data,) = parent.inputs.dataset_inputs
    assert data.dataset.digest == parent.data.tags["data_md5"]
    assert data.dataset.digest in (smoke.root / "dvc.lock").read_text()
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=smoke.root, capture_output=True, text=True, check=True)
    assert parent.data.tags["git_commit"] == head.stdout.strip()
    assert parent.data.params["policy.kl.controller"] in {"fixed", "adaptive"}


def test_the_registered_model_says_what_the_trainer_said(smoke, tmp_path):
    MlflowClient(f"sqlite:///{smoke.root}/mlflow.db").set_registered_model_alias("kellet-smoke", "champion", "1")
    (samples,) = (smoke.root / "artifacts/policy").glob("*/samples.jsonl")
    script = f"""
import json, pathlib, mlflow, pandas as pd
mlflow.set_tracking_uri("sqlite:///{smoke.root}/mlflow.db")
model = mlflow.pyfunc.load_model("models:/kellet-smoke@champion")
rows = [json.loads(line) for line in pathlib.Path("{samples}").read_text().splitlines()]
prompts, written = [row["prompt"] for row in rows], [row["response"] for row in rows]
assert model.predict(prompts) == written
assert model.predict(pd.DataFrame({{"prompt": prompts}})) == written
sampled = model.predict(prompts, params={{"seed": 1}})
assert sampled == model.predict(prompts, params={{"seed": 1}}) != model.predict(prompts, params={{"seed": 2}})
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={key: value for key, value in project.environment(tmp_path).items() if key != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_a_registered_model_can_be_talked_to_in_a_pipe(smoke):
    """Its answers are those that the trainer wrote down; the reference's are its base model's alone."""
    (samples,) = (smoke.root / "artifacts/policy").glob("*/samples.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()][:3]
    done = subprocess.run(
        [sys.executable, "-m", "kellet", "chat", "--model", "kellet-smoke/1"],
        cwd=smoke.root,
        env=project.environment(smoke.root),
        input="".join(f"{row['prompt']}\n" for row in rows),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    answers = [line.removeprefix("policy:").strip() for line in done.stdout.splitlines() if line.startswith("policy:")]
    assert answers == [row["response"].split("\n")[0] or "(nothing)" for row in rows]
    missing = project.run(smoke.root, "chat", "--model", "kellet-smoke@nobody", module="kellet")
    assert missing.returncode == 2
    assert "no registered model 'kellet-smoke@nobody'" in missing.stdout


def test_the_registered_model_is_served_on_loopback_and_says_the_same(smoke):
    (policy,) = (smoke.root / "artifacts/policy").iterdir()
    (base,) = (smoke.root / "artifacts/base_model").iterdir()
    prompts = [json.loads(line)["prompt"] for line in (policy / "samples.jsonl").read_text().splitlines()]
    text = load_config(smoke.root / "profiles/smoke.yaml").text
    expected = generate_text(*load_policy(base, policy / "adapter"), prompts, text, seed=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asked = urllib.request.Request(  # our own server
        f"http://127.0.0.1:{port}/invocations",
        json.dumps({"inputs": prompts, "params": {"seed": 1}}).encode(),
        {"Content-Type": "application/json"},
    )
    with subprocess.Popen(
        [sys.executable, "-m", "kellet", "serve", "--model", "kellet-smoke/1", "--port", str(port)],
        cwd=smoke.root,
        env=project.environment(smoke.root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as server:
        try:
            project.wait_for(server, "Uvicorn running on")
            with urllib.request.urlopen(asked, timeout=120) as answer:  # noqa: S310
                served_answers = json.load(answer)["predictions"]
        finally:
            os.killpg(server.pid, signal.SIGTERM)  # mlflow starts its server as a process of its own
    assert served_answers == expected
    assert any(served_answers)


def test_the_registered_model_holds_no_code_and_mlflow_loads_it_by_itself(smoke):
    (folder,) = {file.parent for file in smoke.kept.glob("mlruns/**/MLmodel")}
    assert not [file.name for file in folder.rglob("*") if file.suffix in (".py", ".pkl", ".bin")]
    script = "import mlflow; print(mlflow.pyfunc.load_model('models:/kellet-smoke/1').predict(['hello']))"
    environment = project.environment(smoke.root, MLFLOW_TRACKING_URI="sqlite:///mlflow.db", DO_NOT_TRACK="true")
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=smoke.root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['")


def test_unchanged_it_waits_for_its_turn_and_then_computes_nothing(smoke):
    MlflowClient(f"sqlite:///{smoke.root}/mlflow.db").delete_registered_model_alias("kellet-smoke", "champion")
    before = project.files_of(smoke.root, *(f"artifacts/{stage}" for stage in STAGES))
    with FileLock(smoke.root / ".prefect/locks/retrain.lock") as lock:
        again = project.start(smoke.root, *project.SMOKE)
        project.wait_for(again, "waiting for it to end")
        lock.release()
    output, _ = again.communicate(timeout=120)
    assert again.returncode == smoke.done.returncode
    assert "unchanged since this verdict was reached" in output
    assert project.files_of(smoke.root, *(f"artifacts/{stage}" for stage in STAGES)) == before


@pytest.mark.parametrize("name", ["base_model/*/model.safetensors", "report/*/report.html"])
def test_an_artefact_with_a_changed_byte_is_neither_used_nor_published(smoke, name):
    (file,) = (smoke.root / "artifacts").glob(name)
    before = file.read_bytes()
    changed = bytearray(before)
    changed[-2] ^= 1
    file.write_bytes(changed)
    other = () if "report" in name else ("--set", "gate.seed=3")  # another retraining, which takes the base over
    try:
        done = project.run(smoke.root, *project.SMOKE, *other)
    finally:
        file.write_bytes(before)
    assert done.returncode == 2, done.stdout
    assert f"is not what was written: {file.name} changed or missing" in done.stdout


def test_a_deleted_artefact_is_computed_again_and_the_others_are_not(smoke):
    (policy,) = (smoke.root / "artifacts/policy").iterdir()
    (report,) = (smoke.root / "artifacts/report").iterdir()
    weights = (policy / "adapter/adapter_model.safetensors").read_bytes()
    kept = project.files_of(smoke.root, "artifacts/base_model", "artifacts/reward_model", "artifacts/evaluation")
    shutil.rmtree(policy)
    shutil.rmtree(report)
    again = project.run(smoke.root, *project.SMOKE)
    assert again.returncode == smoke.done.returncode
    assert (policy / "adapter/adapter_model.safetensors").read_bytes() == weights
    assert (
        project.files_of(smoke.root, "artifacts/base_model", "artifacts/reward_model", "artifacts/evaluation") == kept
    )
    versions = MlflowClient(f"sqlite:///{smoke.root}/mlflow.db").search_model_versions("name = 'kellet-smoke'")
    assert [int(version.version) for version in versions] == [1]


def test_beside_a_champion_all_three_answer_and_are_compared(smoke):
    client = MlflowClient(f"sqlite:///{smoke.root}/mlflow.db")
    client.set_registered_model_alias("kellet-smoke", "champion", "1")
    done = project.run(smoke.root, *project.SMOKE, "--set", "policy.learning_rate=2e-3")
    assert done.returncode in {0, 3}, done.stdout
    table = pd.read_parquet(smoke.root / "runs/smoke/evaluation.parquet")
    prompts = table.groupby("system")["prompt_id"].agg(set)
    assert set(prompts.index) == {"candidate", "reference", "champion"}
    assert prompts["champion"] == prompts["candidate"]
    decision = json.loads((smoke.root / "runs/smoke/gate.json").read_text())
    gain = decision["comparison_with_champion"]["reward_gain"]
    means = table.groupby("system")["reward"].mean()
    assert gain["value"] == pytest.approx(means["candidate"] - means["champion"], abs=1e-6)
    version = client.get_model_version("kellet-smoke", "2")
    assert version.tags["verdict"] == decision["verdict"]
    champion = client.get_model_version_by_alias("kellet-smoke", "champion")
    assert int(champion.version) == (2 if decision["promote"] else 1)
    client.delete_registered_model_alias("kellet-smoke", "champion")


def test_a_batch_that_fails_its_checks_leaves_the_old_data(smoke):
    before = project.files_of(smoke.root, "data/prepared", "runs")
    profile = smoke.root / "profiles/smoke.yaml"
    text, lock = profile.read_text(), (smoke.root / "dvc.lock").read_bytes()
    profile.write_text(text.replace("\ndata:\n", "\ndata:\n  validation: {min_pairs: 1000000}\n"))
    try:
        refused = project.run(smoke.root, *project.SMOKE)
    finally:
        profile.write_text(text)
        (smoke.root / "dvc.lock").write_bytes(lock)
    assert refused.returncode == 2
    assert "error: the preferences cannot be used: expect_table_row_count" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert project.files_of(smoke.root, "data/prepared", "runs") == before
