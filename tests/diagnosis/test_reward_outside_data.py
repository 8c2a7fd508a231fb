"""A3: a reward model that is asked outside its data, on figures worked by hand."""

import numpy as np
import pytest

from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.reward_outside_data import a3_outside
from kellet.evaluation.file import check_evaluation
from tests.helpers.evaluations import evaluation
from tests.helpers.simulated_runs import calibration_card


def judged(wins, std=1.0):
    """40 prompts whose candidate earns 2 more; the judge prefers it on the first ``wins``."""
    table = evaluation(40, samples=1, kl=2.0)
    candidate = table["system"] == "candidate"
    number = table["prompt_id"].str[1:].astype(int)
    judge = np.where(candidate, np.where(number < wins, 1.0, -1.0), 0.0)
    spread = np.where(candidate, std, 1.0)
    return check_evaluation(table.assign(reward=2.0 * candidate, judge_human=judge, reward_std=spread))


def findings(evidence):
    return {item.name: item for item in a3_outside(evidence).findings}


@pytest.mark.parametrize(("overconfidence", "shown"), [(0.27, True), (0.12, None), (0.05, False)])
def test_an_overconfident_reward_model_is_asked_outside_its_data(overconfidence, shown):
    evidence = Evidence(judged(38), card=calibration_card(overconfidence=overconfidence))
    finding = findings(evidence)["overconfidence"]
    assert finding.shown is shown
    assert a3_outside(evidence).supported is (shown is True)
    assert f"by {100 * overconfidence:.0f} [" in finding.sentence


def test_a_reward_that_promises_more_than_the_judge_finds_by_hand():
    # σ(2) = 0.8808; the judge gives 24 of 40: 28 points fewer, while more than half agree with the reward
    some = findings(Evidence(judged(24), card={}))
    assert some["promised_and_not_found"].estimate.value == pytest.approx(0.8808 - 0.6, abs=1e-4)
    assert some["judge_agreement"].shown is not True
    assert findings(Evidence(judged(14), card={}))["promised_and_not_found"].shown is True
    assert findings(Evidence(judged(38), card={}))["promised_and_not_found"].shown is False
    # without a card nothing says that the reward is in logits
    assert "promised_and_not_found" not in findings(Evidence(judged(14)))


def test_an_ensemble_that_is_unsure_of_the_candidate_is_shown():
    last = {std: a3_outside(Evidence(judged(30, std))).findings[-1] for std in (1.2, 2.0)}
    assert {item.name for item in last.values()} == {"ensemble_disagreement"}
    assert (last[1.2].shown, last[2.0].shown) == (False, True)
    assert last[2.0].estimate.value == pytest.approx(2.0)
