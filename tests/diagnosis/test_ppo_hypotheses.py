"""B2 from the logs of a trainer that does not measure its updates."""

import pytest

from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.ppo_hypotheses import b2_path
from tests.helpers.simulated_runs import constant_history


def test_an_update_is_taken_from_approxkl_where_nothing_better_was_logged():
    # 0.001 nats a token · 50 tokens = 0.05 nats a response, of 20
    rows = constant_history(objective__kl=20.0, ppo__policy__approxkl=0.001, tokens__response_mean=50.0)
    path = b2_path(Evidence(history=rows))
    assert path.supported
    assert path.deciding.estimate.value == pytest.approx(0.0025)
    assert "approxkl" in path.evidence
