"""The diagnosis as a whole: on runs whose causes are known, from a part of the files, and as JSON."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from kellet.config.data import Data
from kellet.config.run import Config
from kellet.diagnosis.diagnose import HYPOTHESES, diagnose
from kellet.diagnosis.evidence import Evidence, read_evidence, read_pairs
from kellet.diagnosis.ppo_hypotheses import b1_stopping
from kellet.diagnosis.reward_outside_data import a3_outside
from kellet.errors import DataError, InputError
from tests.helpers.rows import write_jsonl
from tests.helpers.simulated_runs import PRESENT, Causes, constant_history, diagnosed, planted, simulate, truth


@pytest.mark.parametrize("id_", sorted(PRESENT))
def test_a_planted_cause_is_supported_and_what_is_absent_is_not(id_):
    causes = planted(id_, 3)
    diagnosis = diagnosed(causes, 3)
    true = truth(causes)
    assert diagnosis.hypothesis(id_).supported, diagnosis.hypothesis(id_).evidence
    assert [item.id for item in diagnosis.hypotheses if item.supported and not true[item.id]] == []


def test_a_run_with_nothing_to_explain_has_no_cause():
    diagnosis = diagnosed(Causes(), seed=1)  # of seed 0 more prompts would have to tell A2: no ground to loosen
    assert [item.id for item in diagnosis.hypotheses if item.supported] == []
    assert "Why the reward rose" not in "".join(diagnosis.explanation)
    assert diagnosis.recommendations[0].change.startswith("Use the room that is left")


def test_a_run_without_length_bias_gets_no_length_bias():
    diagnosis = diagnosed(Causes(kl=20.0, beta=0.002, step=0.3))
    text = "\n".join(diagnosis.explanation)
    assert "Drift is cheap" in text
    assert "pays for length" not in text.replace("not supported", "")
    assert all("reward_model.length_control" not in item.patch for item in diagnosis.recommendations)


BIASED = Causes(label_taste=1.0, length_price=0.08, longer=30, kl=25.0, beta=0.003, step=0.05)


def test_the_explanation_joins_what_is_supported():
    diagnosis = diagnosed(BIASED, control="none")
    text = "\n".join(diagnosis.explanation)
    assert "the reward pays for length" in text
    assert "a nat of drift costs less than it buys, so KL keeps rising although it is penalised" in text
    assert [next(iter(item.patch)) for item in diagnosis.recommendations] == [
        "reward_model.length_control",
        "policy.kl.controller",
    ]


def test_a_taste_of_the_labels_that_the_reward_lacks_is_no_reason_for_its_rise():
    diagnosis = diagnosed(Causes(label_taste=1.2, length_price=-0.05))
    assert diagnosis.hypothesis("A1").supported
    assert diagnosis.hypothesis("A2").verdict == "not supported"
    (paragraph,) = [text for text in diagnosis.explanation if "(A1)" in text]
    assert paragraph.startswith("Nothing was shown against the reward model; not supported: A2")
    assert paragraph.endswith("That did not reach the reward: A2 is not supported.")
    learned = diagnosed(Causes(label_taste=1.2, length_price=0.08))
    assert "did not reach" not in "".join(learned.explanation)


def test_a_drift_that_came_to_rest_does_not_keep_rising():
    run = simulate(BIASED, 0)
    resting = [row | {"objective/kl": 25.0 + (n % 3)} for n, row in enumerate(run.history)]
    text = "\n".join(diagnose(replace(run, history=resting)).explanation)
    assert "so KL left its budget although it is penalised" in text
    assert "keeps rising" not in text


@pytest.mark.parametrize(
    ("kl", "lead"),
    [
        (2.0, "KL is within its budget, but the penalty has a weakness: The controller of β"),
        (9.0, "Why the KL penalty"),
    ],
)
def test_a_penalty_that_held_did_not_fail(kl, lead):
    # twice and nine times its target of 1 nat, the controller at its clip; the budget is 8
    history = constant_history(objective__kl=kl, objective__kl_coef=0.1, objective__kl_target=1.0)
    (paragraph,) = (text for text in diagnose(Evidence(history=history)).explanation if "(C4)" in text)
    assert paragraph.startswith(lead)


def test_missing_data_are_named():
    history = constant_history(objective__kl=1.0)
    stopping = b1_stopping(Evidence(history=history))
    assert stopping.verdict == "cannot tell"
    assert "ppo/advantage/eos" in stopping.needs
    assert "tokens/stop_hazard/early" in stopping.needs
    assert "judge" in a3_outside(Evidence(history=history)).needs


@pytest.mark.parametrize("kept", ["evaluation", "history", "preferences", "card"])
def test_each_file_alone_is_enough_to_begin_with(kept):
    run = simulate(planted("A4", 1), 1)
    card = {"length_slope": {"value": 0.1, "interval": [0.05, 0.15], "prompts": 40}, "length_control": "none"}
    files = {"evaluation": run.evaluation, "history": run.history, "preferences": run.preferences, "card": card}
    diagnosis = diagnose(Evidence(**{kept: files[kept]}))
    assert len(diagnosis.hypotheses) == len(HYPOTHESES)
    assert len(diagnosis.recommendations) == 2
    assert all(item.needs for item in diagnosis.hypotheses if item.verdict == "cannot tell")
    decided = {"evaluation": "A4", "history": "C5", "preferences": "A1", "card": "A2"}
    assert diagnosis.hypothesis(decided[kept]).verdict != "cannot tell"


def test_nothing_at_all_is_bad_usage():
    with pytest.raises(InputError, match="nothing to diagnose"):
        diagnose(Evidence())


def test_the_file_is_plain_json_and_the_same_for_the_same_run(tmp_path):
    for name in ("a", "b"):
        diagnosed(planted("C2", 2), 2).write(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    content = json.loads((tmp_path / "a").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert set(content) == {"observations", "hypotheses", "explanation", "recommendations", "inputs"}
    assert {"id", "statement", "evidence", "statistic", "interval", "verdict"} <= set(content["hypotheses"][0])
    wanted = {"change", "patch", "expected_effect", "tradeoff", "measured"}
    assert [set(item) >= wanted for item in content["recommendations"]] == [True, True]


def test_raw_preferences_are_read_as_the_parameters_say(tmp_path):
    """Also from Parquet that has the three columns and was not prepared: conversations become stored prompts."""
    rows = [
        {"prompt": f"Where is it, {n}?", "response_a": f"Here, {n}.", "response_b": f"No idea, {n}.", "label": n % 2}
        for n in range(8)
    ]
    path = write_jsonl(tmp_path / "raw.jsonl", rows)
    with pytest.raises(DataError, match="2 readings"):
        read_pairs(path)
    pairs = read_pairs(path, Data(preferred_values={0: "b", 1: "a"}))
    assert pairs["chosen"].tolist() == [f"{'Here' if n % 2 else 'No idea'}, {n}." for n in range(8)]
    user, yes, no = (
        {"role": role, "content": text} for role, text in zip(("user", *["assistant"] * 2), "abc", strict=True)
    )
    pd.DataFrame([{"prompt": [user], "chosen": [yes], "rejected": [no]}]).to_parquet(tmp_path / "raw.parquet")
    wanted = [['[{"role": "user", "content": "a"}]', "b", "c"]]
    assert read_pairs(tmp_path / "raw.parquet").to_numpy().tolist() == wanted


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_evidence(Config(), None, tmp_path / "none.jsonl", None, None)
    (tmp_path / "card.json").write_text("[1]")
    with pytest.raises(DataError, match="holds a list"):
        read_evidence(Config(), None, None, None, tmp_path / "card.json")
