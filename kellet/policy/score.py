"""From raw scores to PPO's objective. By default the objective is the raw score of the reward model.

    raw        w_r·(reward model) + w_f·(the user's function)
    shaped     raw | (raw - mean)/std of the reference's answers | σ(raw - raw of the reference's answer)
    objective  clip(shaped) - overlong ramp - penalty for a missing end of sequence

Sources: standardised on the reference, Ziegler et al. 2019, section 2.1; sigmoid of the gain over the reference's
answer (PAR), Fu et al. 2025, arXiv:2502.18770; overlong ramp, Yu et al. 2025 (DAPO), arXiv:2503.14476, eq. 13;
missing end of sequence, Huang et al. 2024, arXiv:2403.17031. Legend: B responses, R response tokens;
``response_mask`` (B, R): True = this token counts.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from kellet.config.training import Score, Text
from kellet.errors import InputError
from kellet.models.finite import require_finite_scores
from kellet.models.sampling import draw_uniforms, sample, truncated
from kellet.models.tokens import TokenBatch, decode, encode_prompts
from kellet.models.trunk import use_adapter
from kellet.policy.score_function import load_function
from kellet.reward.model import Reread

BASELINE_PROMPTS = 256
"""Prompts whose answers by the reference give the mean and standard deviation of ``standardised``."""


class RawScore:
    """Raw scores of answers: by the reward model, by the user's function, or by both, weighted."""

    def __init__(
        self,
        settings: Score,
        scorer: Callable[[TokenBatch], Tensor],
        tokenizer: Any,
        reread: Reread | None = None,
    ) -> None:
        self.settings, self.scorer, self.tokenizer, self.reread = settings, scorer, tokenizer, reread
        self.function = load_function(settings.function) if settings.function else None

    def __call__(self, batch: TokenBatch, prompts: Sequence[str]) -> Tensor:
        """(B,) raw scores of the answers to ``prompts``.

        Raises InputError when reward model or function do not give one finite number for each answer.
        """
        settings = self.settings
        if self.function is None:
            return self._of_reward_model(batch, prompts)
        values = list(self.function(list(prompts), decode(self.tokenizer, batch.responses, batch.response_mask)))
        if len(values) != len(prompts) or not all(math.isfinite(value) for value in values):
            raise InputError(
                f"{settings.function} gave {len(values)} scores for {len(prompts)} answers"
                + (", not all of them finite" if len(values) == len(prompts) else "")
                + "; policy.score.function takes lists of prompts and responses and gives a finite number for each"
            )
        scores = settings.function_weight * torch.tensor([float(value) for value in values])
        if not settings.reward_weight:
            return scores
        return scores + settings.reward_weight * self._of_reward_model(batch, prompts)

    def _of_reward_model(self, batch: TokenBatch, prompts: Sequence[str]) -> Tensor:
        scores = self.scorer(batch if self.reread is None else self.reread(batch, prompts))
        require_finite_scores(scores, prompts, "the reward model")
        return scores


def objective(
    settings: Score,
    raw: Tensor,
    batch: TokenBatch,
    reference: Tensor | None,
    baseline: tuple[float, float] | None,
    ends: Sequence[int],
    max_response_tokens: int,
) -> Tensor:
    """(B,) what PPO maximises, the KL penalty left out; ``reference`` and ``baseline`` as of :func:`shape_scores`."""
    shaped = shape_scores(settings, raw, reference, baseline)
    ended = ~truncated(batch, ends)
    return subtract_penalties(settings, shaped, batch.response_mask, ended, max_response_tokens)


def shape_scores(
    settings: Score, raw: Tensor, reference: Tensor | None, baseline: tuple[float, float] | None
) -> Tensor:
    """(B,) raw scores shaped and clipped.

    ``reference`` (B,) are raw scores of the reference's answers to the same prompts (``gain``), ``baseline`` the mean
    and standard deviation of such scores (``standardised``).
    """
    if settings.shaping == "gain":
        assert reference is not None  # noqa: S101
        raw = torch.sigmoid(raw - reference)
    elif settings.shaping == "standardised":
        assert baseline is not None  # noqa: S101
        mean, deviation = baseline
        raw = (raw - mean) / deviation
    return raw if settings.clip is None else raw.clamp(-settings.clip, settings.clip)


def subtract_penalties(
    settings: Score, scores: Tensor, response_mask: Tensor, ended: Tensor, max_response_tokens: int
) -> Tensor:
    """(B,) scores less the overlong ramp, and less the penalty where ``ended`` (B,) is False."""
    # ramp: 0 up to max - width, then linearly to 1 at max                     Yu et al. 2025, eq. 13
    if settings.overlong_tokens:
        over = response_mask.sum(1) - (max_response_tokens - settings.overlong_tokens)
        scores = scores - settings.overlong_penalty * (over / settings.overlong_tokens).clamp(0, 1)
    return scores - settings.missing_eos_penalty * (~ended) if settings.missing_eos_penalty else scores


@torch.no_grad()
def reference_scores(
    model: Any, raw_score: RawScore, queries: Sequence[Sequence[int]], prompts: Sequence[str], uniforms: Tensor
) -> Tensor:
    """(B,) raw scores of an answer that the reference samples to each prompt, by ``uniforms`` (B, max_new_tokens)."""
    with use_adapter(model, None):
        batch = sample(model, raw_score.tokenizer, queries, uniforms.shape[1], uniforms)
    return raw_score(batch, prompts)


def reference_baseline(
    model: Any, raw_score: RawScore, prompts: Sequence[str], text: Text, seed: int, batch_size: int
) -> tuple[float, float]:
    """Mean and standard deviation of the raw scores of the reference's answers to up to BASELINE_PROMPTS prompts.

    ``batch_size`` are sampled at a time, which does not change the answers. Raises InputError when all are the same.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = [prompts[i] for i in torch.randperm(len(prompts), generator=generator)[:BASELINE_PROMPTS]]
    queries = encode_prompts(raw_score.tokenizer, chosen, text)
    uniforms = draw_uniforms(len(queries), text.max_response_tokens, generator)
    parts = [slice(begin, begin + batch_size) for begin in range(0, len(queries), batch_size)]
    raw = torch.cat([reference_scores(model, raw_score, queries[p], chosen[p], uniforms[p]) for p in parts])
    if not float(raw.std(correction=0)) > 0:
        raise InputError("the reference's answers all score the same; set policy.score.shaping to none or gain")
    return float(raw.mean()), float(raw.std(correction=0))
