"""One iteration's update: epochs of minibatches over a scored rollout.

Legend: B responses, R response tokens; every (B, R) tensor goes with ``batch.response_mask``. A minibatch is one
optimizer step; where it does not fit in memory it is computed in micro-batches whose gradients add up to its own.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kellet import kl
from kellet.config import Policy
from kellet.policy_metrics import Metrics, describe_stopping
from kellet.ppo import (
    explained_variance,
    gae,
    masked_mean,
    penalised_rewards,
    policy_loss,
    value_loss,
    whiten,
)
from kellet.rollout import truncated
from kellet.tokens import Batch
from kellet.trunk import playing, response_outputs

UPDATE_KL_RESPONSES = 64
"""Responses on which the KL of the update is measured, which costs a forward pass; they stand in random order."""


class Rollout(NamedTuple):
    """A batch of sampled responses with all that the update needs; (B, R) unless said otherwise."""

    batch: Batch
    logprobs: Tensor
    """Of the policy that sampled, nats."""
    values: Tensor
    scores: Tensor
    """(B,) what PPO maximises but for the penalty."""
    kl_k1: Tensor
    kl_full: Tensor
    entropy: Tensor


class Targets(NamedTuple):
    """What an update steers by."""

    advantages: Tensor
    """(B, R) whitened."""
    returns: Tensor
    """(B, R) reward units."""
    kl_weight: float
    """Of the KL in the loss, per nat; 0 where the penalty is in the reward."""
    frozen: bool
    """Only the value head learns."""


def update(
    settings: Policy,
    model: Any,
    value_head: nn.Linear,
    optimizer: torch.optim.Optimizer,
    rollout: Rollout,
    kl_coef: float,
    generator: torch.Generator,
    eos_token_id: int,
    frozen: bool = False,
) -> Metrics:
    """One iteration's epochs of minibatches; returns ``ppo/*`` metrics, means over the minibatches.

    ``frozen``: only the value head learns.
    """
    mask = rollout.batch.response_mask
    in_reward = settings.kl.penalty == "reward"
    rewards = penalised_rewards(rollout.scores, rollout.kl_k1, kl_coef if in_reward else 0.0, mask)
    advantages, returns = gae(rewards, rollout.values, mask, settings.gamma, settings.lam)
    metrics: Metrics = {
        "ppo/advantage_mean": float(masked_mean(advantages, mask)),
        "ppo/advantage_std": float(advantages[mask].std()),
        "ppo/value/explained_variance": explained_variance(rollout.values, returns, mask),
    }
    # Whitening divides the rewards by the spread of their advantages; β in the loss has to go with it.
    in_loss = 0.0 if in_reward else kl_coef / float(advantages[mask].std(correction=0).clamp(min=1e-4))
    targets = Targets(whiten(advantages, mask), returns, in_loss, frozen)
    metrics |= describe_stopping(targets.advantages, mask, ~truncated(rollout.batch, eos_token_id))
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    steps: list[dict[str, float]] = []
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(mask), generator=generator).split(settings.minibatch_size):
            optimizer.zero_grad()
            step: dict[str, float] = {}
            for part, share in _micro_batches(rows, mask, settings.micro_batch_size):
                loss, seen = _loss(settings, model, value_head, rollout, targets, part)
                (loss * share).backward()
                step = {name: step.get(name, 0.0) + share * value for name, value in seen.items()}
            step["ppo/grad_norm"] = float(nn.utils.clip_grad_norm_(weights, settings.max_grad_norm))
            optimizer.step()
            steps.append(step)
        of_epoch = steps[-(len(mask) // settings.minibatch_size) :]
        if sum(step["ppo/policy/approxkl"] for step in of_epoch) / len(of_epoch) > settings.stop_kl:
            break
    metrics |= {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
    metrics["ppo/epochs"] = len(steps) * settings.minibatch_size // len(mask)
    metrics["ppo/policy/kl_update"] = _kl_of_update(model, rollout, settings.micro_batch_size)
    return metrics


def of_responses(log_p: Tensor, batch: Batch) -> Tensor:
    """(B, R) log-probabilities of the response tokens, picked from those of all tokens (B, R, V), nats."""
    picked: Tensor = log_p.gather(-1, batch.responses[..., None]).squeeze(-1)
    return picked


def _micro_batches(rows: Tensor, response_mask: Tensor, size: int | None) -> Iterator[tuple[Tensor, float]]:
    """Parts of ``rows``, and the share of their response tokens that each has: losses are means over tokens."""
    total = float(response_mask[rows].sum())
    for part in rows.split(size or len(rows)):
        yield part, float(response_mask[part].sum()) / total


def _loss(
    settings: Policy, model: Any, value_head: nn.Linear, rollout: Rollout, targets: Targets, rows: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """The loss of these rows, and its parts as metrics."""
    batch = rollout.batch.rows(rows)
    mask = batch.response_mask
    old_logprobs, old_values, advantages, returns = (
        tensor[rows, : mask.shape[1]]
        for tensor in (rollout.logprobs, rollout.values, targets.advantages, targets.returns)
    )
    with torch.set_grad_enabled(not targets.frozen):
        logits, hidden = response_outputs(model, batch)
        log_p = logits.log_softmax(-1)
        logprobs = of_responses(log_p, batch)
        surrogate = policy_loss(logprobs, old_logprobs, advantages, mask, settings.clip_range)
    critic = value_loss(value_head(hidden).squeeze(-1), old_values, returns, mask, settings.value_clip_range)
    # L = L_policy + c L_value + β/σ_A KL(π || π_ref)
    loss = surrogate.loss + settings.value_coef * critic
    if targets.kl_weight and settings.kl.penalty == "loss_full":
        with torch.no_grad(), playing(model, None):
            log_q = response_outputs(model, batch)[0].log_softmax(-1)
        loss = loss + targets.kl_weight * masked_mean(kl.full(log_p, log_q), mask)
    elif targets.kl_weight:
        ref_logprobs = old_logprobs - rollout.kl_k1[rows, : mask.shape[1]]
        loss = loss + targets.kl_weight * masked_mean(kl.k2(logprobs, ref_logprobs), mask)
    return loss, {
        "ppo/policy/loss": float(surrogate.loss.detach()),
        "ppo/policy/clipfrac": float(surrogate.clipfrac),
        "ppo/policy/clipfrac_positive": float(surrogate.clipfrac_positive),
        "ppo/policy/clipfrac_negative": float(surrogate.clipfrac_negative),
        "ppo/policy/approxkl": float(surrogate.approxkl),
        "ppo/value/loss": float(critic.detach()),
    }


@torch.no_grad()
def _kl_of_update(model: Any, rollout: Rollout, size: int | None) -> float:
    """KL(π_old ‖ π_new) by k3 on responses of the old policy, nats per response."""
    rows = torch.arange(min(len(rollout.scores), UPDATE_KL_RESPONSES))
    total = 0.0
    for part in rows.split(size or len(rows)):
        batch = rollout.batch.rows(part)
        logits, _ = response_outputs(model, batch)
        log_ratio = of_responses(logits.log_softmax(-1), batch) - rollout.logprobs[part, : logits.shape[1]]
        total += float(((torch.expm1(log_ratio) - log_ratio) * batch.response_mask).sum())
    return total / len(rows)
