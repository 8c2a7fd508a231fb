"""Proximal policy optimisation on token sequences: the equations, as pure functions.

Legend: B responses, R response tokens; every (B, R) tensor comes with ``response_mask`` (B, R): True = this token
counts. Sources: PPO, Schulman et al. 2017; generalised advantage estimation (GAE), Schulman et al. 2016; rewards with a
KL penalty per token, Ziegler et al. 2019, eq. 2. Left out: an entropy bonus, and value targets other than GAE's.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class PolicyLoss(NamedTuple):
    """The clipped surrogate and metrics of it; scalars."""

    loss: Tensor
    clipfrac: Tensor
    """Share of the tokens that count on which the clip is active: there the gradient is zero."""
    clipfrac_positive: Tensor
    """The same share of the tokens of positive advantage; 0 if there is none."""
    clipfrac_negative: Tensor
    """The same share of the tokens of negative advantage; 0 if there is none."""
    approxkl: Tensor
    """Mean k3 of the old policy from the new one, nats per token."""


def masked_mean(values: Tensor, response_mask: Tensor) -> Tensor:
    """Mean over the tokens that count, a scalar."""
    return (values * response_mask).sum() / response_mask.sum()


def whiten(values: Tensor, response_mask: Tensor) -> Tensor:
    """(B, R) shifted to mean zero and scaled to unit variance over the tokens that count; zero at the others.

    The variance is the biased one, as in lm-human-preferences.
    """
    mean = masked_mean(values, response_mask)
    variance = masked_mean((values - mean) ** 2, response_mask)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * response_mask


def penalised_rewards(scores: Tensor, kl: Tensor, kl_coef: float, response_mask: Tensor) -> Tensor:
    """(B, R) token rewards: -β·kl (B, R) at each token, plus the response's score (B,) at its last token."""
    # r_t = -β kl_t + [t = last] score                                             Ziegler et al. 2019, eq. 2
    rewards = -kl_coef * kl * response_mask
    last = response_mask.sum(1) - 1
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def gae(rewards: Tensor, values: Tensor, response_mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns, each (B, R); the state after the last token that counts has value zero.

    Source: Schulman et al. 2016, eq. 16, computed backwards.
    """
    values = values * response_mask
    advantages = torch.zeros_like(values)
    following = torch.zeros_like(values[:, 0])
    for t in reversed(range(values.shape[1])):
        next_value = values[:, t + 1] if t + 1 < values.shape[1] else torch.zeros_like(following)
        # δ_t = r_t + γ V(s_{t+1}) - V(s_t)           A_t = δ_t + γ λ A_{t+1}
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        following = (delta + gamma * lam * following) * response_mask[:, t]
        advantages[:, t] = following
    return advantages, advantages + values


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, response_mask: Tensor, clip_range: float
) -> PolicyLoss:
    """Clipped surrogate objective, negated, averaged over the tokens that count.

    Source: Schulman et al. 2017, eq. 7.
    """
    # L = -E[ min( ρ A, clip(ρ, 1-ε, 1+ε) A ) ],  ρ = π(y)/π_old(y)
    log_ratio = logprobs - old_logprobs
    ratio = log_ratio.exp()
    plain, clipped = -advantages * ratio, -advantages * ratio.clamp(1 - clip_range, 1 + clip_range)
    active = (clipped > plain) & response_mask
    positive, negative = (advantages > 0) & response_mask, (advantages < 0) & response_mask
    return PolicyLoss(
        loss=masked_mean(torch.maximum(plain, clipped), response_mask),
        clipfrac=masked_mean(active.float(), response_mask),
        clipfrac_positive=(active & positive).sum() / positive.sum().clamp(min=1),
        clipfrac_negative=(active & negative).sum() / negative.sum().clamp(min=1),
        approxkl=masked_mean(torch.expm1(log_ratio) - log_ratio, response_mask).detach(),
    )


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, response_mask: Tensor, clip_range: float) -> Tensor:
    """Half the clipped squared error, averaged over the tokens that count.

    Source: the PPO code of OpenAI baselines, as in lm-human-preferences.
    """
    # L = ½ E[ max( (V - R)², (clip(V, V_old ± ε) - R)² ) ]
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    squared_error = torch.maximum((values - returns) ** 2, (clipped - returns) ** 2)
    return 0.5 * masked_mean(squared_error, response_mask)


def explained_variance(values: Tensor, returns: Tensor, response_mask: Tensor) -> float:
    """1 - Var(returns - values)/Var(returns) over the tokens that count; 1 is perfect, 0 as good as a constant."""
    returns, values = returns[response_mask], values[response_mask]
    return float(1 - (returns - values).var() / returns.var().clamp(min=1e-8))
