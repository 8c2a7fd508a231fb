"""C1, C2, C4 and C5 on histories worked by hand."""

import numpy as np
import pytest

from kellet.config.run import Config
from kellet.diagnosis.diagnose import diagnose
from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.kl_hypotheses import c1_price, c2_scale, c4_controller, c5_estimator
from tests.helpers.simulated_runs import calibration_card, constant_history


def test_price_of_drift_worked_by_hand():
    # the first five of 30 iterations have reward 1, the last ten have 6; 0.1 per nat · 10 nats / gain 5 = 20%
    rewards = [1.0] * 5 + list(np.linspace(1, 6, 15)) + [6.0] * 10
    history = [
        {"iteration": n + 1.0, "objective/reward": reward, "objective/kl": 10.0, "objective/kl_coef": 0.1}
        for n, reward in enumerate(rewards)
    ]
    price = c1_price(Evidence(history=history))
    assert price.supported
    assert price.deciding.estimate.value == pytest.approx(0.2)
    roomy = Config.model_validate({"gate": {"kl_budget": 12.0}})
    held = c1_price(Evidence(history=history, config=roomy))
    assert held.verdict == "not supported"
    assert held.deciding.name == "kl_over_budget"


def test_dilution_needs_both_metrics():
    rising = [
        {"iteration": n + 1.0, "objective/kl": 10.0 + n, "objective/kl_per_token": 0.5 - 0.01 * n} for n in range(20)
    ]
    assert c2_scale(Evidence(history=rising)).supported
    both = [row | {"objective/kl_per_token": row["objective/kl"] / 40} for row in rising]
    assert not c2_scale(Evidence(history=both)).supported


@pytest.mark.parametrize(("growth", "diluted"), [(1.2, True), (1.6, False)])
def test_a_rise_that_kl_per_token_hides_by_hand(growth, diluted):
    # over the second half KL of a response doubles; √2 = 1.41 times would be half of that on the logarithmic scale. The
    # last four of its twelve iterations are on average (8 + 9 + 10 + 11)/4/11 = 19/22 of the way
    half = np.linspace(0, 1, 12)
    rows = [
        {"iteration": n + 1.0, "objective/kl": 10 * 2.0**x, "objective/kl_per_token": 0.3 * growth**x}
        for n, x in enumerate([*[0.0] * 12, *half])
    ]
    finding = c2_scale(Evidence(history=rows)).findings[0]
    assert (finding.name, finding.shown) == ("rise_hidden_per_token", diluted)
    response, token = 2 ** (19 / 22), growth ** (19 / 22)
    assert f"went to {response:.2f} [{response:.2f}, {response:.2f}] times its level at first" in finding.sentence
    assert f"that of a token to {token:.2f}" in finding.sentence


@pytest.mark.parametrize(("falls", "shown"), [(0, False), (1, False), (2, True)])
def test_a_controller_that_lowers_its_penalty_above_its_target_is_steered_by_something_else(falls, shown):
    # KL is three times the target throughout; β rises by a tenth each time, and falls ``falls`` times
    beta = np.cumprod([1.0, *[0.9] * falls, *[1.1] * (11 - falls)])
    rows = constant_history(objective__kl=9.0, objective__kl_per_token=0.2, objective__kl_target=3.0)
    scale = c2_scale(Evidence(history=[row | {"objective/kl_coef": b} for row, b in zip(rows, beta, strict=True)]))
    finding = {item.name: item for item in scale.findings}["lowered_above_target"]
    assert finding.shown is shown
    assert f"in 11 iterations, and β was lowered after {falls} of them" in finding.sentence
    assert scale.supported is shown


@pytest.mark.parametrize(("temperature", "shown"), [(2.8, True), (2.1, None), (1.5, False)])
def test_a_reward_in_other_units_than_preferences_is_out_of_scale(temperature, shown):
    history = constant_history(objective__kl=9.0, objective__kl_per_token=0.2)
    evidence = Evidence(history=history, card=calibration_card(temperature))
    scale = c2_scale(evidence)
    assert {item.name: item for item in scale.findings}["reward_over_preference"].shown is shown
    assert scale.supported is (shown is True)
    patches = [item.patch for item in diagnose(evidence).recommendations]
    assert ({"reward_model.calibrate": True} in patches) is (shown is True)


def test_a_controller_that_cannot_catch_up():
    high = constant_history(objective__kl=9.0, objective__kl_coef=0.1, objective__kl_target=3.0)
    assert c4_controller(Evidence(history=high)).supported  # three times its target, at its clip throughout
    held = constant_history(objective__kl=3.1, objective__kl_coef=0.1, objective__kl_target=3.0)
    assert c4_controller(Evidence(history=held)).verdict == "not supported"
    loose = constant_history(objective__kl=11.0, objective__kl_coef=0.1, objective__kl_target=12.0)
    assert c4_controller(Evidence(history=loose)).deciding.name == "target_above_budget"
    fixed = constant_history(objective__kl=9.0, objective__kl_coef=0.1, objective__kl_target=None)
    assert "fixed at 0.1" in c4_controller(Evidence(history=fixed)).evidence
    steered = [row | {"objective/kl_coef": 0.1 + n / 100} for n, row in enumerate(fixed)]
    assert c4_controller(Evidence(history=steered)).verdict == "cannot tell"


def test_estimators_that_differ_are_shown():
    apart = c5_estimator(Evidence(history=constant_history(objective__kl=4.0, objective__kl_k1=2.0)))
    assert apart.supported
    assert apart.deciding.estimate.value == pytest.approx(0.5)
    close = constant_history(objective__kl=4.0, objective__kl_k1=4.2)
    assert c5_estimator(Evidence(history=close)).verdict == "not supported"
