"""Made-up logs in the formats of TRL, OpenRLHF and verl, which docs/use/elsewhere.md shows: 30 steps, KL up to 24 nats.

python tests/helpers/foreign_logs.py FOLDER
"""

import json
import sys
from pathlib import Path

STEPS = 30
PPO_ROW = {
    "eps": 4,
    "objective/kl": 20.0,
    "objective/non_score_reward": -1.0,
    "objective/scores": 3.0,
    "objective/rlhf_reward": 2.0,
    "policy/approxkl_avg": 0.002,
    "policy/clipfrac_avg": 0.05,
    "val/num_eos_tokens": 7,
    "lr": 1e-6,
}
GRPO_ROW = {"reward": 0.5, "reward_std": 0.2, "kl": 0.1, "completions/mean_length": 150.0, "entropy": 1.1, "epoch": 0.1}
OPENRLHF_ROW = {
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
VERL_ROW = {
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


def write_logs(folder: Path) -> None:
    """Write trainer_state.json (TRL), openrlhf.jsonl and verl.jsonl (verl's file logger)."""
    trl, openrlhf, verl = [], [], []
    for step in range(1, STEPS + 1):
        done = step / STEPS
        kl, reward, length = 24 * done**1.5, round(2.5 * done**0.5 + 0.05 * (-1) ** step, 3), 120 + 60 * done
        share = round(0.02 + 0.01 * (step % 3), 3)
        trl.append(
            {
                "objective/kl": round(kl, 3),
                "objective/entropy": 80.0,
                "objective/non_score_reward": round(-0.01 * kl, 5),
                "objective/rlhf_reward": round(reward - 0.01 * kl, 5),
                "objective/scores": reward,
                "policy/approxkl_avg": 0.002,
                "policy/clipfrac_avg": share,
                "lr": 1e-6,
                "episode": 64 * step,
            }
        )
        openrlhf.append(
            {
                "policy_loss": -0.05,
                "ppo_clip_ratio": share,
                "ppo_kl": 0.002,
                "kl": round(kl / length, 5),
                "actor_lr": 1e-6,
                "rollout/reward_mean": reward,
                "rollout/response_length_mean": round(length, 1),
                "rollout/truncated_rate": 0.01,
                "global_step": step,
            }
        )
        data = {
            "critic/score/mean": reward,
            "critic/rewards/mean": round(reward - 0.01 * kl, 5),
            "actor/reward_kl_penalty": round(kl / length, 5),
            "actor/reward_kl_penalty_coeff": 0.01,
            "actor/ppo_kl": 0.002,
            "actor/pg_clipfrac": share,
            "response_length/mean": round(length, 1),
            "response_length/clip_ratio": 0.01,
        }
        verl.append({"step": step, "data": data})
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": STEPS, "log_history": trl}))
    for name, rows in (("openrlhf", openrlhf), ("verl", verl)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    write_logs(Path(sys.argv[1]))
