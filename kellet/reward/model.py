"""The reward model: LoRA adapters and scalar heads, fitted to preferences by Bradley-Terry (kellet/reward/train.py).

    P(chosen preferred) = σ( r(x, y⁺) - r(x, y⁻) )                                          length_control: none
    P(chosen preferred) = σ( r(x, y⁺) - r(x, y⁻) + γ·(|y⁺| - |y⁻|)/10 )                     length_control: covariate
    P(chosen preferred) = σ( r(x, y⁺) - r(x, y⁻) + l(x, y⁺) - l(x, y⁻) )                    length_control: two_head

The terms beside r are fitted with it and dropped when scoring. γ is the annotators' taste for ten more tokens. But r
can express length too, and the likelihood does not identify the split: r - s·|y|/10 with γ + s predicts the same labels
for every s. So s is chosen: it is the slope of r on length within the training pairs, and the reward is r - s·|y|/10,
whose slope is zero (kellet/reward/normalise.py). The slope that remains on held-out pairs is measured: ``length_slope``
and ``filler_probe`` of the card (kellet/reward/card.py). The price: where honest quality grows with length, its linear
part is lost too. With two heads, losses of their own draw l to length and r away from it (kellet/reward/loss.py).

Sources: Bradley and Terry 1952; Christiano et al. 2017; Stiennon et al. 2020 (the score at the last token); Chen et al.
2024 (two heads); Coste et al. 2023 (ensembles).
Legend: P pairs; a batch of P pairs is one forward pass over 2P rows, the chosen ones first. K members, B responses.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor, nn

from kellet.config.run import Config
from kellet.config.training import Ensemble
from kellet.errors import DataError
from kellet.files import write_json
from kellet.models.devices import device_of
from kellet.models.heads import load_head, save_head
from kellet.models.tokens import TokenBatch, encode_prompts, encode_queries, encode_response, end_tokens, pad
from kellet.models.trunk import POLICY, REWARD, last_hidden, load_adapter, save_adapter, use_adapter

LENGTH_UNIT = 10.0
"""γ is in logits for this many tokens."""
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

    def batch(self, pad_id: int) -> TokenBatch:
        """One batch of 2P rows: the chosen responses, then the rejected ones."""
        return pad(self.queries * 2, self.chosen + self.rejected, pad_id)

    def take(self, index: Tensor | Sequence[int]) -> "Pairs":
        """The pairs of ``index``, in its order."""
        chosen = [int(i) for i in index]
        return Pairs(*([column[i] for i in chosen] for column in self))


@dataclass
class Member:
    """One reward model: an adapter of the trunk and the heads that read its hidden states."""

    head: nn.Linear
    adapter: str = POLICY
    """The adapter's name in the trunk."""
    length_slope: float = 0.0
    """Taken off the head's output for every LENGTH_UNIT tokens; 0 without length control."""
    gamma: float | None = None
    """covariate: logits of preference for LENGTH_UNIT more tokens, dropped when scoring."""
    length_head: nn.Linear | None = None
    """two_head: l(x, y), dropped when scoring."""


class Scores(NamedTuple):
    """An ensemble's scores of B responses; logits of preference."""

    reward: Tensor
    """(B,) the reward that the policy gets."""
    std: Tensor | None
    """(B,) standard deviation between the members; None for a single one."""
    preference: Tensor
    """(B,) predicts the labels: the members' mean reward with the terms that are dropped when scoring."""


Reread = Callable[[TokenBatch, Sequence[str]], TokenBatch]
"""A policy's responses and their prompts -> the same in the reward model's tokens (kellet/reward/own_base.py)."""


class Scorer:
    """Scores responses by the reward models whose adapters are loaded in a trunk, the policy's or one of their own.

    A response that was cut at the length limit is scored as if it ended there. The reward model was trained on finished
    answers only; its output at another last token is arbitrary, and PPO exploits arbitrary rewards at once.
    """

    def __init__(
        self,
        model: Any,
        members: Sequence[Member],
        eos_token_id: int,
        ensemble: Ensemble | None = None,
        temperature: float = 1.0,
    ) -> None:
        self.model, self.members, self.eos_token_id = model, list(members), eos_token_id
        self.ensemble, self.temperature = ensemble or Ensemble(), temperature
        self.owns_trunk = False
        self.reread: Reread | None = None

    def to(self, device: torch.device) -> "Scorer":
        """Put the heads on ``device``, and the trunk where it is the scorer's own; else its owner moves it."""
        if self.owns_trunk:
            self.model.to(device)
        for member in self.members:
            for head in filter(None, (member.head, member.length_head)):
                head.to(device)
        return self

    def __call__(self, batch: TokenBatch) -> Tensor:
        """(B,) rewards, in logits of preference, of responses in this trunk's tokens."""
        return self.scores(batch).reward

    def scores_of_policy(self, batch: TokenBatch, prompts: Sequence[str]) -> Scores:
        """:meth:`scores` of responses to ``prompts`` (B,) in the policy's tokens."""
        return self.scores(batch if self.reread is None else self.reread(batch, prompts))

    def scores(self, batch: TokenBatch) -> Scores:
        """Rewards with the members' disagreement and the preference model's logits; as :meth:`__call__`."""
        closed = batch.closed(self.eos_token_id).to(device_of(self.model))
        length = closed.response_mask.sum(1)
        rewards, preferences = [], []
        for member in self.members:
            with use_adapter(self.model, member.adapter):
                hidden = last_hidden(self.model, closed)
            reward = member.head(hidden).squeeze(-1) - member.length_slope * length / LENGTH_UNIT
            dropped = torch.zeros_like(reward) if member.gamma is None else member.gamma * length / LENGTH_UNIT
            if member.length_head is not None:
                dropped = dropped + member.length_head(hidden).squeeze(-1)
            rewards.append(reward)
            preferences.append(reward + dropped)
        by_member = torch.stack(rewards) / self.temperature
        std = by_member.std(0) if len(by_member) > 1 else None
        preference = torch.stack(preferences).mean(0) / self.temperature
        return Scores(aggregate(by_member, self.ensemble).cpu(), None if std is None else std.cpu(), preference.cpu())


def aggregate(rewards: Tensor, ensemble: Ensemble) -> Tensor:
    """(B,) one reward of the members' ``rewards`` (K, B)."""
    if len(rewards) == 1:
        return rewards[0]
    if ensemble.score == "minimum":
        return rewards.min(0).values
    mean = rewards.mean(0)
    return mean if ensemble.score == "mean" else mean - ensemble.std_coef * rewards.std(0)


def score_all(scorer: Scorer, pairs: Pairs, pad_id: int) -> Tensor:
    """(2, P) rewards without gradient, SCORING_PAIRS at a time."""
    return torch.stack([scores.reward for scores in scores_of_pairs(scorer, pairs, pad_id)])


@torch.no_grad()
def scores_of_pairs(scorer: Scorer, pairs: Pairs, pad_id: int) -> tuple[Scores, Scores]:
    """Scores of the chosen and of the rejected responses, each (P,), SCORING_PAIRS pairs at a time."""
    parts = []
    for begin in range(0, len(pairs.queries), SCORING_PAIRS):
        rows = range(begin, min(begin + SCORING_PAIRS, len(pairs.queries)))
        parts.append(scorer.scores(pairs.take(rows).batch(pad_id)))

    def side(number: int) -> Scores:
        reward, preference = (
            torch.cat([getattr(part, name).view(2, -1)[number] for part in parts]) for name in ("reward", "preference")
        )
        stds = [part.std.view(2, -1)[number] for part in parts if part.std is not None]
        return Scores(reward, torch.cat(stds) if stds else None, preference)

    return side(0), side(1)


def preference_gap(scorer: Scorer, pairs: Pairs, pad_id: int) -> npt.NDArray[np.float64]:
    """(P,) logits with which the whole preference model prefers the chosen responses."""
    chosen, rejected = scores_of_pairs(scorer, pairs, pad_id)
    return (chosen.preference - rejected.preference).double().numpy()


def encode_pairs(table: pd.DataFrame, tokenizer: Any, config: Config, source: Path | str = "the table") -> Pairs:
    """Tokenise prompt, chosen and rejected. Raises DataError when there is no row."""
    if table.empty:
        raise DataError(
            f"{source} lacks pairs in split 'train', 'validation' or (for a judge) 'test'; prepare more prompts"
        )
    return Pairs(
        encode_prompts(tokenizer, list(table["prompt"]), config.text),
        [encode_response(tokenizer, answer, config.text) for answer in table["chosen"]],
        [encode_response(tokenizer, answer, config.text) for answer in table["rejected"]],
    )


def cut_counts(table: pd.DataFrame, tokenizer: Any, config: Config) -> dict[Literal["prompts", "responses"], int]:
    """How many prompts (one a pair) and answers (two a pair) of ``table`` are longer than the limits of ``text``."""
    ends, answers = end_tokens(tokenizer), [*table["chosen"], *table["rejected"]]
    return {
        "prompts": sum(query.cut for query in encode_queries(tokenizer, list(table["prompt"]), config.text)),
        "responses": sum(encode_response(tokenizer, answer, config.text)[-1] not in ends for answer in answers),
    }


def save_member(
    model: Any, member: Member, folder: Path, number: int = 0, tensors: dict[str, Tensor] | None = None
) -> None:
    """Write adapter and heads of a member: the first into ``folder`` itself, others into ``folder``/member_N/.

    ``tensors`` are the adapter's of :func:`kellet.models.trunk.adapter_tensors`, needed where FSDP shards the model's.
    """
    place = folder if number == 0 else folder / f"member_{number}"
    save_adapter(model, place / "adapter", member.adapter, tensors)
    numbers = {"length_slope": member.length_slope}
    if member.gamma is not None:
        numbers["gamma"] = member.gamma
    save_head(member.head, place / "head.safetensors", **numbers)
    if member.length_head is not None:
        save_head(member.length_head, place / "length_head.safetensors")


def save_settings(folder: Path, ensemble: Ensemble, temperature: float) -> None:
    """Write reward_model.json: the settings that a scorer needs beside its members."""
    write_json(folder / "reward_model.json", {"ensemble": ensemble.model_dump(), "temperature": temperature})


def load_scorer(model: Any, folder: Path, eos_token_id: int, name: str = REWARD) -> Scorer:
    """The reward model of ``folder`` on the trunk ``model``; its adapters are called ``name``, ``name``_1, ...

    Raises DataError when the folder holds no reward model.
    """
    file = folder / "reward_model.json"
    if not file.exists():
        raise DataError(f"{file} does not exist; train the reward model first (kellet train-reward)")
    settings = json.loads(file.read_text(encoding="utf-8"))
    ensemble, members = Ensemble.model_validate(settings["ensemble"]), []
    for number in range(ensemble.members):
        place, adapter = (folder, name) if number == 0 else (folder / f"member_{number}", f"{name}_{number}")
        head, more = load_head(place / "head.safetensors")
        length_head = place / "length_head.safetensors"
        model = load_adapter(model, place / "adapter", adapter)
        members.append(
            Member(head, adapter, **more, length_head=load_head(length_head)[0] if length_head.exists() else None)
        )
    return Scorer(model, members, eos_token_id, ensemble, settings["temperature"])
