"""Logs of other trainers: their names, units, estimators and signs, what cannot be right, and what is not guessed."""

import re

import pytest
from click.testing import CliRunner

from kellet.cli.main import main
from kellet.diagnosis.diagnose import diagnose
from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.import_logs import CORE, import_history, translate
from kellet.diagnosis.trainers import TRAINERS
from kellet.errors import DataError, InputError
from kellet.live.translate import Translator
from tests.helpers.foreign_logs import GRPO_ROW, OPENRLHF_ROW, PPO_ROW, VERL_ROW, write_logs
from tests.helpers.project import ROOT

EXPECTED = {
    # TRL sums over the response already; β = -(-1.0)/20 = 0.05
    "TRL PPOTrainer": (PPO_ROW, {"objective/reward": 3.0, "objective/kl_k1": 20.0, "objective/kl_coef": 0.05}),
    # 0.1 nats a token · 150 tokens
    "TRL GRPOTrainer or RLOOTrainer": (GRPO_ROW, {"objective/kl_k3": 15.0, "tokens/response_mean": 150.0}),
    "OpenRLHF": (OPENRLHF_ROW, {"objective/kl_k1": 10.0, "objective/reward": 1.5, "tokens/truncated_share": 0.25}),
    "verl": (VERL_ROW, {"objective/kl_k1": 6.0, "objective/kl_coef": 0.001, "objective/reward": 0.8}),
}
OLDER = [
    # TRL up to 0.11 (trl v0.11.4, trainer/ppo_trainer.py, record_step_stats): β is logged
    (
        {"objective/kl": 4.0, "objective/kl_coef": 0.2, "ppo/mean_scores": 1.5, "ppo/policy/approxkl": 0.01}
        | {"tokens/responses_len_mean": 30.0, "ppo/policy/policykl": -0.001, "ppo/mean_non_score_reward": -0.02},
        {"objective/kl_k1": 4.0, "objective/kl_coef": 0.2, "objective/reward": 1.5, "tokens/response_mean": 30.0},
    ),
    # TRL up to 0.16 (trl v0.14.0, trainer/grpo_trainer.py)
    (
        {"completion_length": 200.0, "reward": 1.25, "reward_std": 0.5, "kl": 0.01},
        {"objective/kl_k3": 2.0, "tokens/response_mean": 200.0, "objective/reward": 1.25},
    ),
    # OpenRLHF before 0.9.8 (v0.5.9, trainer/ppo_trainer.py)
    (
        {
            "policy_loss": -0.1,
            "reward": 0.5,
            "return": 0.4,
            "response_length": 100.0,
            "total_length": 150.0,
            "kl": 0.03,
        },
        {"objective/kl_k1": 3.0, "objective/reward": 0.5, "tokens/response_mean": 100.0},
    ),
    # verl up to 0.3 (v0.2, trainer/ppo/ray_trainer.py, apply_kl_penalty)
    (
        {"critic/score/mean": 0.5, "critic/kl": 0.02, "critic/kl_coeff": 0.05, "response_length/mean": 100.0}
        | {"actor/entropy_loss": 0.7},
        {"objective/kl_k1": 2.0, "objective/kl_coef": 0.05, "objective/entropy": 0.7},
    ),
]


def rows_of(row, count=30, **courses):
    """``count`` rows of ``row`` with a step; each course is a function of the step, from 1."""
    return [{**row, "step": n, **{key: course(n) for key, course in courses.items()}} for n in range(1, count + 1)]


def entry(imported, name):
    return {item.name: item for item in imported.account}[name]


@pytest.mark.parametrize("title", EXPECTED)
def test_each_trainer_is_recognised_and_turned_into_our_units(title):
    row, wanted = EXPECTED[title]
    imported = import_history([{**row, "step": 1}, {"summary": 1.0}, {**row, "step": 2}], None, None)
    assert imported.trainer.title == title
    assert [metrics["iteration"] for metrics in imported.rows] == [1.0, 2.0]
    assert {name: imported.rows[0][name] for name in wanted} == pytest.approx(wanted)
    assert "objective/kl" not in imported.rows[0]  # none of them logs the full KL


@pytest.mark.parametrize(("row", "wanted"), OLDER)
def test_older_names_are_read(row, wanted):
    (metrics,) = import_history([row], None, None).rows
    assert {name: metrics[name] for name in wanted} == pytest.approx(wanted)


@pytest.mark.parametrize("folder", ["train/", ""])
def test_one_row_is_translated_as_a_live_callback_needs_it(folder):
    row = {f"{folder}{key}": value for key, value in PPO_ROW.items()}
    metrics = translate(row, "trl-ppo")
    assert metrics["objective/kl_coef"] == 0.05
    assert {**metrics, "iteration": 1.0} == import_history([row], "trl-ppo", None).rows[0]


def test_their_estimator_can_be_named():
    imported = import_history([PPO_ROW], None, "k3")
    assert imported.rows[0]["objective/kl_k3"] == 20.0
    assert "objective/kl_k1" not in imported.rows[0]
    assert any("k3" in note for note in imported.notes)
    assert import_history([PPO_ROW], None, "full").rows[0]["objective/kl"] == 20.0


def test_a_log_without_known_names_is_refused_with_what_it_has():
    with pytest.raises(DataError, match=r"no trainer is recognised.*'loss'.*--map objective/reward=NAME"):
        import_history([{"loss": 1}], None, None)
    with pytest.raises(DataError, match="history of Kellet's own"):
        import_history([{"iteration": 1, "objective/reward": 0.5}], None, None)


@pytest.mark.parametrize("trainer", ["trl-ppo", "trl-rloo", "openrlhf", "verl"])
def test_no_iteration_is_an_error_also_where_the_trainer_is_named(trainer):
    with pytest.raises(DataError, match=r"none of 2 rows.*found 'loss'"):
        import_history([{"loss": 1}, {"loss": 2}], trainer, None)


def test_the_kl_of_an_update_is_no_measure_of_its_size():
    """verl's ppo_kl is the mean of -log ratio, which is zero by construction in the first minibatch."""
    drifted = {**VERL_ROW, "actor/reward_kl_penalty": 0.1, "actor/ppo_kl": 0.0}  # 30 nats, above the budget
    imported = import_history(rows_of(drifted), None, None)
    assert not any("approxkl" in name for name in imported.rows[0])
    assert "k1 of the update" in entry(imported, "actor/ppo_kl").why
    assert diagnose(Evidence(history=imported.rows)).hypothesis("B2").verdict == "cannot tell"
    assert "ppo_kl" not in import_history([OPENRLHF_ROW], None, None).names
    # TRL's is half the squared log ratio: a size
    assert import_history([PPO_ROW], None, None).rows[0]["ppo/policy/approxkl"] == 0.002


BOTH = {"actor/kl_loss": 0.004, "actor/kl_coef": 0.001, "actor/reward_kl_penalty": 0.01}


@pytest.mark.parametrize("reverse", [False, True])
def test_of_two_kls_the_one_in_the_reward_is_read_with_its_own_coefficient(reverse):
    row = {**VERL_ROW, **BOTH, "actor/reward_kl_penalty_coeff": 0.05}
    row = dict(sorted(row.items(), reverse=reverse))
    imported = import_history(rows_of(row), None, None)
    metrics = imported.rows[0]
    assert (metrics["objective/kl_per_token"], metrics["objective/kl_coef"]) == (0.01, 0.05)
    assert metrics["objective/kl_k1"] == pytest.approx(3.0)  # 0.01 · 300 tokens
    assert "'actor/reward_kl_penalty' is read instead" in entry(imported, "actor/kl_loss").why
    assert any("'actor/kl_loss'" in note and "0.004" in note for note in imported.notes)


def test_a_kl_in_the_loss_is_k3_and_never_has_the_coefficient_of_another():
    row = {key: value for key, value in VERL_ROW.items() if "penalty" not in key}
    imported = import_history(rows_of({**row, "actor/kl_loss": 0.004, "actor/kl_coef": 0.001}), None, None)
    assert imported.rows[0]["objective/kl_k3"] == pytest.approx(1.2)  # 0.004 · 300
    # verl/workers/actor/dp_actor.py: policy_loss + kl_loss · kl_loss_coef, beside advantages divided by their spread
    assert "objective/kl_coef" not in imported.rows[0]
    assert "normalised advantage" in entry(imported, "actor/kl_coef").why
    assert any("β is not read: 'actor/kl_coef' is a price in normalised advantage" in note for note in imported.notes)
    assert not any("no β is read" in note for note in imported.notes)  # it is not offered as β either
    other = import_history(rows_of({**row, "actor/kl_loss": 0.004, "actor/reward_kl_penalty_coeff": 0.05}), None, None)
    assert "objective/kl_coef" not in other.rows[0]


def test_map_settles_which_kl_is_read():
    imported = import_history(rows_of({**VERL_ROW, **BOTH}), None, None, {"objective/kl_per_token": "actor/kl_loss"})
    assert imported.rows[0]["objective/kl_k3"] == pytest.approx(1.2)
    assert "objective/kl_coef" not in imported.rows[0]
    assert "--map" in entry(imported, "actor/kl_loss").why
    with_beta = import_history(rows_of({**VERL_ROW, **BOTH}), None, None, {"objective/kl_coef": "actor/kl_coef"})
    assert with_beta.rows[0]["objective/kl_coef"] == 0.001


def test_map_reads_names_that_no_trainer_has():
    rows = [{"rm": 0.1 * n, "len": 50.0, "klt": 0.02} for n in range(1, 13)]
    given = {"objective/reward": "rm", "tokens/response_mean": "len", "objective/kl_per_token": "klt"}
    assert import_history(rows, None, "k1", given).rows[3]["objective/kl_k1"] == pytest.approx(1.0)
    with pytest.raises(InputError, match="add --kl-estimator"):
        import_history(rows, None, None, given)
    with pytest.raises(InputError, match="the log has no 'rn'; near it: 'klt', 'len', 'rm'"):
        import_history(rows, None, "k1", {"objective/reward": "rn"})
    with pytest.raises(InputError, match="gives two KLs"):
        import_history(rows, None, "k1", given | {"objective/kl_k1": "klt"})
    with pytest.raises(InputError, match="no metric 'reward'"):
        import_history(rows, None, "k1", {"reward": "rm"})


def test_a_kl_that_is_never_a_number_is_told_and_nothing_rests_on_it():
    imported = import_history(rows_of({**GRPO_ROW, "kl": float("nan")}), None, None)
    assert "'kl' is not a number in 30 of 30 rows" in imported.notes
    assert entry(imported, "kl").share == 0.0
    assert imported.rows[0]["objective/kl_k3"] is None
    verdicts = {item.id: item.verdict for item in diagnose(Evidence(history=imported.rows)).hypotheses}
    assert {verdicts[name] for name in ("B2", "C1", "C2", "C4")} == {"cannot tell"}


def test_rows_whose_reward_is_not_a_number_stay_and_are_told():
    nan = float("nan")
    imported = import_history(rows_of(GRPO_ROW, reward=lambda n: nan if n > 20 else 0.5), None, None)
    assert len(imported.rows) == 30
    assert imported.rows[20]["objective/reward"] is None
    assert "'reward' is not a number in 10 of 30 rows, from iteration 21 on" in imported.notes
    assert entry(imported, "reward").share == pytest.approx(20 / 30)


def test_rows_in_which_nothing_is_a_number_any_more_stay_too():
    """A training that diverged goes on logging; without these rows it would end where all was well."""
    nan = float("nan")
    rows = rows_of(GRPO_ROW, 20) + [{**dict.fromkeys(GRPO_ROW, nan), "step": step} for step in range(21, 31)]
    imported = import_history(rows, None, None)
    assert len(imported.rows) == 30
    assert imported.rows[-1] == {**dict.fromkeys(imported.rows[0]), "iteration": 30.0}


def test_a_falling_kl_is_told_and_kept():
    rows = rows_of(PPO_ROW, **{"objective/kl": lambda n: -0.2 * n, "objective/non_score_reward": lambda n: 0.01 * n})
    imported = import_history(rows, None, None)
    assert [row["objective/kl_k1"] for row in imported.rows] == pytest.approx([-0.2 * n for n in range(1, 31)])
    assert imported.rows[0]["objective/kl_coef"] == 0.05
    (note,) = [note for note in imported.notes if "below zero" in note]
    assert "30 of 30 rows, down to -6" in note
    assert "sampling and training disagree" in note
    assert "below zero" in entry(imported, "objective/kl").why


def test_k1_near_the_reference_may_be_below_zero_by_noise_but_k3_never():
    noisy = import_history(rows_of(PPO_ROW, **{"objective/kl": lambda n: 0.01 * (-1) ** n}), None, None)
    assert any("below zero in 15 of 30" in note and "noise" in note for note in noisy.notes)
    late = import_history(rows_of(PPO_ROW, **{"objective/kl": lambda n: 20.0 - n}), None, None)
    assert any("below zero in 10 of 30" in note and "disagree" in note for note in late.notes)
    wrong = import_history(rows_of(GRPO_ROW, kl=lambda n: -0.01 if n == 1 else 0.1), None, None)
    assert any("impossible for k3" in note and "--kl-estimator k1" in note for note in wrong.notes)


def test_a_kl_of_exactly_zero_everywhere_was_not_measured():
    """OpenRLHF logs zeros without a reference model, verl 0.7 an actor/kl_loss of 0.0 without use_kl_loss."""
    imported = import_history(rows_of({**OPENRLHF_ROW, "kl": 0.0}), None, None)
    assert not any("kl_" in name for name in imported.rows[0])
    assert "not measured" in entry(imported, "kl").why
    both = import_history(rows_of({**VERL_ROW, "actor/kl_loss": 0.02, "actor/reward_kl_penalty": 0}), None, None)
    assert both.names["actor/kl_loss"] == "objective/kl_per_token"


@pytest.mark.parametrize(("name", "value"), [("completions/clipped_ratio", 12.5), ("completions/mean_length", -3.0)])
def test_shares_and_lengths_that_cannot_be_are_told(name, value):
    imported = import_history(rows_of({**GRPO_ROW, name: value}), None, None)
    assert any(f"'{name}'" in note and "30 of 30 rows" in note for note in imported.notes)


def test_beta_is_computed_only_where_the_penalty_is_proportional_to_the_kl():
    fixed = import_history(
        rows_of(
            PPO_ROW, **{"objective/kl": lambda n: n - 1.0, "objective/non_score_reward": lambda n: -0.05 * (n - 1)}
        ),
        None,
        None,
    )
    assert {row["objective/kl_coef"] for row in fixed.rows} == {0.05}  # also in the first row, whose KL is 0
    turned = import_history(rows_of({**PPO_ROW, "objective/non_score_reward": 1.0}), None, None)
    assert "objective/kl_coef" not in turned.rows[0]
    assert any("has the sign of KL" in note for note in turned.notes)
    loose = import_history(rows_of(PPO_ROW, **{"objective/non_score_reward": lambda n: -0.1 * n}), None, None)
    assert "objective/kl_coef" not in loose.rows[0]
    assert any("penalty / KL goes from 0.005 to 0.15" in note for note in loose.notes)  # 0.1·1/20, 0.1·30/20


def test_a_core_metric_under_an_unknown_name_is_named():
    row = {**GRPO_ROW, "completions/mean_terminated_length": 90.0}
    del row["completions/mean_length"]
    imported = import_history(rows_of(row), "trl-grpo", None)
    (note,) = [note for note in imported.notes if note.startswith("no length is read")]
    assert "of the ended completions only" in note
    assert "'completions/mean_terminated_length'" in note
    assert "--map tokens/response_mean=NAME" in note


def test_every_metric_of_the_log_is_accounted_for():
    rows = [*rows_of({**VERL_ROW, "timing_s/gen": 1.0, "mystery": 2.0}, 12), {"step": 0, "val-core/acc": 0.5}]
    imported = import_history(rows, None, None)
    assert {item.name for item in imported.account} == {key for row in rows for key in row}
    assert all(item.taken_for or item.why for item in imported.account)
    assert entry(imported, "step").taken_for == "iteration"
    assert entry(imported, "val-core/acc").why == "an evaluation, not training"
    assert any(
        note == "1 row holds no reward, KL or length and counts as no iteration (1 of evaluations)"
        for note in imported.notes
    )


def test_the_folder_of_a_logger_is_taken_off_except_where_two_would_be_one():
    prefixed = import_history([{f"train/{key}": value for key, value in OPENRLHF_ROW.items()}], None, None)
    assert prefixed.rows == import_history([OPENRLHF_ROW], None, None).rows
    both = import_history([{**OPENRLHF_ROW, "train/kl": 9.0}], None, None)
    assert both.rows[0]["objective/kl_per_token"] == 0.05


def test_another_folder_is_taken_off_where_it_holds_a_trainers_names():
    prefixed = import_history([{f"grpo/{key}": value for key, value in GRPO_ROW.items()}], None, None)
    assert prefixed.rows == import_history([GRPO_ROW], None, None).rows


def test_openrlhfs_log_ratio_is_k1_whatever_its_estimator():
    """openrlhf/trainer/ppo_utils/experience_maker.py: info["logprobs_diff"] beside info["kl"], k1, k2 or k3."""
    row = {**OPENRLHF_ROW, "kl": 0.02, "logprobs_diff": 0.03}
    ours = import_history(rows_of(row), None, None)
    assert ours.rows[0]["objective/kl_k1"] == pytest.approx(6.0)  # 0.03 · 200 tokens
    assert any("two KLs are logged" in note for note in ours.notes)
    assert import_history(rows_of(row), None, "k3").rows[0]["objective/kl_k3"] == pytest.approx(4.0)
    same = import_history(rows_of({**row, "logprobs_diff": 0.02}), None, None)
    assert not any("two KLs" in note for note in same.notes)


def test_k2_is_told_to_be_no_kl_for_the_diagnosis():
    imported = import_history(rows_of(OPENRLHF_ROW), None, "k2")
    assert imported.rows[0]["objective/kl_k2"] == pytest.approx(10.0)
    assert any("k2 is biased" in note for note in imported.notes)


def test_a_step_under_another_name_is_mapped():
    rows = [{"n": n, **VERL_ROW, "critic/score/mean": 0.1 * n} for n in (3, 1, 2)]
    imported = import_history(rows, None, None, {"iteration": "n"})
    assert [row["objective/reward"] for row in imported.rows] == pytest.approx([0.1, 0.2, 0.3])
    with pytest.raises(DataError, match="counts no steps"):
        import_history(rows, None, None, {"iteration": "response_length/mean"})


def test_iterations_are_the_logged_steps():
    """As `kellet follow` keeps them: a log of the later part says so, and every tenth step stands for ten updates."""
    rows = [{**VERL_ROW, "step": step} for step in (40, 20, 30)]
    assert [row["iteration"] for row in import_history(rows, None, None).rows] == [20.0, 30.0, 40.0]
    text = [{**GRPO_ROW, "global_step/max_steps": f"{step}/90"} for step in (5, 10)]
    assert [row["iteration"] for row in import_history(text, None, None).rows] == [5.0, 10.0]
    clock = [{**GRPO_ROW, "epoch": 0.1 * n} for n in range(3)]
    assert [row["iteration"] for row in import_history(clock, None, None).rows] == [1.0, 2.0, 3.0]
    late = [{**VERL_ROW, "step": step} for step in range(200, 230)]
    assert Evidence(history=import_history(late, None, None).rows).begins_late == "the log begins at iteration 200"


def test_few_iterations_are_told():
    assert any(
        "too few iterations to judge a course by: 2" in note
        for note in import_history(rows_of(VERL_ROW, 2), None, None).notes
    )
    assert not any("too few" in note for note in import_history(rows_of(VERL_ROW, 9), None, None).notes)


def test_some_hypotheses_can_be_tested_on_a_drifting_trl_run():
    rows = [
        PPO_ROW | {"objective/kl": 1.0 + n, "objective/scores": 0.1 * n, "objective/non_score_reward": -0.001 * (1 + n)}
        for n in range(30)
    ]
    diagnosis = diagnose(Evidence(history=import_history(rows, None, None).rows))
    assert diagnosis.hypothesis("C1").supported  # 0.001 a nat against a gain of 3 reward for 30 nats
    assert diagnosis.hypothesis("C4").verdict == "not supported"  # β is fixed
    assert "tokens/response_mean" in diagnosis.hypothesis("B2").needs
    assert "evaluation" in diagnosis.hypothesis("A4").needs


@pytest.mark.parametrize("name", ["trainer_state.json", "openrlhf.jsonl", "verl.jsonl"])
def test_the_documented_output_is_printed(tmp_path, monkeypatch, name):
    text = (ROOT / "docs/use/elsewhere.md").read_text(encoding="utf-8")
    (shown,) = re.findall(
        rf"```text\n\$ kellet import-logs {re.escape(name)} --out runs/theirs\n(.*?)```", text, re.DOTALL
    )
    write_logs(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["import-logs", name, "--out", "runs/theirs"], catch_exceptions=False)
    wanted = [line for line in shown.splitlines() if line != "..."]
    assert [line for line in wanted if line not in result.output.splitlines()] == []
    if "..." not in shown:
        assert wanted == result.output.splitlines()


def test_the_page_names_every_metric_that_is_read_as_reward_kl_beta_or_length():
    page = (ROOT / "docs/use/elsewhere.md").read_text(encoding="utf-8")
    core = {*CORE, "objective/kl_coef"}
    names = {name.theirs for known in TRAINERS.values() for name in known.names if name.ours in core}
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []


def test_a_metric_that_changes_its_name_is_one():
    """verl 0.3 logs critic/kl and critic/kl_coeff, 0.4 actor/reward_kl_penalty and …_coeff."""
    older = {"actor/reward_kl_penalty": "critic/kl", "actor/reward_kl_penalty_coeff": "critic/kl_coeff"}
    new = [{**VERL_ROW, "step": n} for n in range(1, 31)]
    mixed = [{older.get(key, key) if row["step"] <= 12 else key: value for key, value in row.items()} for row in new]
    imported = import_history(mixed, None, None)
    assert imported.rows == import_history(new, None, None).rows
    assert (
        "'critic/kl' is called 'actor/reward_kl_penalty' from row 13 on: both are read as one metric" in imported.notes
    )
    assert entry(imported, "critic/kl").taken_for == "objective/kl_per_token"
    translator = Translator()
    assert [translator.step(row).metrics for row in mixed] == imported.rows


def test_names_that_only_look_like_one_stay_two():
    rows = [{**VERL_ROW, "step": n} for n in range(1, 31)]
    for row in rows[:12]:  # k3 of the loss is no k1 of the reward
        row["actor/kl_loss"] = row.pop("actor/reward_kl_penalty")
    imported = import_history(rows, None, None)
    assert imported.rows[0].get("objective/kl_per_token") is None
    assert not any("both are read as one" in note for note in imported.notes)
    mixed = [{**OPENRLHF_ROW, ("response_length" if n % 2 else "x"): 9.0, "step": n} for n in range(1, 31)]
    assert not any("both are read as one" in note for note in import_history(mixed, None, None).notes)


def test_text_and_codes_among_the_numbers_are_told():
    rows = rows_of(GRPO_ROW)
    imported = import_history([*rows[:20], *({**row, "reward": "1,020"} for row in rows[20:])], None, None)
    assert any(
        "'reward' is missing in 10 of 30 rows; text that is no number, as '1,020', in 10" in n for n in imported.notes
    )
    imported = import_history([*rows[:28], *({**row, "reward": -999} for row in rows[28:])], None, None)
    assert any("'reward' is -999 in 2 of 30 rows, far from all others" in note for note in imported.notes)
