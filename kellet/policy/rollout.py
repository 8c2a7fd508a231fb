"""A rollout: sampled responses with what was measured on them."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kellet.models import kl, tokens
from kellet.models.devices import device_of
from kellet.models.next_token import policy_vs_reference
from kellet.models.tokens import TokenBatch
from kellet.models.trunk import (
    REWARD,
    all_response_states,
    use_adapter,
)

UPDATE_KL_RESPONSES = 16
"""Responses on which the KL of the update is measured, which costs their forward pass; they stand in random order."""


class Rollout(NamedTuple):
    """A batch of sampled responses with all that the update needs; (B, R) unless said otherwise."""

    batch: TokenBatch
    logprobs: Tensor
    """Of the policy that sampled, nats."""
    values: Tensor
    scores: Tensor
    """(B,) what PPO maximises but for the penalty."""
    kl_k1: Tensor
    kl_full: Tensor
    entropy: Tensor
    states: Tensor
    """(K, R, H) final hidden states of the policy that sampled, of the first UPDATE_KL_RESPONSES responses."""


def join(rollouts: Sequence[Rollout], pad_id: int) -> Rollout:
    """The rows of all ``rollouts``."""
    width = max(rollout.batch.response_mask.shape[1] for rollout in rollouts)

    def wider(tensor: Tensor) -> Tensor:
        shape = (tensor.shape[0], width - tensor.shape[1], *tensor.shape[2:])
        return torch.cat([tensor, tensor.new_zeros(shape)], dim=1)

    batch = tokens.join([rollout.batch for rollout in rollouts], pad_id)
    columns = [[column if column.dim() == 1 else wider(column) for column in rollout[1:]] for rollout in rollouts]
    whole = Rollout(batch, *(torch.cat(column) for column in zip(*columns, strict=True)))
    return whole._replace(states=whole.states[:UPDATE_KL_RESPONSES])


@torch.no_grad()
def score(
    model: Any,
    scorer: Callable[[TokenBatch], Tensor],
    value_head: nn.Linear,
    batch: TokenBatch,
    states: Tensor | None = None,
) -> Rollout:
    """Policy, value, reference and reward on the sampled responses; what is given back is on the CPU.

    ``states`` (B, R, H): the policy's final hidden states, where sampling has left them; else they cost a pass.
    """
    batch = batch.to(device_of(model))
    if states is None:
        states = all_response_states(model, batch)
    with use_adapter(model, None):
        ref_states = all_response_states(model, batch)
    with use_adapter(model, REWARD):
        scores = scorer(batch)
    found, mask = policy_vs_reference(model, states, ref_states, batch), batch.response_mask
    told = Rollout(
        batch=batch.to(torch.device("cpu")),
        logprobs=found.logprobs,
        values=value_head(states.float()).squeeze(-1) * mask,
        scores=scores,
        kl_k1=kl.k1(found.logprobs, found.ref_logprobs),
        kl_full=found.kl_full,
        entropy=found.entropy,
        states=states[:UPDATE_KL_RESPONSES].clone(),
    )
    return Rollout(told.batch, *(tensor.cpu() for tensor in told[1:]))


def _reusable(states: Tensor) -> Tensor | None:
    """The states of sampling, where they are those of a pass over whole responses to 1e-4; None where they are not.

    Half precision rounds the two ways to compute them apart: the ratios of the first epoch would not be one.
    """
    return states if states.dtype == torch.float32 else None
