"""What a comparison of arms leaves beside its figures: the next parameters, and the diagnosis of the run."""

import json

import pytest

from adapters.artefacts import Artefact, folder
from kellet.config.file import load_config
from kellet.config.run import Config
from kellet.report.remedies_folder import add_effects, next_parameters

CONFIG = Config.model_validate({"name": "weekly", "tracking": {"registered_model": "ours"}})
PATCH = {"policy.kl.target": 2.0, "reward_model.length_control": "covariate"}


def test_the_next_parameters_are_the_arms_under_the_name_of_the_baseline(tmp_path):
    kl = CONFIG.policy.kl.model_copy(update={"target": 2.0})
    arm = CONFIG.model_copy(update={"name": "weekly-both", "policy": CONFIG.policy.model_copy(update={"kl": kl})})
    (tmp_path / "next.yaml").write_text(next_parameters("weekly", arm, PATCH, "Ready: both."))
    following = load_config(tmp_path / "next.yaml")
    assert following == arm.model_copy(update={"name": "weekly"})
    comments = [line for line in (tmp_path / "next.yaml").read_text().splitlines() if line.startswith("#")]
    assert any("policy.kl.target: 2.0" in line for line in comments)
    # so that the next retraining computes nothing that the arm has computed
    inputs = {"data": Artefact(stage="data", path=tmp_path, hash="d")}
    for stage in ("reward_model", "policy", "evaluation"):
        assert folder(stage, following, inputs) == folder(stage, arm, inputs)


@pytest.mark.parametrize(("judged", "updated"), [("a1", True), ("b2", False)])
def test_a_run_gets_the_effects_of_its_own_diagnosis_alone(tmp_path, judged, updated):
    for name, evaluation, measured in (("run", judged, None), ("run-remedies", "a1", {"arm": "first"})):
        (tmp_path / name).mkdir()
        diagnosis = {"inputs": {"evaluation": evaluation}, "recommendations": [{"measured": measured}]}
        (tmp_path / name / "diagnosis.json").write_text(json.dumps(diagnosis))
    add_effects(tmp_path / "run", tmp_path / "run-remedies")
    effect = json.loads((tmp_path / "run/diagnosis.json").read_text())["recommendations"][0]["measured"]
    assert (effect == {"arm": "first"}) is updated
    add_effects(tmp_path / "never-ran", tmp_path / "run-remedies")
