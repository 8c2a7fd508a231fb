"""The reward model: a LoRA adapter and a scalar head, fitted to preferences by Bradley-Terry.

    P(chosen preferred) = σ( r(x, y⁺) - r(x, y⁻) )                                          length_control: none
    P(chosen preferred) = σ( r(x, y⁺) - r(x, y⁻) + γ·(|y⁺| - |y⁻|)/10 )                     length_control: covariate

γ is the annotators' taste for ten more tokens. It is fitted with the model and dropped when scoring. But r can express
length too, and the likelihood cannot tell the two apart: r - s·|y|/10 with γ + s predicts the same labels for every s.
So a normalisation has to choose: s is the slope of r on length within the training pairs, and what scores is
r - s·|y|/10, which has none. What is left on pairs not seen is measured: ``length_slope`` and ``filler_probe`` of the
card (kellet/reward_card.py). The price: where honest quality goes with length, its linear part is lost too.

Sources: Bradley and Terry 1952; Christiano et al. 2017; Stiennon et al. 2020 (the score at the last token).
Legend: P pairs; a batch of P pairs is one forward pass over 2P rows, the chosen ones first.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn

from kellet.config import Config
from kellet.errors import DataError
from kellet.files import atomic_folder, write_json
from kellet.progress import Progress, quiet
from kellet.tokens import Batch, encode_prompt, encode_response, pad
from kellet.trunk import (
    REWARD,
    add_adapter,
    last_hidden,
    load_adapter,
    load_base,
    load_head,
    save_adapter,
    save_head,
    scalar_head,
)

LENGTH_UNIT = 10.0
"""γ is in logits for this many tokens."""
NORMALISING_PAIRS = 1024
"""Training pairs, drawn by chance, on which the length slope and the mean of the reward are measured."""
SCORING_PAIRS = 64
"""Pairs in a forward pass without gradient."""


class Pairs(NamedTuple):
    """Tokenised pairs; lists of token ids."""

    queries: list[list[int]]
    chosen: list[list[int]]
    rejected: list[list[int]]

    def length_difference(self) -> Tensor:
        """(P,) tokens of chosen minus tokens of rejected."""
        pairs = zip(self.chosen, self.rejected, strict=True)
        return torch.tensor([len(c) - len(r) for c, r in pairs], dtype=torch.float32)


class Scorer:
    """Scores responses by the reward model that lives as an adapter in a trunk.

    A response that was cut at the length limit is scored as if it ended there. The reward model has only ever seen
    finished answers; what it says at another last token is an accident, and PPO finds such accidents at once.
    """

    def __init__(self, model: Any, head: nn.Linear, eos_token_id: int, length_slope: float = 0.0) -> None:
        self.model, self.head, self.eos_token_id = model, head, eos_token_id
        self.length_slope = length_slope
        """Reward for LENGTH_UNIT tokens that is taken off again; 0 without length control."""

    def __call__(self, batch: Batch) -> Tensor:
        """(B,) rewards, in logits of preference."""
        scores: Tensor = self.head(last_hidden(self.model, batch.closed(self.eos_token_id))).squeeze(-1)
        return scores - self.length_slope * batch.response_mask.sum(1) / LENGTH_UNIT


def train_reward(
    config: Config, preferences: Path, base: Path | str, out: Path, progress: Progress = quiet
) -> dict[str, Any]:
    """Train on the training split, write the card on the validation split; return the card.

    ``out`` gets adapter/, head.safetensors, card.json and history.jsonl. Rewards are shifted so that the labelled
    answers of the training split score zero on average. Raises DataError when a split has no pair.
    """
    from kellet.reward_card import reward_card

    settings = config.reward_model
    table = pd.read_parquet(preferences)
    model, tokenizer = load_base(base)
    model = add_adapter(model, settings.lora, config.seed)
    pairs = encode_pairs(table[table["split"] == "train"], tokenizer, config, preferences)
    scorer = Scorer(model, scalar_head(model.config.hidden_size, config.seed), tokenizer.eos_token_id)
    gamma, history = fit(scorer, pairs, config, tokenizer.pad_token_id, progress)
    model.eval()
    held_out = table[table["split"] == "validation"]
    encode_pairs(held_out, tokenizer, config, preferences)  # refuses an empty split before anything is written
    with torch.no_grad():
        sample = torch.randperm(len(pairs.queries), generator=torch.Generator().manual_seed(config.seed))
        gamma = normalise(scorer, _take(pairs, sample[:NORMALISING_PAIRS]), gamma, tokenizer.pad_token_id)
        card = reward_card(scorer, tokenizer, held_out, config, gamma)
    with atomic_folder(out) as folder:
        save_adapter(model, folder / "adapter")
        save_head(scorer.head, folder / "head.safetensors", length_slope=scorer.length_slope)
        write_json(folder / "card.json", card)
        (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
    return card


def fit(
    scorer: Scorer, pairs: Pairs, config: Config, pad_id: int, progress: Progress = quiet
) -> tuple[float | None, list[dict[str, float]]]:
    """Minimise the Bradley-Terry loss; return γ (None without length control) and the metrics of each step."""
    settings = config.reward_model
    length = pairs.length_difference() / LENGTH_UNIT
    gamma = nn.Parameter(length_taste(length)) if settings.length_control == "covariate" else None
    weights = [p for p in (*scorer.model.parameters(), *scorer.head.parameters()) if p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": settings.weight_decay}]
    if gamma is not None:
        groups.append({"params": [gamma], "lr": settings.length_learning_rate, "weight_decay": 0.0})
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, _steps(pairs, config))
    history: list[dict[str, float]] = []
    scorer.model.train()
    for index in _batches(pairs, config):
        # loss = -log σ( Δr + γ Δlength )
        scores = score_pairs(scorer, _take(pairs, index), pad_id)
        logits = scores[0] - scores[1]
        if gamma is not None:
            logits = logits + gamma * length[index]
        loss = -nn.functional.logsigmoid(logits).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        metrics = {
            "reward_model/loss": float(loss.detach()),
            "reward_model/accuracy": float((logits > 0).float().mean()),
            "reward_model/grad_norm": float(norm),
        }
        if gamma is not None:
            metrics["reward_model/gamma"] = float(gamma.detach())
        history.append({"step": len(history) + 1, **metrics})
        progress(len(history), _steps(pairs, config), metrics)
    return None if gamma is None else float(gamma.detach()), history


def normalise(scorer: Scorer, pairs: Pairs, gamma: float | None, pad_id: int) -> float | None:
    """Take the length slope out of the rewards (when γ is fitted) and give them mean zero; return γ plus that slope."""
    scores = score_all(scorer, pairs, pad_id)
    length = pairs.length_difference() / LENGTH_UNIT
    if gamma is not None:
        # s = Σ Δr Δlength / Σ Δlength²
        slope = float(((scores[0] - scores[1]) * length).sum() / (length**2).sum().clamp(min=1e-6))
        scorer.length_slope, gamma = slope, gamma + slope
        scores = score_all(scorer, pairs, pad_id)
    scorer.head.bias.data -= scores.mean()
    return gamma


def score_all(scorer: Scorer, pairs: Pairs, pad_id: int) -> Tensor:
    """(2, P) rewards without gradient, SCORING_PAIRS at a time."""
    parts = []
    with torch.no_grad():
        for begin in range(0, len(pairs.queries), SCORING_PAIRS):
            rows = range(begin, min(begin + SCORING_PAIRS, len(pairs.queries)))
            parts.append(score_pairs(scorer, _take(pairs, rows), pad_id))
    return torch.cat(parts, dim=1)


def length_taste(length: Tensor, iterations: int = 50) -> Tensor:
    """Maximum-likelihood γ of P(chosen) = σ(γ·length) for length differences (P,), by Newton's method; a scalar."""
    gamma = torch.zeros(())
    for _ in range(iterations):
        miss = torch.sigmoid(-gamma * length)
        curvature = (length**2 * miss * (1 - miss)).sum().clamp(min=1e-6)
        # A step of at most one logit: perfectly separable labels would send γ to infinity.
        gamma = (gamma + ((length * miss).sum() / curvature).clamp(-1, 1)).clamp(-10, 10)
    return gamma


def score_pairs(scorer: Scorer, pairs: Pairs, pad_id: int) -> Tensor:
    """(2, P) rewards: of the chosen and of the rejected responses, in one forward pass."""
    batch = pad(pairs.queries * 2, pairs.chosen + pairs.rejected, pad_id)
    return scorer(batch).view(2, -1)


def encode_pairs(table: pd.DataFrame, tokenizer: Any, config: Config, source: Path | str = "the table") -> Pairs:
    """Tokenise prompt, chosen and rejected. Raises DataError when there is no row."""
    if table.empty:
        raise DataError(f"{source} lacks pairs in split 'train' or 'validation'; prepare it again with more prompts")
    return Pairs(
        [encode_prompt(tokenizer, prompt, config.text) for prompt in table["prompt"]],
        [encode_response(tokenizer, answer, config.text) for answer in table["chosen"]],
        [encode_response(tokenizer, answer, config.text) for answer in table["rejected"]],
    )


def load_scorer(model: Any, folder: Path, eos_token_id: int) -> Scorer:
    """The reward model of ``folder`` on the trunk ``model``; its adapter gets the name ``reward``.

    Use it inside ``playing(model, REWARD)``. Raises DataError when the folder holds no reward model.
    """
    head, more = load_head(folder / "head.safetensors")
    return Scorer(load_adapter(model, folder / "adapter", REWARD), head, eos_token_id, **more)


def _take(pairs: Pairs, index: Tensor | Sequence[int]) -> Pairs:
    chosen = [int(i) for i in index]
    return Pairs(*([column[i] for i in chosen] for column in pairs))


def _steps(pairs: Pairs, config: Config) -> int:
    return config.reward_model.epochs * -(-len(pairs.queries) // config.reward_model.batch_size)


def _batches(pairs: Pairs, config: Config) -> Iterator[Tensor]:
    """Indices of pairs; each epoch in a new order, pairs of similar length together."""
    generator = torch.Generator().manual_seed(config.seed)
    longest = [len(q) + max(len(c), len(r)) for q, c, r in zip(*pairs, strict=True)]
    lengths = torch.tensor(longest, dtype=torch.float32)
    for _ in range(config.reward_model.epochs):
        order = torch.argsort(lengths + 8 * torch.rand(len(lengths), generator=generator))
        chunks = order.split(config.reward_model.batch_size)
        for number in torch.randperm(len(chunks), generator=generator).tolist():
            yield chunks[number]
