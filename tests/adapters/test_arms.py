"""Arms are planned from a diagnosis."""

import pytest

from adapters.arms import ArmRun, Plan, plan_arms
from kellet.config.run import Config
from kellet.errors import NotPromoted
from kellet.remedies.measure import BASELINE


def test_a_baseline_that_stopped_has_nothing_to_remedy():
    stopped = ArmRun(plan=Plan(name=BASELINE, config=Config()), stages={}, stopped="no lift over length")
    with pytest.raises(NotPromoted, match="no lift over length"):
        plan_arms(stopped, "params.yaml", ())
