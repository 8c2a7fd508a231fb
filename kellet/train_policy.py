"""Train the policy: sample, score, penalise drift from the reference, update by PPO; again.

One trunk plays policy, reference, value and reward (kellet/trunk.py). Legend: B responses, R response tokens. The KL in
the reward is k1 at β; what is reported, what moves the controller and what the gate reads is the full KL, in nats per
response. Metrics of each iteration are described in docs/metrics.md.
"""

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from kellet import kl
from kellet.config import Config
from kellet.errors import DataError
from kellet.files import atomic_folder
from kellet.ppo import (
    explained_variance,
    gae,
    masked_mean,
    penalised_rewards,
    policy_loss,
    value_loss,
    whiten,
)
from kellet.progress import Progress, quiet
from kellet.reward_model import Scorer, load_scorer
from kellet.rollout import generate_text, sample, truncated
from kellet.tokens import Batch, encode_prompt
from kellet.trunk import (
    REWARD,
    add_adapter,
    load_base,
    playing,
    response_outputs,
    save_adapter,
    save_head,
    scalar_head,
)

Metrics = dict[str, float | None]
SAMPLES = 32
"""Prompts of the training split whose greedy answers are kept in samples.jsonl."""


class Rollout(NamedTuple):
    """A batch of sampled responses with all that the update needs; (B, R) unless said otherwise."""

    batch: Batch
    logprobs: Tensor
    """Of the policy that sampled, nats."""
    values: Tensor
    scores: Tensor
    """(B,) rewards of the reward model."""
    kl_k1: Tensor
    kl_full: Tensor
    entropy: Tensor


def train_policy(
    config: Config, preferences: Path, base: Path | str, reward_model: Path, out: Path, progress: Progress = quiet
) -> None:
    """Run PPO from ``base`` against ``reward_model`` on the prompts of the training split.

    ``out`` gets adapter/, value_head.safetensors, history.jsonl and samples.jsonl. Raises DataError when the training
    split has fewer prompts than one batch.
    """
    table = pd.read_parquet(preferences, columns=["prompt", "split"])
    prompts = list(dict.fromkeys(table.loc[table["split"] == "train", "prompt"]))
    if len(prompts) < config.policy.batch_size:
        raise DataError(
            f"{preferences} has {len(prompts)} training prompts, policy.batch_size is {config.policy.batch_size}; "
            "bring more prompts or set a smaller batch"
        )
    model, tokenizer = load_base(base)
    model = add_adapter(model, config.policy.lora, config.seed)
    scorer = load_scorer(model, reward_model, tokenizer.eos_token_id)
    value_head = scalar_head(model.config.hidden_size, config.seed)
    history = ppo(config, model, tokenizer, scorer, value_head, prompts, progress)
    shown = prompts[:SAMPLES]
    answers = generate_text(model, tokenizer, shown, config.text, seed=None)
    with atomic_folder(out) as folder:
        save_adapter(model, folder / "adapter")
        save_head(value_head, folder / "value_head.safetensors")
        _write_lines(folder / "history.jsonl", history)
        rows = zip(shown, answers, strict=True)
        _write_lines(folder / "samples.jsonl", [{"prompt": prompt, "response": answer} for prompt, answer in rows])


def ppo(
    config: Config,
    model: Any,
    tokenizer: Any,
    scorer: Scorer,
    value_head: nn.Linear,
    prompts: list[str],
    progress: Progress = quiet,
) -> list[Metrics]:
    """The training loop; trains the policy adapter of ``model`` and ``value_head`` in place, returns the history."""
    settings = config.policy
    generator = torch.Generator().manual_seed(config.seed)
    controller = build_controller(config)
    weights = [p for p in (*model.parameters(), *value_head.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=settings.learning_rate)
    queries = [encode_prompt(tokenizer, prompt, config.text) for prompt in prompts]
    model.eval()  # dropout would make the first ratio differ from one
    history: list[Metrics] = []
    order = torch.empty(0, dtype=torch.long)
    for iteration in range(1, settings.iterations + 1):
        while len(order) < settings.batch_size:
            order = torch.cat([order, torch.randperm(len(queries), generator=generator)])
        index, order = order[: settings.batch_size], order[settings.batch_size :]
        started = time.monotonic()
        batch = sample(model, tokenizer, [queries[i] for i in index], config.text.max_response_tokens, generator)
        sampled = time.monotonic()
        rollout = score(model, scorer, value_head, batch)
        scored = time.monotonic()
        metrics: Metrics = {"iteration": iteration, "episodes": iteration * settings.batch_size}
        metrics |= describe(rollout, controller.value, tokenizer.eos_token_id)
        metrics["objective/kl_target"] = settings.kl.target if settings.kl.controller == "adaptive" else None
        metrics |= update(config, model, value_head, optimizer, rollout, controller.value, generator)
        controller.update(float(metrics["objective/kl"] or 0.0), settings.batch_size)
        metrics["time/sample_s"], metrics["time/score_s"] = sampled - started, scored - sampled
        metrics["time/update_s"] = time.monotonic() - scored
        history.append(metrics)
        progress(iteration, settings.iterations, {k: v for k, v in metrics.items() if v is not None})
    return history


def build_controller(config: Config) -> kl.KLController:
    """The controller of β that ``policy.kl`` asks for."""
    settings = config.policy.kl
    if settings.controller == "fixed":
        return kl.FixedKLController(settings.init_coef)
    return kl.AdaptiveKLController(settings.init_coef, settings.target, settings.horizon)


@torch.no_grad()
def score(model: Any, scorer: Scorer, value_head: nn.Linear, batch: Batch) -> Rollout:
    """Policy, value, reference and reward on the sampled responses: three passes of one trunk."""
    logits, hidden = response_outputs(model, batch)
    with playing(model, None):
        ref_logits, _ = response_outputs(model, batch)
    with playing(model, REWARD):
        scores = scorer(batch)
    log_p, log_q = logits.log_softmax(-1), ref_logits.log_softmax(-1)
    logprobs, mask = of_responses(log_p, batch), batch.response_mask
    return Rollout(
        batch=batch,
        logprobs=logprobs,
        values=value_head(hidden).squeeze(-1) * mask,
        scores=scores,
        kl_k1=kl.k1(logprobs, of_responses(log_q, batch)) * mask,
        kl_full=kl.full(log_p, log_q) * mask,
        entropy=-(log_p.exp() * log_p).sum(-1) * mask,
    )


def update(
    config: Config,
    model: Any,
    value_head: nn.Linear,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    kl_coef: float,
    generator: torch.Generator,
) -> Metrics:
    """One iteration's epochs of minibatches; returns ``ppo/*`` metrics, means over the minibatches."""
    settings = config.policy
    mask = rollout.batch.response_mask
    rewards = penalised_rewards(rollout.scores, rollout.kl_k1, kl_coef, mask)
    advantages, returns = gae(rewards, rollout.values, mask, settings.gamma, settings.lam)
    metrics: Metrics = {
        "ppo/advantage_mean": float(masked_mean(advantages, mask)),
        "ppo/advantage_std": float(advantages[mask].std()),
        "ppo/value/explained_variance": explained_variance(rollout.values, returns, mask),
    }
    advantages = whiten(advantages, mask)
    steps: list[dict[str, float]] = []
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(mask), generator=generator).split(settings.minibatch_size):
            batch = rollout.batch.rows(rows)
            width = batch.response_mask.shape[1]
            old_logprobs, old_values, advantage, target = (
                tensor[rows, :width] for tensor in (rollout.logprobs, rollout.values, advantages, returns)
            )
            logits, hidden = response_outputs(model, batch)
            logprobs = of_responses(logits.log_softmax(-1), batch)
            surrogate = policy_loss(logprobs, old_logprobs, advantage, batch.response_mask, settings.clip_range)
            values = value_head(hidden).squeeze(-1)
            critic = value_loss(values, old_values, target, batch.response_mask, settings.value_clip_range)
            loss = surrogate.loss + settings.value_coef * critic
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(
                [p for group in optimizer.param_groups for p in group["params"]], settings.max_grad_norm
            )
            optimizer.step()
            steps.append(
                {
                    "ppo/policy/loss": float(surrogate.loss.detach()),
                    "ppo/policy/clipfrac": float(surrogate.clipfrac),
                    "ppo/policy/approxkl": float(surrogate.approxkl),
                    "ppo/value/loss": float(critic.detach()),
                    "ppo/grad_norm": float(norm),
                }
            )
        of_epoch = steps[-(len(mask) // settings.minibatch_size) :]
        if sum(step["ppo/policy/approxkl"] for step in of_epoch) / len(of_epoch) > settings.stop_kl:
            break
    metrics |= {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
    return metrics | {"ppo/epochs": len(steps) * settings.minibatch_size // len(mask)}


def describe(rollout: Rollout, kl_coef: float, eos_token_id: int) -> Metrics:
    """``objective/*`` and ``tokens/*`` metrics of the sampled responses."""
    mask = rollout.batch.response_mask
    penalty = kl_coef * kl.per_response(rollout.kl_k1, mask)
    return {
        "objective/reward": float(rollout.scores.mean()),
        "objective/kl": float(kl.per_response(rollout.kl_full, mask).mean()),
        "objective/kl_per_token": float(masked_mean(rollout.kl_full, mask)),
        "objective/kl_k1": float(kl.per_response(rollout.kl_k1, mask).mean()),
        "objective/kl_coef": kl_coef,
        "objective/score_with_kl": float((rollout.scores - penalty).mean()),
        "objective/entropy": float(masked_mean(rollout.entropy, mask)),
        "tokens/response_mean": float(mask.sum(1).float().mean()),
        "tokens/truncated_share": float(truncated(rollout.batch, eos_token_id).float().mean()),
    }


def of_responses(log_p: Tensor, batch: Batch) -> Tensor:
    """(B, R) log-probabilities of the response tokens, picked from those of all tokens (B, R, V), nats."""
    picked: Tensor = log_p.gather(-1, batch.responses[..., None]).squeeze(-1)
    return picked


def _write_lines(path: Path, rows: Any) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
