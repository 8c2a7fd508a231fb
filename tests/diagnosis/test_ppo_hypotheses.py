"""B2 from the logs of a trainer that does not measure its updates."""

import pytest

from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.ppo_hypotheses import b1_stopping, b2_path
from tests.helpers.simulated_runs import constant_history


def test_an_update_is_taken_from_approxkl_where_nothing_better_was_logged():
    # 0.001 nats a token · 50 tokens = 0.05 nats a response, of 20
    rows = constant_history(objective__kl=20.0, ppo__policy__approxkl=0.001, tokens__response_mean=50.0)
    path = b2_path(Evidence(history=rows))
    assert path.supported
    assert path.deciding.estimate.value == pytest.approx(0.0025)
    assert "approxkl" in path.evidence


@pytest.mark.parametrize("approxkl", [0.0, 2e-4, -2e-4])
def test_an_update_s_kl_that_is_zero_by_construction_cannot_be_judged(approxkl):
    # 12 updates of s nats go at most 144·s far, and ten times that is granted: 20 nats need 0.014 each, 3e-4 a token
    rows = constant_history(objective__kl=20.0, ppo__policy__approxkl=approxkl, tokens__response_mean=50.0)
    path = b2_path(Evidence(history=rows))
    assert path.verdict == "cannot tell"
    assert "approxkl" in path.needs
    assert len(rows) == 12
    enough = constant_history(objective__kl=20.0, ppo__policy__approxkl=4e-4, tokens__response_mean=50.0)
    assert b2_path(Evidence(history=enough)).supported


def test_a_kl_of_updates_with_some_below_zero_is_no_kl():
    rows = constant_history(objective__kl=20.0, ppo__policy__approxkl=1e-3, tokens__response_mean=50.0)
    signs = [row | {"ppo/policy/approxkl": -5e-5 if n % 6 == 5 else 1e-3} for n, row in enumerate(rows)]
    assert b2_path(Evidence(history=signs)).verdict == "cannot tell"


def test_updates_are_counted_by_steps_and_not_by_episodes():
    """30 rows, 0.001 nats an update: 10·30²·0.001 = 9 nats at most, of 20; every tenth step logged: 10·300²·0.001."""
    rows = constant_history(30, objective__kl=20.0, ppo__policy__approxkl=2e-5, tokens__response_mean=50.0)
    episodes = [row | {"iteration": 64.0 * n, "episodes": 64.0 * n} for n, row in enumerate(rows, 1)]
    assert b2_path(Evidence(history=episodes)).verdict == "cannot tell"
    tenth = [row | {"iteration": 10.0 * n} for n, row in enumerate(rows, 1)]
    assert b2_path(Evidence(history=tenth)).verdict == "supported"


def test_an_update_measured_as_zero_is_no_small_step():
    rows = constant_history(objective__kl=20.0, ppo__policy__kl_update=0.0, tokens__response_mean=50.0)
    assert b2_path(Evidence(history=rows)).verdict == "cannot tell"
    # and another measure of it is not taken in its place
    both = [row | {"ppo/policy/kl_update": -1.0, "ppo/policy/approxkl": 0.001} for row in rows]
    assert b2_path(Evidence(history=both)).verdict == "cannot tell"


def test_stopping_is_a_test_of_direction_and_tells_its_levels():
    # both shares fall by a point an iteration, from 64.2% and 66.2%: 65.2% at first, 24.5 less in the last third
    rows = [
        {
            "iteration": n + 1.0,
            "ppo/advantage/eos": -0.3,
            "ppo/advantage/other": 0.0,
            "tokens/stop_hazard/early": 0.642 - n / 100,
            "tokens/stop_hazard/middle": 0.662 - n / 100,
        }
        for n in range(30)
    ]
    stopping = b1_stopping(Evidence(history=rows))
    assert stopping.supported
    assert "went from 65% to 41% (mean of the two; by a straight line -29.0 [-29.0, -29.0]" in stopping.evidence
