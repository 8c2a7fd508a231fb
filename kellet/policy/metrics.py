"""What is measured in each iteration of PPO, beside the losses: docs/reference/metrics.md says what each figure means.

Legend: B responses, R response tokens; per-token tensors are (B, R), ``response_mask`` (B, R): True = this token
counts. Every function gives numbers by their name in the history; None where there is nothing to measure.
"""

import itertools

import torch
from torch import Tensor

from kellet.models import kl
from kellet.policy.ppo import masked_mean

Metrics = dict[str, float | None]
TOP_TOKENS = 0.1
"""Share of the tokens that count as the dearest in KL."""
ROUNDING = 1e-6
"""Nats per token: a KL below it is what float32 leaves of none, and has no part that is dearer than another."""


def describe_objective(
    scores: Tensor, kl_k1: Tensor, kl_full: Tensor, entropy: Tensor, response_mask: Tensor, kl_coef: float
) -> Metrics:
    """``objective/*`` of the sampled responses: scores (B,), their KL from the reference and their entropy (B, R)."""
    penalty = kl_coef * kl.per_response(kl_k1, response_mask)
    exact = kl.per_response(kl_full, response_mask)
    spread = float(scores.std(correction=0))
    return {
        "objective/score": float(scores.mean()),
        "objective/kl": float(exact.mean()),
        "objective/kl_p95": float(exact.quantile(0.95)),
        "objective/kl_per_token": float(masked_mean(kl_full, response_mask)),
        "objective/kl_k1": float(kl.per_response(kl_k1, response_mask).mean()),
        "objective/kl_k3": float(kl.per_response(kl.k3(kl_k1, torch.zeros_like(kl_k1)), response_mask).mean()),
        "objective/kl_top_decile_share": _top_share(kl_full[response_mask]),
        "objective/kl_coef": kl_coef,
        "objective/kl_penalty_share": float(penalty.std(correction=0)) / spread if spread > 0 else None,
        "objective/score_with_kl": float((scores - penalty).mean()),
        "objective/entropy": float(masked_mean(entropy, response_mask)),
    }


def describe_lengths(response_mask: Tensor, ended: Tensor, max_response_tokens: int) -> Metrics:
    """``tokens/*``: lengths, and where responses stop; ``ended`` (B,) is True where there is an end of sequence."""
    length = response_mask.sum(1)
    third = [round(max_response_tokens * part / 3) for part in range(4)]
    hazards = []
    for before, until in itertools.pairwise(third):
        running = length > before
        stopped = running & ended & (length <= until)
        hazards.append(float(stopped.sum() / running.sum()) if running.any() else None)
    early, middle, late = hazards
    return {
        "tokens/response_mean": float(length.float().mean()),
        "tokens/truncated_share": float((~ended).float().mean()),
        "tokens/stop_hazard/early": early,
        "tokens/stop_hazard/middle": middle,
        "tokens/stop_hazard/late": late,
    }


def describe_stopping(advantages: Tensor, response_mask: Tensor, ended: Tensor) -> Metrics:
    """Whitened advantages (B, R) of stopping and of going on, at the same positions.

    Only positions at which some response ends and another goes on are compared; each weighs as often as one ends there.
    """
    last = response_mask.sum(1) - 1
    stops = torch.zeros_like(response_mask)
    stops[torch.arange(len(last)), last] = ended
    goes_on = response_mask & ~stops
    weight = stops.sum(0) * goes_on.any(0)
    if not weight.any():
        return {"ppo/advantage/eos": None, "ppo/advantage/other": None}
    eos = (advantages * stops).sum(0) / stops.sum(0).clamp(min=1)
    other = (advantages * goes_on).sum(0) / goes_on.sum(0).clamp(min=1)
    return {
        "ppo/advantage/eos": float((eos * weight).sum() / weight.sum()),
        "ppo/advantage/other": float((other * weight).sum() / weight.sum()),
    }


def _top_share(values: Tensor) -> float | None:
    """Share of the sum that the top tenth of the values, the largest ones, have."""
    total = float(values.sum())
    count = max(round(TOP_TOKENS * len(values)), 1)
    return float(values.topk(count).values.sum()) / total if total > ROUNDING * len(values) else None
