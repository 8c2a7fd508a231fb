"""Logs of other trainers: their names, their units, and the notes and errors where something is missing."""

import json
import re

import pytest
from click.testing import CliRunner

from kellet.cli.main import main
from kellet.diagnosis.diagnose import diagnose
from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.import_logs import import_history, read_log
from kellet.errors import DataError
from tests.helpers.foreign_logs import write_logs
from tests.helpers.project import ROOT

TRL_PPO = {
    "eps": 4,
    "objective/kl": 20.0,
    "objective/non_score_reward": -1.0,
    "objective/scores": 3.0,
    "objective/rlhf_reward": 2.0,
    "policy/approxkl_avg": 0.002,
    "policy/clipfrac_avg": 0.05,
    "val/num_eos_tokens": 7,
    "lr": 1e-6,
    "episode": 64,
}
TRL_GRPO = {"reward": 0.5, "reward_std": 0.2, "kl": 0.1, "completions/mean_length": 150.0, "entropy": 1.1, "epoch": 0.1}
OPENRLHF = {
    "policy_loss": -0.1,
    "ppo_clip_ratio": 0.03,
    "ppo_kl": 0.001,
    "kl": 0.05,
    "rollout/reward_mean": 1.5,
    "rollout/reward_std": 0.7,
    "rollout/response_length_mean": 200.0,
    "rollout/truncated_rate": 0.25,
    "actor_grad_norm": 0.4,
}
VERL = {
    "critic/score/mean": 0.8,
    "critic/rewards/mean": 0.6,
    "actor/reward_kl_penalty": 0.02,
    "actor/reward_kl_penalty_coeff": 0.001,
    "actor/ppo_kl": 0.0003,
    "actor/pg_clipfrac": 0.01,
    "actor/grad_norm": 0.3,
    "response_length/mean": 300.0,
    "response_length/clip_ratio": 0.1,
}
EXPECTED = {
    # TRL sums over the response already; β = -(-1.0)/20 = 0.05
    "TRL PPOTrainer": (TRL_PPO, {"objective/reward": 3.0, "objective/kl_k1": 20.0, "objective/kl_coef": 0.05}),
    # 0.1 nats a token · 150 tokens
    "TRL GRPOTrainer or RLOOTrainer": (TRL_GRPO, {"objective/kl_k3": 15.0, "tokens/response_mean": 150.0}),
    "OpenRLHF": (OPENRLHF, {"objective/kl_k1": 10.0, "objective/reward": 1.5, "tokens/truncated_share": 0.25}),
    "verl": (VERL, {"objective/kl_k1": 6.0, "objective/kl_coef": 0.001, "objective/reward": 0.8}),
}


def log(tmp_path, rows, name="log.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("title", EXPECTED)
def test_each_trainer_is_recognised_and_turned_into_our_units(tmp_path, title):
    row, wanted = EXPECTED[title]
    imported = import_history(read_log(log(tmp_path, [row, {"summary": 1.0}, row])), None, None)
    assert imported.trainer.title == title
    assert [metrics["iteration"] for metrics in imported.rows] == [1.0, 2.0]
    assert {name: imported.rows[0][name] for name in wanted} == pytest.approx(wanted)
    assert "objective/kl" not in imported.rows[0]  # none of them logs the full KL


def test_the_forms_in_which_logs_come(tmp_path):
    lines = log(tmp_path, [{"step": 1, "data": VERL}], "verl.jsonl")
    prefixed = log(tmp_path, [{f"train/{key}": value for key, value in OPENRLHF.items()}])
    state = tmp_path / "trainer_state.json"
    state.write_text(json.dumps({"epoch": 1.0, "log_history": [TRL_PPO, {"train_runtime": 5.0}]}))
    table = tmp_path / "wandb.csv"
    table.write_text("critic/score/mean,response_length/mean,note\n0.5,10,x\n,,\n")
    assert import_history(read_log(lines), None, None).rows[0]["objective/reward"] == 0.8
    assert import_history(read_log(prefixed), None, None).trainer.title == "OpenRLHF"
    assert len(import_history(read_log(state), None, None).rows) == 1
    assert import_history(read_log(table), None, None).rows == [
        {"iteration": 1.0, "objective/reward": 0.5, "tokens/response_mean": 10.0}
    ]


def test_their_estimator_can_be_named(tmp_path):
    imported = import_history([TRL_PPO], None, "k3")
    assert imported.rows[0]["objective/kl_k3"] == 20.0
    assert "objective/kl_k1" not in imported.rows[0]
    assert "k3" in imported.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}\n{", "line 2 is not JSON"),
        ("[1]\n", "no rows of metrics"),
        ("", "no rows"),
        ('{"loss": 1}\n', "no trainer"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused(tmp_path, text, message):
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        import_history(read_log(path), None, None)


def test_some_hypotheses_can_be_tested_on_a_drifting_trl_run():
    rows = [
        TRL_PPO | {"objective/kl": 1.0 + n, "objective/scores": 0.1 * n, "objective/non_score_reward": -0.001 * (1 + n)}
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
