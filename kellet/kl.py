"""KL divergence from the reference: estimators and controllers of its coefficient β.

Legend: B responses, R response tokens, V vocabulary. Per-token values are (B, R), nats; a response's KL is the masked
sum of them. ``response_mask``: True = this token counts.

The estimators of KL(π || π_ref) at a visited prefix (Schulman 2020, "Approximating KL divergence"):

    k1    log π(y) - log π_ref(y)                 unbiased, may be negative
    k2    ½ k1²                                   biased, never negative
    k3    ρ - 1 - log ρ,  ρ = π_ref(y)/π(y)       unbiased, never negative
    full  Σ_v π(v) (log π(v) - log π_ref(v))      no sampling noise at the prefix; for report, control and gate

An estimator whose value is right need not have a gradient that is (Tang and Munos 2025, arXiv:2506.09477; y drawn from
π itself, a single token). ``tests/test_kl.py`` works each out:

          as a reward, E[ k ∇log π ]              as a loss, E[ ∇k ]
    k1    ∇KL(π || π_ref): right                  zero: no pull at all
    k2    biased                                  ∇KL(π || π_ref): right
    k3    ∇KL(π || π_ref) - ∇KL(π_ref || π)       ∇KL(π_ref || π): the other direction
    full  zero: no pull at this token             ∇KL(π || π_ref): right, without sampling noise

On sequences a loss sees a token's own KL and not what the token does to the prefixes after it; only k1 in the reward
has the whole gradient, which is why it is the default (``policy.kl.penalty``).
"""

import math
from typing import Protocol

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


class KLController(Protocol):
    """Holds β, in reward units per nat."""

    value: float
    at_clip: bool | None
    """Whether the last update's error was cut off; None where there is no error."""

    def update(self, current: float, n_steps: int) -> None:
        """Tell the mean KL of the last batch, nats per response, and its number of responses."""


class FixedKLController:
    """β stays what it is."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.at_clip: bool | None = None

    def update(self, current: float, n_steps: int) -> None:
        """Ignore both."""


class AdaptiveKLController:
    """β follows the KL towards a target (Ziegler et al. 2019, section 2.2).

        e = clip(KL/target - 1, -0.2, 0.2)        β <- β (1 + e n_steps/horizon)

    ``target`` is in nats per response, ``horizon`` and ``n_steps`` in responses.
    """

    def __init__(self, init_kl_coef: float, target: float, horizon: float) -> None:
        self.value, self.target, self.horizon = init_kl_coef, target, horizon
        self.at_clip: bool | None = False

    def update(self, current: float, n_steps: int) -> None:
        """Move β by the clipped proportional error."""
        proportional = current / self.target - 1
        error = min(max(proportional, -0.2), 0.2)
        self.at_clip = error != proportional
        self.value *= 1 + error * n_steps / self.horizon


class DualKLController:
    """β is the multiplier of the constraint KL <= target, found by dual ascent on its logarithm.

        e = min(KL/target - 1, 1)        log β <- clamp( log β + e n_steps/horizon, log low, log high )

    The slope of the dual in β is KL - target (Lagrangian control: Stooke et al. 2020, arXiv:2007.03964); the logarithm
    keeps β positive and a step the same at every size. At a bound it does not integrate on beyond it (anti-windup), so
    that β leaves the bound with the first error of the other sign. ``target`` is in nats per response, ``horizon`` and
    ``n_steps`` in responses. e is not below -1, since KL is not below 0.
    """

    def __init__(self, init_kl_coef: float, target: float, horizon: float, bounds: tuple[float, float]) -> None:
        self.value, self.target, self.horizon = init_kl_coef, target, horizon
        self.low, self.high = bounds
        self.at_clip: bool | None = False

    def update(self, current: float, n_steps: int) -> None:
        """Move log β by the relative error, within its bounds."""
        error = min(current / self.target - 1, 1.0)
        wanted = self.value * math.exp(error * n_steps / self.horizon)
        self.value = min(max(wanted, self.low), self.high)
        self.at_clip = self.value != wanted
