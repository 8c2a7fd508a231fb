"""One iteration's update: epochs of minibatches over a scored rollout.

Legend: B responses, R response tokens; every (B, R) tensor goes with ``batch.response_mask``. A minibatch is one
optimizer step. It is computed in micro-batches of responses of similar length, whose gradients sum to its own.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from kellet.config.training import Policy
from kellet.models import kl
from kellet.models.devices import device_of
from kellet.models.finite import require_finite_step
from kellet.models.next_token import logprobs_and_kl, logprobs_of, policy_vs_reference
from kellet.models.tokens import TokenBatch
from kellet.models.trunk import all_response_states, max_tokens_per_pass, response_states, use_adapter
from kellet.policy.metrics import IterationMetrics, describe_stopping
from kellet.policy.ppo import explained_variance, gae, masked_mean, penalised_rewards, policy_loss, value_loss, whiten
from kellet.policy.rollout import Rollout
from kellet.policy.state import Training

MEAN_OVER = {"ppo/policy/clipfrac_positive": "positive", "ppo/policy/clipfrac_negative": "negative"}
"""Metrics that are means over the tokens of positive or of negative advantage; all others are over all tokens."""


class Targets(NamedTuple):
    """What an update aims at."""

    advantages: Tensor
    """(B, R) whitened."""
    returns: Tensor
    """(B, R) targets of the value head, reward units."""
    kl_weight: float
    """Weight of the KL in the loss, per nat; 0 where the penalty is in the reward."""
    frozen: bool
    """Critic warm-up: only the value head learns."""


def token_rewards(settings: Policy, rollout: Rollout, kl_coef: float) -> Tensor:
    """(B, R) rewards: the objective at the last token, and β·k1 off every token where the penalty is in the reward."""
    coef = kl_coef if settings.kl.penalty == "reward" else 0.0
    return penalised_rewards(rollout.objective, rollout.kl_k1, coef, rollout.batch.response_mask)


def update(settings: Policy, training: Training, rollout: Rollout, rewards: Tensor, ended: Tensor) -> IterationMetrics:
    """One iteration's epochs of minibatches; returns ``ppo/*`` metrics, means over the minibatches.

    ``rewards`` (B, R) of :func:`token_rewards`; ``ended`` (B,) True where a response has its end of sequence. Every
    process calls this with the same rollout of the whole batch.
    """
    mask, kl_coef = rollout.batch.response_mask, training.controller.value
    advantages, returns = gae(rewards, rollout.values, mask, settings.gamma, settings.lam)
    metrics: IterationMetrics = {
        "ppo/advantage_mean": float(masked_mean(advantages, mask)),
        "ppo/advantage_std": float(advantages[mask].std()),
        "ppo/value/explained_variance": explained_variance(rollout.values, returns, mask),
    }
    # Whitening divides the rewards by the standard deviation of their advantages; β in the loss has to be divided too.
    deviation = float(advantages[mask].std(correction=0).clamp(min=1e-4))
    targets = Targets(
        whiten(advantages, mask),
        returns,
        kl_weight=0.0 if settings.kl.penalty == "reward" else kl_coef / deviation,
        frozen=len(training.history) < settings.critic_warmup,
    )
    metrics |= describe_stopping(targets.advantages, mask, ended)
    steps, stopped_at = _steps(settings, training, rollout, targets)
    metrics |= {name: sum(step[name] for step in steps) / len(steps) for name in steps[0]}
    metrics["ppo/policy/approxkl_first"] = steps[0]["ppo/policy/approxkl"]
    metrics["ppo/epochs"] = len(steps) * settings.minibatch_size // len(mask)
    metrics["ppo/policy/kl_at_stop"] = stopped_at
    metrics["ppo/policy/kl_update"] = training.devices.run(lambda: _kl_of_update(training, rollout))
    return metrics


def _steps(
    settings: Policy, training: Training, rollout: Rollout, targets: Targets
) -> tuple[list[dict[str, float]], float | None]:
    """The optimizer steps of all passes, each one's metrics; and the KL that made it skip the rest, else None.

    Before each step the policy's KL from the one that sampled is measured on the minibatch. Beyond ``policy.stop_kl``
    the step is not taken, nor any after it.
    """
    mask, steps = rollout.batch.response_mask, list[dict[str, float]]()
    for _ in range(settings.epochs):
        for rows in torch.randperm(len(mask), generator=training.generator).split(settings.minibatch_size):
            metrics = _gradient(settings, training, rollout, targets, rows)
            # k3 per token, mean over the minibatch's tokens -> nats per response
            moved = metrics["ppo/policy/approxkl"] * float(mask[rows].sum()) / len(rows)
            if steps and moved > settings.largest_step:
                return steps, moved
            training.optimizer.step()
            steps.append(metrics)
    return steps, None


def _gradient(
    settings: Policy, training: Training, rollout: Rollout, targets: Targets, rows: Tensor
) -> dict[str, float]:
    """Compute the gradient of the responses ``rows``, a minibatch, for a step; its metrics.

    Raises KelletError when loss or gradient are not finite.
    """
    devices, optimizer = training.devices, training.optimizer
    optimizer.zero_grad()
    local, counts = devices.spread(rows)
    parts = _micro_batches(rollout.batch, local, settings.micro_batch_size, devices.device)
    metrics: dict[str, float] = {}
    for part, counted, last in devices.passes(parts, counts):
        share = _token_shares(part, rows, rollout.batch.response_mask, targets.advantages, counted)
        with devices.syncing(last):
            loss, of_part = devices.run(partial(_loss, settings, training, rollout, targets, part))
            devices.backward(loss * share["all"])
        metrics = {name: metrics.get(name, 0.0) + share[MEAN_OVER.get(name, "all")] * of_part[name] for name in of_part}
    metrics = devices.sum(metrics)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    metrics["ppo/grad_norm"] = devices.clip(weights, settings.max_grad_norm)
    require_finite_step(metrics, "policy.learning_rate")
    return metrics


def _micro_batches(batch: TokenBatch, rows: Tensor, size: int | None, device: torch.device) -> list[Tensor]:
    """Parts of ``rows``, responses of similar length together."""
    return [rows[part] for part in batch.rows(rows).length_groups(max_tokens_per_pass(device), size)]


def _token_shares(
    part: Tensor, rows: Tensor, response_mask: Tensor, advantages: Tensor, counts: bool
) -> dict[str, float]:
    """The part's share of the tokens of ``rows``: of all, and of those of positive and of negative advantage.

    Losses are means over tokens, so a minibatch's loss is the sum of its parts', weighted by these shares. A part that
    only repeats rows for the other processes' sake (``counts`` False) has share 0.
    """
    masks = {
        "all": response_mask,
        "positive": response_mask & (advantages > 0),
        "negative": response_mask & (advantages < 0),
    }
    total = {name: max(float(mask[rows].sum()), 1.0) for name, mask in masks.items()}
    return {name: counts * float(mask[part].sum()) / total[name] for name, mask in masks.items()}


def _loss(
    settings: Policy, training: Training, rollout: Rollout, targets: Targets, rows: Tensor
) -> tuple[Tensor, dict[str, float]]:
    """The loss of the responses ``rows``, a scalar, and its parts as metrics."""
    model, value_head = training.trunk, training.value_head
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
def _kl_of_update(training: Training, rollout: Rollout) -> float:
    """Full KL(π_old ‖ π_new) on responses of the old policy, nats per response."""
    model = training.trunk
    batch = rollout.batch.rows(torch.arange(len(rollout.states))).to(device_of(model))
    old = rollout.states[:, : batch.response_mask.shape[1]].to(batch.input_ids.device)
    new = all_response_states(model, batch)
    kl_full = policy_vs_reference(model, old, new, batch).kl_full
    return float(kl.per_response(kl_full, batch.response_mask).mean())
