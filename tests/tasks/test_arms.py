"""What a comparison of arms leaves beside its figures: the next parameters, and the diagnosis of the run."""

import json

import pytest

from adapters.artefacts import Artefact, folder
from kellet.config.file import load_config
from kellet.config.judgement import Gate
from kellet.config.run import Config
from kellet.errors import NotPromoted
from kellet.remedies.measure import BASELINE, BOTH, Remedies
from tasks.remedies import Plan, Ran, _next, _tell_run, plan_arms

CONFIG = Config.model_validate({"name": "weekly", "tracking": {"registered_model": "ours"}})
PATCH = {"policy.kl.target": 2.0, "reward_model.length_control": "covariate"}


def ready():
    """An arm that was chosen, and what was found."""
    changed = CONFIG.model_copy(
        update={
            "name": "weekly-both",
            "policy": CONFIG.policy.model_copy(update={"kl": CONFIG.policy.kl.model_copy(update={"target": 2.0})}),
        }
    )
    return Plan(name=BOTH, config=changed, patch=PATCH), Remedies((), "", {}, BOTH, 9, Gate(), {})


def test_the_next_parameters_are_the_arms_under_the_name_of_the_baseline(tmp_path):
    plan, found = ready()
    (tmp_path / "next.yaml").write_text(_next(CONFIG, plan, found))
    following = load_config(tmp_path / "next.yaml")
    assert following == plan.config.model_copy(update={"name": "weekly"})
    comments = [line for line in (tmp_path / "next.yaml").read_text().splitlines() if line.startswith("#")]
    assert any("policy.kl.target: 2.0" in line for line in comments)
    # so that the next retraining computes nothing that the arm has computed
    inputs = {"data": Artefact(stage="data", path=tmp_path, hash="d")}
    for stage in ("reward_model", "policy", "evaluation"):
        assert folder(stage, following, inputs) == folder(stage, plan.config, inputs)


@pytest.mark.parametrize(("theirs", "told"), [("a1", True), ("b2", False)])
def test_a_run_hears_of_what_was_measured_for_its_own_diagnosis_alone(tmp_path, theirs, told):
    for name, evaluation, measured in (("run", theirs, None), ("run-remedies", "a1", {"arm": "first"})):
        (tmp_path / name).mkdir()
        diagnosis = {"inputs": {"evaluation": evaluation}, "recommendations": [{"measured": measured}]}
        (tmp_path / name / "diagnosis.json").write_text(json.dumps(diagnosis))
    _tell_run(tmp_path / "run", tmp_path / "run-remedies")
    found = json.loads((tmp_path / "run/diagnosis.json").read_text())["recommendations"][0]["measured"]
    assert (found == {"arm": "first"}) is told
    _tell_run(tmp_path / "never-ran", tmp_path / "run-remedies")


def test_a_baseline_that_stopped_has_nothing_to_remedy():
    stopped = Ran(plan=Plan(name=BASELINE, config=CONFIG), stages={}, stopped="no lift over length")
    with pytest.raises(NotPromoted, match="no lift over length"):
        plan_arms(stopped, "params.yaml", ())
