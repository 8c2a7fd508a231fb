"""Arms are planned from a diagnosis."""

import pytest

from adapters.arms import ArmRun, Plan, plan_arms
from adapters.artefacts import Artefact
from kellet.config.run import Config
from kellet.errors import NotPromoted
from kellet.files import write_json
from kellet.remedies.measure import BASELINE


def test_a_baseline_that_stopped_has_nothing_to_remedy():
    stopped = ArmRun(plan=Plan(name=BASELINE, config=Config()), stages={}, stopped="no lift over length")
    with pytest.raises(NotPromoted, match="no lift over length"):
        plan_arms(stopped, "params.yaml", ())


def test_recommendations_that_change_no_parameter_leave_nothing_to_measure(tmp_path):
    asked = [{"change": change, "patch": {}} for change in ("Repair the measurement", "Bring answers")]
    write_json(tmp_path / "diagnosis.json", {"recommendations": asked})
    stages = {"diagnosis": Artefact(stage="diagnosis", path=tmp_path, hash="d")}
    baseline = ArmRun(plan=Plan(name=BASELINE, config=Config()), stages=stages)
    with pytest.raises(NotPromoted, match=r"no recommendation changes a parameter\. First: Repair"):
        plan_arms(baseline, "params.yaml", ())
