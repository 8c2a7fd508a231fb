"""The recommended changes as arms beside the smoke retraining, in processes of their own: killed, and repeated."""

import json
import shutil

import pandas as pd
import psutil
import pytest
from mlflow import MlflowClient

from kellet.config.file import load_config
from kellet.report.run import read_runs
from tests.helpers import project

ARMS = ("baseline", "first", "second", "both")


@pytest.fixture(scope="module")
def remedied(smoke, tmp_path_factory):
    """A copy of the smoke project: killed while the arms ran in processes of their own, then run to its end."""
    root = tmp_path_factory.mktemp("remedies") / "kellet"
    shutil.copytree(smoke.kept, root)
    before = project.files_of(root, "artifacts/base_model", "artifacts/policy")
    with project.start(root, *project.SMOKE, "--workers", "2", module="flows.remedies") as process:
        output = project.wait_for(process, "policy: computing")
        workers = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    done = project.run(root, *project.SMOKE, "--workers", "2", module="flows.remedies")
    return root, before, output, workers, done


def folder_of(root):
    return root / "runs/smoke-remedies"


def test_the_baseline_is_taken_from_the_retraining(remedied):
    root, before, output, _, done = remedied
    assert done.returncode in {0, 3}, done.stdout
    after = project.files_of(root, "artifacts/base_model", "artifacts/policy")
    assert {name: after.get(name) for name in before} == before
    assert "base_model: computing" not in output + done.stdout


def test_no_arm_trains_on_after_a_kill(remedied):
    _, _, output, workers, _ = remedied
    assert "policy: computing" in output
    assert workers
    alive = [process for process in workers if process.is_running() and "flows" in " ".join(process.cmdline())]
    assert alive == []


def test_every_arm_is_a_run_that_can_be_compared(remedied):
    root, *_ = remedied
    runs = read_runs([folder_of(root) / name for name in ARMS])
    assert [run.name for run in runs] == list(ARMS)
    prompts = {name: set(pd.read_parquet(folder_of(root) / name / "evaluation.parquet")["prompt_id"]) for name in ARMS}
    assert all(prompts["baseline"] <= ids for ids in prompts.values())  # one that looks closer asks more
    result = json.loads((folder_of(root) / "remedies.json").read_text())
    assert [arm["arm"] for arm in result["arms"]] == list(ARMS)
    for arm, run in zip(result["arms"], runs, strict=True):
        assert arm["verdict"] == run.decision["verdict"]
        if prompts[run.name] == prompts["baseline"]:  # the effect is then the gate's own figure, of the same rows
            length = next(check for key, check in run.checks().items() if key[1] == "length_ratio")
            assert arm["against_reference"]["length"]["value"] == pytest.approx(length["value"])
        assert bool(arm["against_baseline"]) == (arm["arm"] != "baseline")
        assert all(seconds > 0 for seconds in arm["processor_seconds"].values() if seconds is not None)


def test_arms_differ_from_the_baseline_by_their_patch_alone(remedied):
    root, *_ = remedied
    result = json.loads((folder_of(root) / "remedies.json").read_text())
    baseline = load_config(folder_of(root) / "baseline/params.yaml")
    for arm in result["arms"]:
        overrides = tuple(f"{key}={json.dumps(value)}" for key, value in arm["patch"].items())
        wanted = load_config(folder_of(root) / "baseline/params.yaml", overrides)
        found = load_config(folder_of(root) / arm["arm"] / "params.yaml")
        assert found.model_copy(update={"name": baseline.name}) == wanted
    assert result["arms"][3]["patch"] == {**result["arms"][2]["patch"], **result["arms"][1]["patch"]}


def test_the_diagnosis_has_measured_effects_and_nothing_is_registered(remedied):
    root, *_ = remedied
    for place in ("runs/smoke-remedies/diagnosis.json", "runs/smoke/diagnosis.json"):
        measured = [item["measured"] for item in json.loads((root / place).read_text())["recommendations"]]
        assert [item["arm"] for item in measured] == ["first", "second"]
        assert all(item["against_baseline"]["length"]["interval"] for item in measured)
    versions = MlflowClient(f"sqlite:///{root}/mlflow.db").search_model_versions("name = 'kellet-smoke'")
    assert len(versions) == 1


def test_a_ready_file_exists_exactly_when_an_arm_is_promoted(remedied):
    root, _, _, _, done = remedied
    result = json.loads((folder_of(root) / "remedies.json").read_text())
    promoted = [arm["arm"] for arm in result["arms"] if arm["verdict"] == "promote"]
    assert (result["chosen"] in promoted) if promoted else (result["chosen"] is None)
    assert (folder_of(root) / "next.yaml").exists() == bool(promoted)
    assert done.returncode == (0 if promoted else 3)
