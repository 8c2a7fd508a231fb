"""A rollout: sampled responses with everything measured on them that PPO needs.

Legend: B responses, R response tokens, H hidden width. Per-token tensors (B, R) are zero where ``batch.response_mask``
is False.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kellet.models import kl, tokens
from kellet.models.devices import device_of
from kellet.models.next_token import policy_vs_reference
from kellet.models.sampling import sample_states
from kellet.models.tokens import TokenBatch
from kellet.models.trunk import all_response_states, use_adapter

UPDATE_KL_RESPONSES = 16
"""The first responses of a rollout, on which the KL of its update is measured: a forward pass each. Prompts come in
random order, so the first are a random sample."""


class Sampled(NamedTuple):
    """Sampled responses, and what the sampler knows of them."""

    batch: TokenBatch
    """B rows, on the CPU."""
    states: Tensor | None = None
    """(B, R, H) the policy's final hidden states that each token was drawn from."""
    logprobs: Tensor | None = None
    """(B, R) the sampler's log-probabilities of its tokens, nats, where it is another engine than the trainer."""


Sampler = Callable[[Any, Any, Sequence[Sequence[int]], int, Tensor], Sampled]
"""(model, tokenizer, queries, max_new_tokens, uniforms) -> the policy's responses; the seam of ``policy.sampler``."""


def builtin_sampler(
    model: Any, tokenizer: Any, queries: Sequence[Sequence[int]], max_new_tokens: int, uniforms: Tensor
) -> Sampled:
    """Kellet's own loop (kellet/models/sampling.py)."""
    return Sampled(*sample_states(model, tokenizer, queries, max_new_tokens, uniforms))


class Rollout(NamedTuple):
    """A batch of sampled responses with everything measured on them, on the CPU."""

    batch: TokenBatch
    """B rows."""
    logprobs: Tensor
    """(B, R) log-probabilities of the tokens by the policy that sampled them, nats."""
    values: Tensor
    """(B, R) of the value head, reward units."""
    raw_scores: Tensor
    """(B,) of the reward model, of policy.score.function, or of both."""
    objective: Tensor
    """(B,) what PPO maximises, the KL penalty left out: the raw scores as policy.score shapes them."""
    kl_k1: Tensor
    """(B, R) k1 from the reference (kellet/models/kl.py), nats."""
    kl_full: Tensor
    """(B, R) full KL from the reference, nats."""
    entropy: Tensor
    """(B, R) of the policy's next-token distribution, nats."""
    sampled_logprobs: Tensor
    """(B, R) by the sampler, where it is another engine; else ``logprobs``."""
    states: Tensor
    """(K, R, H) the policy's final hidden states of the first K = UPDATE_KL_RESPONSES responses, or of all if fewer."""


def join(rollouts: Sequence[Rollout], pad_id: int) -> Rollout:
    """One rollout with the rows of all ``rollouts``."""
    width = max(rollout.batch.response_mask.shape[1] for rollout in rollouts)

    def widened(tensor: Tensor) -> Tensor:
        shape = (tensor.shape[0], width - tensor.shape[1], *tensor.shape[2:])
        return torch.cat([tensor, tensor.new_zeros(shape)], dim=1)

    batch = tokens.join([rollout.batch for rollout in rollouts], pad_id)
    columns = [[column if column.dim() == 1 else widened(column) for column in rollout[1:]] for rollout in rollouts]
    joined = Rollout(batch, *(torch.cat(column) for column in zip(*columns, strict=True)))
    return joined._replace(states=joined.states[:UPDATE_KL_RESPONSES])


@torch.no_grad()
def score_rollout(
    model: Any,
    raw_score: Callable[[TokenBatch], Tensor],
    value_head: nn.Linear,
    sampled: Sampled,
) -> Rollout:
    """Measure the sampled responses with policy, value head, reference and reward; ``objective`` is the raw scores.

    The states that sampling has left save a pass.
    """
    batch, states = sampled.batch.to(device_of(model)), sampled.states
    if states is None or states.dtype != torch.float32:
        # In half precision sampling rounds otherwise than a pass over whole responses, which the update makes: the
        # ratios of the first epoch would not be one.
        states = all_response_states(model, batch)
    with use_adapter(model, None):
        ref_states = all_response_states(model, batch)
    raw_scores = raw_score(batch)
    measured = policy_vs_reference(model, states, ref_states, batch)
    values = value_head(states.float()).squeeze(-1) * batch.response_mask
    return Rollout(
        batch=batch.to(torch.device("cpu")),
        logprobs=measured.logprobs.cpu(),
        values=values.cpu(),
        raw_scores=raw_scores.cpu(),
        objective=raw_scores.cpu(),
        kl_k1=kl.k1(measured.logprobs, measured.ref_logprobs).cpu(),
        kl_full=measured.kl_full.cpu(),
        entropy=measured.entropy.cpu(),
        sampled_logprobs=measured.logprobs.cpu() if sampled.logprobs is None else sampled.logprobs,
        states=states[:UPDATE_KL_RESPONSES].clone().cpu(),
    )
