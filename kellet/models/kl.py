"""Estimators of the KL divergence from the reference; the controllers of β are in kellet/policy/controller.py.

Legend: B responses, R response tokens, V vocabulary. Per-token values are (B, R), nats; a response's KL is the masked
sum of them. ``response_mask``: True = this token counts.

The estimators of KL(π || π_ref) at a visited prefix (Schulman 2020, "Approximating KL divergence"):

    k1    log π(y) - log π_ref(y)                 unbiased, may be negative
    k2    ½ k1²                                   biased, never negative
    k3    ρ - 1 - log ρ,  ρ = π_ref(y)/π(y)       unbiased, never negative
    full  Σ_v π(v) (log π(v) - log π_ref(v))      no sampling noise at the prefix; for report, control and gate

An estimator whose value is right need not have a gradient that is (Tang and Munos 2025, arXiv:2506.09477; y drawn from
π itself, a single token). ``tests/models/test_kl.py`` checks each:

          as a reward, E[ k ∇log π ]              as a loss, E[ ∇k ]
    k1    ∇KL(π || π_ref): right                  zero: no pull at all
    k2    biased                                  ∇KL(π || π_ref): right
    k3    ∇KL(π || π_ref) - ∇KL(π_ref || π)       ∇KL(π_ref || π): the other direction
    full  zero: no pull at this token             ∇KL(π || π_ref): right, without sampling noise

On sequences a loss sees a token's own KL and not the token's effect on later prefixes; only k1 in the reward has the
whole gradient, which is why it is the default (``policy.kl.penalty``).
"""

import torch
from torch import Tensor


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """(B, R) log-ratio of the sampled tokens, nats per token."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """(B, R) half the squared log-ratio of the sampled tokens; as a loss its gradient is that of the KL."""
    return 0.5 * (logprobs - ref_logprobs) ** 2


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """(B, R) Schulman's low-variance estimator of the sampled tokens, nats per token, never negative."""
    log_ratio = ref_logprobs - logprobs
    return torch.expm1(log_ratio) - log_ratio


def full(log_p: Tensor, log_q: Tensor) -> Tensor:
    """(B, R) exact KL of the next-token distributions, nats per token, never negative.

    ``log_p`` and ``log_q`` (B, R, V) are the log-probabilities of policy and reference at the visited prefixes. Summed
    over a sampled response it is the Rao-Blackwellised estimator of the response's KL.
    """
    return (log_p.exp() * (log_p - log_q)).sum(-1).clamp(min=0.0)


def per_response(kl: Tensor, response_mask: Tensor) -> Tensor:
    """(B,) sum of per-token KL (B, R) over each response, nats per response."""
    return (kl * response_mask).sum(1)
