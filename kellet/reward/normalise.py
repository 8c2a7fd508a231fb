"""The length slope and the zero of a reward, which its likelihood leaves open (kellet/reward/model.py says why).

Legend: P pairs; lengths in units of LENGTH_UNIT tokens.
"""

import torch
from torch import Tensor

from kellet.reward.model import LENGTH_UNIT, Pairs, Scorer, score_all


def normalise(scorer: Scorer, pairs: Pairs, pad_id: int) -> None:
    """Take the length slope s out of the rewards of a single member (when γ is fitted) and give them mean zero.

    What is taken off the reward goes into γ, so that the labels are predicted as before.
    """
    (member,) = scorer.members
    rewards = score_all(scorer, pairs, pad_id)
    length = pairs.length_difference() / LENGTH_UNIT
    if member.gamma is not None:
        # s = Σ Δr Δlength / Σ Δlength²
        slope = float(((rewards[0] - rewards[1]) * length).sum() / (length**2).sum().clamp(min=1e-6))
        member.length_slope, member.gamma = slope, member.gamma + slope
        tokens = [[len(response) for response in side] for side in (pairs.chosen, pairs.rejected)]
        rewards = rewards - slope * torch.tensor(tokens) / LENGTH_UNIT
    member.head.bias.data -= rewards.mean()


def length_taste(length: Tensor, iterations: int = 50) -> Tensor:
    """Maximum-likelihood γ of P(chosen) = σ(γ·length) for length differences (P,), by Newton's method; a scalar."""
    gamma = torch.zeros(())
    for _ in range(iterations):
        miss = torch.sigmoid(-gamma * length)
        curvature = (length**2 * miss * (1 - miss)).sum().clamp(min=1e-6)
        # A step of at most one logit: perfectly separable labels would send γ to infinity.
        gamma = (gamma + ((length * miss).sum() / curvature).clamp(-1, 1)).clamp(-10, 10)
    return gamma
