"""The metrics of one PPO iteration, losses left out; docs/reference/metrics.md says what each one means.

Legend: B responses, R response tokens; per-token tensors are (B, R), ``response_mask`` (B, R): True = this token
counts. Every function returns metrics by their name in history.jsonl; None where there is nothing to measure.
"""

import itertools

import torch
from torch import Tensor

from kellet.models import kl
from kellet.policy.ppo import masked_mean

IterationMetrics = dict[str, float | None]
"""Metrics of one iteration, a line of the policy's history.jsonl."""
TOP_TOKENS = 0.1
"""Share of the tokens that make the top decile."""
ROUNDING = 1e-6
"""Nats per token. Below this mean KL per token everything is float32 rounding; the top-decile share is then None."""


def describe_objective(
    objective: Tensor, kl_k1: Tensor, kl_full: Tensor, entropy: Tensor, response_mask: Tensor, kl_coef: float
) -> IterationMetrics:
    """``objective/*``: of ``objective`` (B,), KL from the reference (B, R) and entropy (B, R), nats."""
    penalty = kl_coef * kl.per_response(kl_k1, response_mask)
    drift = kl.per_response(kl_full, response_mask)
    deviation = float(objective.std(correction=0))
    return {
        "objective/score": float(objective.mean()),
        "objective/kl": float(drift.mean()),
        "objective/kl_p95": float(drift.quantile(0.95)),
        "objective/kl_per_token": float(masked_mean(kl_full, response_mask)),
        "objective/kl_k1": float(kl.per_response(kl_k1, response_mask).mean()),
        "objective/kl_k3": float(kl.per_response(kl.k3(kl_k1, torch.zeros_like(kl_k1)), response_mask).mean()),
        "objective/kl_top_decile_share": _top_share(kl_full[response_mask]),
        "objective/kl_coef": kl_coef,
        "objective/kl_penalty_share": float(penalty.std(correction=0)) / deviation if deviation > 0 else None,
        "objective/score_with_kl": float((objective - penalty).mean()),
        "objective/entropy": float(masked_mean(entropy, response_mask)),
    }


def describe_lengths(response_mask: Tensor, ended: Tensor, max_response_tokens: int) -> IterationMetrics:
    """``tokens/*``: lengths, and where responses stop; ``ended`` (B,) True where a response has its end of sequence.

    The hazard of a third of ``max_response_tokens`` is the share of the responses that reach it which end in it.
    """
    length = response_mask.sum(1)
    bounds = [round(max_response_tokens * thirds / 3) for thirds in range(4)]
    hazards = []
    for low, high in itertools.pairwise(bounds):
        running = length > low
        stopped = running & ended & (length <= high)
        hazards.append(float(stopped.sum() / running.sum()) if running.any() else None)
    early, middle, late = hazards
    return {
        "tokens/response_mean": float(length.float().mean()),
        "tokens/truncated_share": float((~ended).float().mean()),
        "tokens/stop_hazard/early": early,
        "tokens/stop_hazard/middle": middle,
        "tokens/stop_hazard/late": late,
    }


def describe_stopping(advantages: Tensor, response_mask: Tensor, ended: Tensor) -> IterationMetrics:
    """Mean whitened advantage (B, R) of stopping and of going on, at the same positions.

    Only positions at which some response ends and another goes on are compared, weighted by how many end there.
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
    """Share of the sum of ``values`` (N,) that falls on the largest tenth of them."""
    total = float(values.sum())
    count = max(round(TOP_TOKENS * len(values)), 1)
    return float(values.topk(count).values.sum()) / total if total > ROUNDING * len(values) else None
