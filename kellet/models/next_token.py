"""Log-probabilities, entropy and KL of a response's tokens, computed in chunks without keeping any logits.

Logits are the widest tensors of all (Gemma 3 has 262,144 tokens), and only a few numbers per token are needed of them:
they are computed for response tokens only, a chunk at a time, and none is kept. That holds with a gradient too. The
output layer is frozen and each number depends on its token's state alone, so its gradient is one (H,) vector a token,
which is computed while the chunk's logits are in memory.

Legend: B responses, R response tokens, N tokens that ``response_mask`` keeps, V vocabulary, H hidden width. ``states``
(B, R, H): the decoder's final hidden states that predict each response token (``response_states`` of
kellet/models/trunk.py).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kellet.models import kl
from kellet.models.tokens import TokenBatch
from kellet.models.trunk import logits_of

CHUNK = 2**20
"""Logits in a chunk (4 MiB), unless that is fewer than CHUNK_TOKENS tokens."""
CHUNK_TOKENS = 64

PerToken = Callable[[Tensor, slice], tuple[Tensor, ...]]
"""Final states (n, H) of a chunk, and which of the N tokens they are -> numbers (n,)."""


class NextToken(NamedTuple):
    """Policy and reference at each response token; (B, R), nats, zero outside ``response_mask``."""

    logprobs: Tensor
    ref_logprobs: Tensor
    entropy: Tensor
    """Of the policy."""
    kl_full: Tensor


@torch.no_grad()
def policy_vs_reference(model: Any, states: Tensor, ref_states: Tensor, batch: TokenBatch) -> NextToken:
    """Compare the policy, by its final states ``states``, with the reference, by ``ref_states``."""
    mask, tokens = batch.response_mask.to(states.device), _tokens(batch).to(states.device)
    reference = ref_states[mask]

    def numbers(chunk: Tensor, rows: slice) -> tuple[Tensor, ...]:
        log_p, log_q = log_probabilities(model, chunk), log_probabilities(model, reference[rows])
        picked = (_pick(log_probs, tokens[rows]) for log_probs in (log_p, log_q))
        return (*picked, -(log_p.exp() * log_p).sum(-1), kl.full(log_p, log_q))

    return NextToken(*(_spread(values, mask) for values in _chunked(model, states[mask], numbers)))


def logprobs_of(model: Any, states: Tensor, batch: TokenBatch) -> Tensor:
    """(B, R) log-probabilities of the response tokens, nats, zero outside the mask; with a gradient to ``states``."""
    mask, tokens = batch.response_mask.to(states.device), _tokens(batch).to(states.device)

    def numbers(chunk: Tensor, rows: slice) -> tuple[Tensor, ...]:
        return (_pick(log_probabilities(model, chunk), tokens[rows]),)

    (logprobs,) = _chunked(model, states[mask], numbers)
    return _spread(logprobs, mask)


def logprobs_and_kl(model: Any, states: Tensor, ref_states: Tensor, batch: TokenBatch) -> tuple[Tensor, Tensor]:
    """As :func:`logprobs_of`, and the full KL (B, R) from the reference whose states are ``ref_states``."""
    mask, tokens = batch.response_mask.to(states.device), _tokens(batch).to(states.device)
    reference = ref_states[mask]

    def numbers(chunk: Tensor, rows: slice) -> tuple[Tensor, ...]:
        log_p = log_probabilities(model, chunk)
        with torch.no_grad():
            log_q = log_probabilities(model, reference[rows])
        return _pick(log_p, tokens[rows]), kl.full(log_p, log_q)

    logprobs, full = _chunked(model, states[mask], numbers)
    return _spread(logprobs, mask), _spread(full, mask)


def log_probabilities(model: Any, states: Tensor) -> Tensor:
    """(N, V) of states (N, H), nats, in float32 whatever the model computes in.

    A logit of -inf, with which models close tokens, becomes the lowest float32: its probability is 0 all the same, and
    p·log p is 0 and not NaN.
    """
    return logits_of(model, states).float().clamp(min=torch.finfo(torch.float32).min).log_softmax(-1)


def _tokens(batch: TokenBatch) -> Tensor:
    return batch.responses[batch.response_mask]


def _pick(log_p: Tensor, tokens: Tensor) -> Tensor:
    return log_p.gather(-1, tokens[:, None]).squeeze(-1)


def _spread(values: Tensor, mask: Tensor) -> Tensor:
    """(B, R) with the values (N,) where the mask is True."""
    spread = values.new_zeros(mask.shape)
    spread[mask] = values
    return spread


def _chunked(model: Any, states: Tensor, numbers: PerToken) -> tuple[Tensor, ...]:
    size = max(CHUNK_TOKENS, CHUNK // _width(model))
    rows = [slice(begin, min(begin + size, len(states))) for begin in range(0, len(states), size)]
    if torch.is_grad_enabled() and states.requires_grad:
        return tuple(_ByToken.apply(states, numbers, rows))  # type: ignore[no-untyped-call]
    parts = [numbers(states[chunk], chunk) for chunk in rows]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


def _width(model: Any) -> int:
    """Rows of the output layer: the vocabulary with its padding."""
    weight = model.get_output_embeddings().weight
    return int(weight.shape[0])


class _ByToken(torch.autograd.Function):
    """Numbers per token, each a function of its token's state alone: keeps their gradients, and no logits."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, numbers: PerToken, rows: list[slice]) -> tuple[Tensor, ...]:
        """A tensor (N,) of each number."""
        parts, slopes = [], []
        for some in rows:
            with torch.enable_grad():
                chunk = states[some].detach().requires_grad_()
                values = numbers(chunk, some)
                grads = [
                    torch.autograd.grad(value.sum(), chunk, retain_graph=value is not values[-1])[0] for value in values
                ]
            parts.append([value.detach() for value in values])
            slopes.append(grads)
        ctx.slopes = [torch.cat(column) for column in zip(*slopes, strict=True)]
        return tuple(torch.cat(column) for column in zip(*parts, strict=True))

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        """The gradient to the states (N, H)."""
        # ∂L/∂h_n = Σ_k ∂L/∂f_k,n · ∂f_k,n/∂h_n
        terms = [grad[:, None].to(slope.dtype) * slope for grad, slope in zip(above, ctx.slopes, strict=True)]
        return sum(terms[1:], terms[0]), None, None
