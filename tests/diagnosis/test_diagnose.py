"""The diagnosis on runs whose causes are known, on figures worked by hand, and on what is missing."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kellet.config.file import load_config
from kellet.config.run import Config
from kellet.diagnosis.diagnose import HYPOTHESES, diagnose
from kellet.diagnosis.evidence import Evidence, read_evidence
from kellet.diagnosis.kl_hypotheses import c1_price, c2_scale, c4_controller, c5_estimator
from kellet.diagnosis.ppo_hypotheses import b1_stopping, b2_path
from kellet.diagnosis.reward_hypotheses import a1_labels, a5_style
from kellet.diagnosis.reward_outside_data import a3_outside
from kellet.errors import DataError, InputError
from kellet.evaluation.file import check_evaluation
from tests.helpers.evaluations import evaluation
from tests.helpers.simulated_runs import PRESENT, Causes, planted, simulate, text, truth


def found(causes, seed=0, control="covariate"):
    config = Config.model_validate({"reward_model": {"length_control": control}})
    return diagnose(replace(simulate(causes, seed), config=config))


@pytest.mark.parametrize("id_", sorted(PRESENT))
def test_a_planted_cause_is_supported_and_what_is_absent_is_not(id_):
    causes = planted(id_, 3)
    told = found(causes, 3)
    true = truth(causes)
    assert told.hypothesis(id_).supported, told.hypothesis(id_).evidence
    assert [item.id for item in told.hypotheses if item.supported and not true[item.id]] == []


def test_a_run_with_nothing_to_explain_is_told_so():
    told = found(Causes())
    assert [item.id for item in told.hypotheses if item.supported] == []
    assert "Why the reward rose" not in "".join(told.explanation)
    assert told.recommendations[0].change.startswith("Use the room that is left")


def test_a_run_without_length_bias_is_not_told_that_it_has_one():
    told = found(Causes(kl=20.0, beta=0.002, step=0.3))
    text = "\n".join(told.explanation)
    assert "Drift is cheap" in text
    assert "pays for length" not in text.replace("not supported", "")
    assert all("reward_model.length_control" not in item.patch for item in told.recommendations)


def test_the_explanation_joins_what_is_supported():
    told = found(Causes(label_taste=1.0, length_price=0.08, longer=30, kl=25.0, beta=0.003, step=0.05), control="none")
    text = "\n".join(told.explanation)
    assert "the reward pays for length" in text
    assert "a nat of drift costs less than it buys, so KL keeps rising although it is penalised" in text
    assert [next(iter(item.patch)) for item in told.recommendations] == [
        "reward_model.length_control",
        "policy.kl.controller",
    ]


def test_a_taste_of_the_labels_that_the_reward_lacks_is_no_reason_for_its_rise():
    told = found(Causes(label_taste=1.2, length_price=-0.05))
    assert told.hypothesis("A1").supported
    assert told.hypothesis("A2").verdict == "not supported"
    (paragraph,) = [text for text in told.explanation if "(A1)" in text]
    assert paragraph.startswith("Nothing was shown against the reward model; not supported: A2")
    assert paragraph.endswith("That did not reach the reward: A2 is not supported.")
    learned = found(Causes(label_taste=1.2, length_price=0.08))
    assert "did not reach" not in "".join(learned.explanation)


def test_a_drift_that_came_to_rest_is_not_said_to_keep_rising():
    whole = simulate(Causes(label_taste=1.0, length_price=0.08, longer=30, kl=25.0, beta=0.003, step=0.05), 0)
    still = [row | {"objective/kl": 25.0 + (n % 3)} for n, row in enumerate(whole.history)]
    text = "\n".join(diagnose(replace(whole, history=still)).explanation)
    assert "so KL left its budget although it is penalised" in text
    assert "keeps rising" not in text


@pytest.mark.parametrize(
    ("kl", "lead"), [(2.0, "KL is within its budget; of the penalty"), (9.0, "Why the KL penalty")]
)
def test_a_penalty_that_held_is_not_said_to_have_failed(kl, lead):
    # twice and nine times its target of 1 nat, the controller at its clip; the budget is 8
    history = constant(objective__kl=kl, objective__kl_coef=0.1, objective__kl_target=1.0)
    (said,) = (part for part in diagnose(Evidence(history=history)).explanation if "(C4)" in part)
    assert said.startswith(lead)


def constant(size=12, **values):
    names = {name.replace("__", "/"): value for name, value in values.items()}
    return [{"iteration": n + 1.0, **names} for n in range(size)]


def test_labels_worked_by_hand():
    # 40 pairs of different length, the longer one chosen in 34: 85%; five pairs of equal length do not count
    long, short = "a b c d", "a b"
    rows = [(f"p{n}", long if n < 34 else short, short if n < 34 else long) for n in range(40)]
    rows += [(f"q{n}", "a b", "c d") for n in range(5)]
    told = a1_labels(Evidence(preferences=pd.DataFrame(rows, columns=["prompt", "chosen", "rejected"])))
    assert told.supported
    assert told.deciding.estimate.value == pytest.approx(0.85)
    assert "40 pairs" in told.evidence


def test_price_of_drift_worked_by_hand():
    # the first three of 30 iterations have reward 1, the last ten have 6; 0.1 per nat · 10 nats / gain 5 = 20%
    rewards = [1.0] * 3 + list(np.linspace(1, 6, 17)) + [6.0] * 10
    history = [
        {"iteration": n + 1.0, "objective/reward": reward, "objective/kl": 10.0, "objective/kl_coef": 0.1}
        for n, reward in enumerate(rewards)
    ]
    told = c1_price(Evidence(history=history))
    assert told.supported
    assert told.deciding.estimate.value == pytest.approx(0.2)
    roomy = Config.model_validate({"gate": {"kl_budget": 12.0}})
    held = c1_price(Evidence(history=history, config=roomy))
    assert held.verdict == "not supported"
    assert held.deciding.name == "kl_over_budget"


def test_estimators_that_part_are_told():
    told = c5_estimator(Evidence(history=constant(objective__kl=4.0, objective__kl_k1=2.0)))
    assert told.supported
    assert told.deciding.estimate.value == pytest.approx(0.5)
    assert c5_estimator(Evidence(history=constant(objective__kl=4.0, objective__kl_k1=4.2))).verdict == "not supported"


def test_a_controller_that_cannot_catch_up():
    high = constant(objective__kl=9.0, objective__kl_coef=0.1, objective__kl_target=3.0)
    assert c4_controller(Evidence(history=high)).supported  # three times its target, at its clip throughout
    held = constant(objective__kl=3.1, objective__kl_coef=0.1, objective__kl_target=3.0)
    assert c4_controller(Evidence(history=held)).verdict == "not supported"
    loose = constant(objective__kl=11.0, objective__kl_coef=0.1, objective__kl_target=12.0)
    assert c4_controller(Evidence(history=loose)).deciding.name == "target_above_budget"
    fixed = constant(objective__kl=9.0, objective__kl_coef=0.1, objective__kl_target=None)
    assert "fixed at 0.1" in c4_controller(Evidence(history=fixed)).evidence
    steered = [row | {"objective/kl_coef": 0.1 + n / 100} for n, row in enumerate(fixed)]
    assert c4_controller(Evidence(history=steered)).verdict == "cannot tell"


def test_dilution_needs_both_courses():
    rising = [
        {"iteration": n + 1.0, "objective/kl": 10.0 + n, "objective/kl_per_token": 0.5 - 0.01 * n} for n in range(20)
    ]
    assert c2_scale(Evidence(history=rising)).supported
    both = [row | {"objective/kl_per_token": row["objective/kl"] / 40} for row in rising]
    assert not c2_scale(Evidence(history=both)).supported


@pytest.mark.parametrize(("falls", "shown"), [(0, False), (1, False), (2, True)])
def test_a_controller_that_lowers_its_penalty_above_its_target_steers_by_something_else(falls, shown):
    # KL is three times the target throughout; β rises by a tenth each time, and falls ``falls`` times
    beta = np.cumprod([1.0, *[0.9] * falls, *[1.1] * (11 - falls)])
    rows = constant(objective__kl=9.0, objective__kl_per_token=0.2, objective__kl_target=3.0)
    told = c2_scale(Evidence(history=[row | {"objective/kl_coef": b} for row, b in zip(rows, beta, strict=True)]))
    found = {item.name: item for item in told.findings}["lowered_above_target"]
    assert found.shown is shown
    assert f"in 11 iterations, and β was lowered after {falls} of them" in found.sentence
    assert told.supported is shown


def carded(temperature=1.0, sure=0.0):
    """A card whose reward is to be divided by ``temperature`` and is too sure by ``sure``."""
    ends = {"temperature": [0.9 * temperature, 1.1 * temperature], "overconfidence": [sure - 0.03, sure + 0.03]}
    values = {"temperature": temperature, "overconfidence": sure}
    return {"calibration": {name: {"value": values[name], "interval": ends[name]} for name in ends}}


@pytest.mark.parametrize(("by", "shown"), [(2.8, True), (2.1, None), (1.5, False)])
def test_a_reward_in_other_units_than_preferences_is_out_of_scale(by, shown):
    history = constant(objective__kl=9.0, objective__kl_per_token=0.2)
    told = c2_scale(Evidence(history=history, card=carded(by)))
    found = {item.name: item for item in told.findings}["reward_over_preference"]
    assert found.shown is shown
    assert told.supported is (shown is True)
    patches = [item.patch for item in diagnose(Evidence(history=history, card=carded(by))).recommendations]
    assert ({"reward_model.calibrate": True} in patches) is (shown is True)


@pytest.mark.parametrize(("sure", "shown"), [(0.27, True), (0.12, None), (0.05, False)])
def test_a_reward_model_that_has_its_pairs_by_heart_is_asked_outside_its_data(sure, shown):
    told = a3_outside(Evidence(judged(38), card=carded(sure=sure)))
    found = {item.name: item for item in told.findings}["overconfidence"]
    assert found.shown is shown
    assert told.supported is (shown is True)
    assert f"by {100 * sure:.0f} [" in found.sentence


@pytest.mark.parametrize(("of_token", "diluted"), [(1.2, True), (1.6, False)])
def test_a_rise_that_a_token_hides_by_hand(of_token, diluted):
    # over the second half KL of a response doubles; √2 = 1.41 times would be half of that on the logarithmic scale
    half = np.linspace(0, 1, 12)
    rows = [
        {"iteration": n + 1.0, "objective/kl": 10 * 2.0**x, "objective/kl_per_token": 0.3 * of_token**x}
        for n, x in enumerate([*[0.0] * 12, *half])
    ]
    told = c2_scale(Evidence(history=rows)).findings[0]
    assert (told.name, told.shown) == ("rise_hidden_per_token", diluted)
    assert f"became 2.00 [2.00, 2.00] times itself, that of a token {of_token:.2f}" in told.sentence


def judged(wins, std=1.0):
    """40 prompts whose candidate earns 2 more; the judge prefers it on the first ``wins``."""
    table = evaluation(40, samples=1, kl=2.0)
    mine = table["system"] == "candidate"
    number = table["prompt_id"].str[1:].astype(int)
    judge = np.where(mine, np.where(number < wins, 1.0, -1.0), 0.0)
    return check_evaluation(table.assign(reward=2.0 * mine, judge_human=judge, reward_std=np.where(mine, std, 1.0)))


def test_a_reward_that_promises_more_than_the_judge_finds_by_hand():
    # σ(2) = 0.8808; the judge gives 24 of 40: 28 points fewer, while more than half agree with the reward
    told = a3_outside(Evidence(judged(24), card={}))
    found = {item.name: item for item in told.findings}
    assert found["promised_and_not_found"].estimate.value == pytest.approx(0.8808 - 0.6, abs=1e-4)
    assert found["judge_agreement"].shown is not True
    few = {item.name: item.shown for item in a3_outside(Evidence(judged(14), card={})).findings}
    assert few["promised_and_not_found"] is True
    right = {item.name: item.shown for item in a3_outside(Evidence(judged(38), card={})).findings}
    assert right["promised_and_not_found"] is False
    # without a card nothing says that the reward is in logits
    assert "promised_and_not_found" not in {item.name for item in a3_outside(Evidence(judged(14))).findings}


def test_an_ensemble_that_is_unsure_of_the_candidate_is_told():
    shown = {std: a3_outside(Evidence(judged(30, std))).findings[-1] for std in (1.2, 2.0)}
    assert {item.name for item in shown.values()} == {"ensemble_disagreement"}
    assert (shown[1.2].shown, shown[2.0].shown) == (False, True)
    assert shown[2.0].estimate.value == pytest.approx(2.0)


def test_what_courtesy_earns_is_not_called_length():
    rng = np.random.default_rng(0)
    rows = []
    for prompt in range(80):
        for system, more in (("candidate", 1.5), ("reference", 0.0)):
            for sample in (0, 1):
                polite = int(rng.poisson(0.8 + more))
                answer = text(rng, int(rng.normal(25, 4)) + 6 * polite, polite)
                rows.append(
                    {
                        "prompt_id": f"p{prompt:03d}",
                        "prompt": f"Question {prompt}?",
                        "system": system,
                        "sample": sample,
                        "response": answer,
                        "reward": polite + 0.5 * rng.normal(),
                        "length_tokens": len(answer.split()),
                    }
                )
    told = diagnose(Evidence(check_evaluation(pd.DataFrame(rows))))
    assert told.hypothesis("A5").supported
    plain, held = told.hypothesis("A4").findings
    assert (plain.shown, held.shown) == (True, False)  # longer answers earn more, but by their courtesies
    assert told.hypothesis("A4").verdict == "not supported"


def test_less_of_a_style_is_told_and_does_not_count():
    told = a5_style(simulate(Causes(courtesy_price=-1.0, courtesies=-0.4), 0))
    assert told.verdict == "not supported"
    assert "Courtesy moved by -0." in told.evidence
    assert "Less of a style is not paid for as a style." in told.evidence


def test_a_step_is_taken_from_approxkl_where_nothing_better_was_logged():
    # 0.001 nats a token · 50 tokens = 0.05 nats a response, of 20
    rows = constant(objective__kl=20.0, ppo__policy__approxkl=0.001, tokens__response_mean=50.0)
    told = b2_path(Evidence(history=rows))
    assert told.supported
    assert told.deciding.estimate.value == pytest.approx(0.0025)
    assert "approxkl" in told.evidence


def test_what_is_missing_is_named():
    told = b1_stopping(Evidence(history=constant(objective__kl=1.0)))
    assert told.verdict == "cannot tell"
    assert "ppo/advantage/eos" in told.needs
    assert "tokens/stop_hazard/early" in told.needs
    assert "judge" in a3_outside(Evidence(history=constant(objective__kl=1.0))).needs


@pytest.mark.parametrize("kept", ["evaluation", "history", "preferences", "card"])
def test_each_file_alone_is_enough_to_begin_with(kept):
    whole = simulate(planted("A4", 1), 1)
    card = {"length_slope": {"value": 0.1, "interval": [0.05, 0.15], "prompts": 40}, "length_control": "none"}
    values = {"evaluation": whole.evaluation, "history": whole.history, "preferences": whole.preferences, "card": card}
    told = diagnose(Evidence(**{kept: values[kept]}))
    assert len(told.hypotheses) == len(HYPOTHESES)
    assert len(told.recommendations) == 2
    assert all(item.needs for item in told.hypotheses if item.verdict == "cannot tell")
    judged = {"evaluation": "A4", "history": "C5", "preferences": "A1", "card": "A2"}
    assert told.hypothesis(judged[kept]).verdict != "cannot tell"


def test_nothing_at_all_is_bad_usage():
    with pytest.raises(InputError, match="nothing to diagnose"):
        diagnose(Evidence())


def test_every_recommendation_is_a_patch_that_set_accepts():
    for id_ in PRESENT:
        first, second = diagnose(simulate(planted(id_, 5), 5)).recommendations
        assert first.change != second.change
        for item in (first, second):
            overrides = tuple(f"{key}={json.dumps(value)}" for key, value in item.patch.items())
            assert item.patch
            load_config(Path(os.devnull), overrides)


def hold_kl(kl, *, steered=None):
    """The patch that holds the KL of a drift, of a run with these settings of ``policy.kl`` and a budget of 8 nats."""
    config = Config.model_validate({"policy": {"kl": kl, "batch_size": 64, "minibatch_size": 64}})
    evidence = simulate(Causes(kl=20.0, beta=kl["init_coef"], step=0.3, target=steered), 0)
    told = diagnose(replace(evidence, config=config)).recommendations
    (found,) = [item for item in told if "policy.kl.init_coef" in item.patch]
    load_config(Path(os.devnull), [f"{key}={json.dumps(value)}" for key, value in found.patch.items()])
    return found


@pytest.mark.parametrize(
    ("kl", "steered", "target", "horizon"),
    [
        ({"controller": "fixed", "target": 1.0, "horizon": 300.0}, None, 1.0, 300.0),  # below a quarter: as it is
        ({"controller": "fixed", "target": 3.0, "horizon": 900.0}, None, 2.0, 512.0),  # a quarter of 8, 8 batches of 64
        ({"controller": "adaptive", "target": 6.0, "horizon": 300.0}, 6.0, 2.0, 300.0),
        ({"controller": "adaptive", "target": 1.0, "horizon": 300.0}, 1.0, 0.5, 300.0),  # missed: half of it
        ({"controller": "adaptive", "target": 3.0, "horizon": 300.0}, 1.0, 0.5, 300.0),  # what the history says counts
        ({"controller": "dual", "target": 1.0, "horizon": 64.0}, 1.0, 0.5, 64.0),
    ],
)
def test_a_recommended_controller_is_never_looser_than_the_run_s(kl, steered, target, horizon):
    found = hold_kl({**kl, "init_coef": 0.002}, steered=steered)
    assert found.patch["policy.kl.target"] == target
    assert found.patch["policy.kl.horizon"] == horizon
    assert found.patch["policy.kl.init_coef"] >= 0.002
    assert found.patch["policy.kl.controller"] == ("dual" if kl["controller"] == "dual" else "adaptive")


def test_a_recommended_controller_starts_no_lower_than_the_run_did():
    # the gain of 0.5 at 20 nats asks for 0.5/(2·√20) = 0.056 at 1 nat, the run began at 3
    assert hold_kl({"controller": "fixed", "target": 1.0, "init_coef": 3.0}).patch["policy.kl.init_coef"] >= 3.0


def test_a_target_that_was_missed_is_halved_with_the_reason():
    told = hold_kl({"controller": "adaptive", "target": 1.0, "init_coef": 0.002}, steered=1.0)
    assert "half of the 1 nat that the run was steered to and missed" in told.tradeoff


def test_room_is_used_only_where_nothing_is_wrong_and_the_target_is_in_the_way():
    assert not any("room" in item.change for item in found(Causes(label_taste=1.2, length_price=0.08)).recommendations)
    # KL 1 nat under a target of 3: 1.5 nats would be no raise
    assert not any("room" in item.change for item in found(Causes(kl=1.0, target=3.0)).recommendations)


def test_the_file_is_plain_json_and_the_same_for_the_same_run(tmp_path):
    for name in ("a", "b"):
        found(planted("C2", 2), 2).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    told = json.loads((tmp_path / "a").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert set(told) == {"observations", "hypotheses", "explanation", "recommendations", "inputs"}
    assert {"id", "statement", "evidence", "statistic", "interval", "verdict"} <= set(told["hypotheses"][0])
    wanted = {"change", "patch", "expected_effect", "tradeoff", "measured"}
    assert [set(item) >= wanted for item in told["recommendations"]] == [True, True]


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_evidence(Config(), None, tmp_path / "none.jsonl", None, None)
    (tmp_path / "card.json").write_text("[1]")
    with pytest.raises(DataError, match="holds a list"):
        read_evidence(Config(), None, None, None, tmp_path / "card.json")
