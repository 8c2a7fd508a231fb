"""One iteration's update: epochs of minibatches over a scored rollout.

Legend: B responses, R response tokens; every (B, R) tensor goes with ``batch.response_mask``. A minibatch is one
optimizer step; it is computed in micro-batches of responses of like length, whose gradients add up to its own.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kellet.config.training import Policy
from kellet.models import kl
from kellet.models.devices import Devices, device_of
from kellet.models.next_token import logprobs_and_kl, logprobs_of, policy_vs_reference
from kellet.models.sampling import truncated
from kellet.models.tokens import TokenBatch
from kellet.models.trunk import all_response_states, max_tokens_per_pass, response_states, use_adapter
from kellet.policy.metrics import Metrics, describe_stopping
from kellet.policy.ppo import explained_variance, gae, masked_mean, penalised_rewards, policy_loss, value_loss, whiten
from kellet.policy.rollout import Rollout

OF = {"ppo/policy/clipfrac_positive": "better", "ppo/policy/clipfrac_negative": "worse"}
"""Metrics that are means over a part of the tokens."""


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
    devices: Devices | None = None,
) -> Metrics:
    """One iteration's epochs of minibatches; returns ``ppo/*`` metrics, means over the minibatches.

    ``frozen``: only the value head learns. Every process of ``devices`` comes here with the same whole rollout.
    """
    devices = devices or Devices()
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
            own, counts = devices.spread(rows)
            parts = _micro_batches(rollout.batch, own, settings.micro_batch_size, devices.device)
            step: dict[str, float] = {}
            for part, counted, last in devices.passes(parts, counts):
                share = _shares(part, rows, mask, targets.advantages, counted)
                with devices.syncing(last):
                    loss, seen = devices.run(partial(_loss, settings, model, value_head, rollout, targets, part))
                    devices.backward(loss * share["tokens"])
                step = {name: step.get(name, 0.0) + share[OF.get(name, "tokens")] * seen[name] for name in seen}
            step = devices.sum(step)
            step["ppo/grad_norm"] = devices.clip(weights, settings.max_grad_norm)
            optimizer.step()
            steps.append(step)
        of_epoch = steps[-(len(mask) // settings.minibatch_size) :]
        if sum(step["ppo/policy/approxkl"] for step in of_epoch) / len(of_epoch) > settings.stop_kl:
            break
    metrics |= {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
    metrics["ppo/epochs"] = len(steps) * settings.minibatch_size // len(mask)
    metrics["ppo/policy/kl_update"] = devices.run(lambda: _kl_of_update(model, rollout))
    return metrics


def _micro_batches(batch: TokenBatch, rows: Tensor, size: int | None, device: torch.device) -> list[Tensor]:
    """Parts of ``rows``, responses of like length together."""
    return [rows[part] for part in batch.rows(rows).length_groups(max_tokens_per_pass(device), size)]


def _shares(part: Tensor, rows: Tensor, response_mask: Tensor, advantages: Tensor, counts: bool) -> dict[str, float]:
    """The share that ``part`` has of the response tokens of ``rows``: of all, and of those by advantage.

    Losses are means over tokens. A part that does not count has none.
    """
    masks = {
        "tokens": response_mask,
        "better": response_mask & (advantages > 0),
        "worse": response_mask & (advantages < 0),
    }
    total = {name: max(float(mask[rows].sum()), 1.0) for name, mask in masks.items()}
    return {name: counts * float(mask[part].sum()) / total[name] for name, mask in masks.items()}


def _loss(
    settings: Policy, model: Any, value_head: nn.Linear, rollout: Rollout, targets: Targets, rows: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """The loss of these rows, and its parts as metrics."""
    device = device_of(value_head)
    batch = rollout.batch.rows(rows).to(device)
    mask = batch.response_mask
    old_logprobs, old_values, advantages, returns = (
        tensor[rows, : mask.shape[1]].to(device)
        for tensor in (rollout.logprobs, rollout.values, targets.advantages, targets.returns)
    )
    with torch.set_grad_enabled(not targets.frozen):
        states = response_states(model, batch)
        if targets.kl_weight and settings.kl.penalty == "loss_full":
            with torch.no_grad(), use_adapter(model, None):
                ref_states = response_states(model, batch)
            logprobs, kl_full = logprobs_and_kl(model, states, ref_states, batch)
        else:
            logprobs, kl_full = logprobs_of(model, states, batch), None
        surrogate = policy_loss(logprobs, old_logprobs, advantages, mask, settings.clip_range)
    critic = value_loss(value_head(states.float()).squeeze(-1), old_values, returns, mask, settings.value_clip_range)
    # L = L_policy + c L_value + β/σ_A KL(π || π_ref)
    loss = surrogate.loss + settings.value_coef * critic
    if kl_full is not None:
        loss = loss + targets.kl_weight * masked_mean(kl_full, mask)
    elif targets.kl_weight:
        ref_logprobs = old_logprobs - rollout.kl_k1[rows, : mask.shape[1]].to(device)
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
def _kl_of_update(model: Any, rollout: Rollout) -> float:
    """Full KL(π_old ‖ π_new) on responses of the old policy, nats per response."""
    batch = rollout.batch.rows(torch.arange(len(rollout.states))).to(device_of(model))
    old = rollout.states[:, : batch.response_mask.shape[1]].to(batch.input_ids.device)
    new = all_response_states(model, batch)
    return float(kl.per_response(policy_vs_reference(model, old, new, batch).kl_full, batch.response_mask).mean())
