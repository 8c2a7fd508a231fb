"""Train the reward model: fit each member to pairs, normalise it, write it with its card. Resumable to the byte.

Equations and sources stand in kellet/reward/model.py and kellet/reward/loss.py. Legend: P pairs, of which a step takes
``reward_model.batch_size``.
"""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kellet.config.run import Config
from kellet.errors import DataError, InputError, KelletError
from kellet.files import atomic_folder, write_json
from kellet.interrupt import held_back
from kellet.models.architecture import text_config
from kellet.models.checkpoint import Checkpoint, Checkpoints, optimizer_tensors, origin_of, restore_optimizer
from kellet.models.devices import Devices, fill, plain, whole
from kellet.models.seeds import derived_seed
from kellet.models.trunk import POLICY, adapter_tensors, add_adapter, last_hidden, load_base, scalar_head
from kellet.progress import Progress, quiet
from kellet.reward.card import reward_card
from kellet.reward.card_text import card_text
from kellet.reward.loss import centring_loss, length_loss, orthogonality_loss, preference_loss
from kellet.reward.model import (
    LENGTH_UNIT,
    Member,
    Pairs,
    Scorer,
    encode_pairs,
    preference_gap,
    save_member,
    save_settings,
    score_all,
)
from kellet.stats.calibration import best_temperature

PARAMETERS: dict[str, Any] = {"seed": True, "text": True, "reward_model": True, "base_model": {"quantise", "dtype"}}
"""The parameters that decide a training; the base is known by its content."""
NORMALISING_PAIRS = 1024
"""Training pairs, drawn by chance, on which the length slope and the mean of the reward are measured."""
GAMMA_LEARNING_RATE = 1e-2
"""Of γ, one number beside many; a tenth of it gave the same reward model, because the length slope is normalised."""

Metrics = dict[str, float]


def train_reward(
    config: Config,
    preferences: Path,
    base: Path | str,
    out: Path,
    progress: Progress = quiet,
    parts: tuple[str, str] = ("train", "validation"),
) -> dict[str, Any]:
    """Train on the first split of ``parts``, write the card on the second; return the card.

    ``out`` gets adapter/, head.safetensors (further members in member_N/), reward_model.json, card.json, card.md and
    history.jsonl. Rewards are shifted so that the labelled answers of the first split score zero on average. A
    training that was stopped goes on from its newest checkpoint beside ``out``. Raises DataError when a split has no
    pair or margins are asked for and there are none, InputError when the checkpoint is of another training.
    """
    settings = config.reward_model
    table = pd.read_parquet(preferences)
    training, held_out = (table[table["split"] == part] for part in parts)
    devices = Devices()
    if settings.length_control == "two_head" and devices.count > 1:
        raise InputError("length_control two_head correlates rewards over the batch; train it on one process")
    model, tokenizer = load_base(base, config.base_model, devices.device)
    pairs = encode_pairs(training, tokenizer, config, preferences)
    unseen = encode_pairs(held_out, tokenizer, config, preferences)  # refuses an empty split before it is paid for
    margin = margins(training, settings.margin_scale, preferences)
    weight = judgement_weights(training)
    parameters = config.model_dump(mode="json", include=PARAMETERS)
    for neutral in ("require_lift", "checkpoint_every"):
        del parameters["reward_model"][neutral]
    origin = origin_of(parameters | {"parts": list(parts)}, preferences=Path(preferences), base=base)
    scorer = Scorer(model, [], tokenizer.eos_token_id, settings.ensemble)
    history, stores = list[Metrics](), list[Checkpoints]()
    for number in range(settings.ensemble.members):
        seed = member_seed(config.seed, number)
        one = add_member(scorer, number, config, seed)
        rows = torch.arange(len(training))
        if settings.ensemble.members > 1:
            rows = resample(list(training["prompt"]), seed)
        stores.append(Checkpoints(out if number == 0 else out.with_name(f"{out.name}.member_{number}"), origin))
        own, share = (None if each is None else each[rows] for each in (margin, weight))
        fitting = Fitting(one, pairs.take(rows), own, config, tokenizer.pad_token_id, seed, share, devices)
        history += fitting.run(stores[-1], progress)
        some = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:NORMALISING_PAIRS]
        devices.run(partial(normalise, one, pairs.take(rows[some]), tokenizer.pad_token_id))
    if settings.calibrate:
        gap = devices.run(lambda: preference_gap(scorer, unseen, tokenizer.pad_token_id))
        scorer.temperature = best_temperature(gap)
    card = devices.run(lambda: reward_card(scorer, tokenizer, held_out, config))
    adapters = [adapter_tensors(scorer.model, member.adapter) for member in scorer.members]
    if not devices.main:
        return card
    with atomic_folder(out) as folder:
        for number, member in enumerate(scorer.members):
            save_member(scorer.model, member, folder, number, adapters[number])
        save_settings(folder, scorer.ensemble, scorer.temperature)
        write_json(folder / "card.json", card)
        (folder / "card.md").write_text(card_text(card), encoding="utf-8")
        (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
    for store in stores:
        store.remove()
    return card


def judgement_weights(training: pd.DataFrame) -> Tensor | None:
    """Weights (P,) of the training pairs with mean 1, from the column that ``data.disagreement: weights`` makes."""
    if "weight" not in training:
        return None
    weight = torch.tensor(training["weight"].to_numpy(), dtype=torch.float32)
    return weight / weight.mean()


def add_member(scorer: Scorer, number: int, config: Config, seed: int) -> Scorer:
    """Give ``scorer`` a fresh member, the active adapter of its trunk; return a scorer of that member alone."""
    settings = config.reward_model
    name = POLICY if number == 0 else f"{POLICY}_{number}"
    scorer.model = add_adapter(scorer.model, settings.lora, seed, name)
    width = text_config(scorer.model).hidden_size
    two = settings.length_control == "two_head"
    scorer.members.append(
        Member(scalar_head(width, seed), name, length_head=scalar_head(width, seed + 1) if two else None)
    )
    return Scorer(scorer.model, scorer.members[-1:], scorer.eos_token_id)


class Fitting:
    """One member while it is fitted to ``pairs``: what a step needs, and what a checkpoint keeps.

    ``margin`` (P,) in logits, ``weight`` (P,) of each pair's loss. The member's adapter is the active one of the trunk.
    """

    def __init__(
        self,
        scorer: Scorer,
        pairs: Pairs,
        margin: Tensor | None,
        config: Config,
        pad_id: int,
        seed: int,
        weight: Tensor | None = None,
        devices: Devices | None = None,
    ) -> None:
        self.weight, self.devices = weight, devices or Devices()
        self.scorer, self.pairs, self.margin, self.pad_id, self.seed = scorer, pairs, margin, pad_id, seed
        self.settings, (self.member,) = config.reward_model, scorer.members
        self.batches = batches(pairs, config, seed)
        self.length = pairs.length_difference() / LENGTH_UNIT
        covariate = self.settings.length_control == "covariate"
        self.beside = nn.ParameterList([length_taste(self.length).view(1)] if covariate else [])
        self.heads = [head for head in (self.member.head, self.member.length_head) if head is not None]
        weights = list(self.weights.values())
        groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": self.settings.weight_decay}]
        if covariate:
            groups.append({"params": [self.gamma], "lr": GAMMA_LEARNING_RATE, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=self.settings.learning_rate)
        self.schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, len(self.batches))
        self.optimizer = self.devices.prepare(optimizer, scorer.model, *self.heads, self.beside)

    # FSDP puts other parameters into the modules, so that they are asked for anew each time.

    @property
    def gamma(self) -> nn.Parameter | None:
        """γ, (1,); None without a covariate."""
        return self.beside[0] if len(self.beside) else None

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """What is trained of adapter and heads, by name."""
        named = {name: p for name, p in self.scorer.model.named_parameters() if p.requires_grad}
        heads = enumerate(self.heads)
        return named | {f"head_{number}.{name}": p for number, head in heads for name, p in head.named_parameters()}

    def run(self, store: Checkpoints, progress: Progress = quiet) -> list[Metrics]:
        """Take all steps, from the newest checkpoint of ``store`` on; return the metrics of each step.

        A signal to stop saves and is then delivered. The trunk is left in evaluation mode.
        """
        self.scorer.model.train()
        history: list[Metrics] = []
        with held_back() as stopped, torch.random.fork_rng():
            if (found := store.newest()) is not None:
                history = self._restore(found)
            self.devices.agree(len(history), "the checkpoint that they go on from")
            for index in self.batches[len(history) :]:
                # dropout of this step on this process, whatever came before
                torch.manual_seed(member_seed(self.seed, 1 + len(history) * self.devices.count + self.devices.rank))
                metrics = self.step(index)
                history.append({"step": len(history) + 1, **metrics})
                if self.devices.main:
                    progress(len(history), len(self.batches), metrics)
                last, stop = len(history) == len(self.batches), self.devices.any(stopped())
                if stop or last or len(history) % self.settings.checkpoint_every == 0:
                    self._save(store, history)
                if stop:
                    break
        if len(history) < len(self.batches):
            raise KelletError(f"stopped after {len(history)} steps; the same command goes on from there")
        self.scorer.model.eval()
        self.member.gamma = self._gamma()
        if self.devices.sharded:
            self.member.head = plain(self.member.head).to(self.devices.device)
        return history

    def step(self, index: Tensor) -> Metrics:
        """One optimizer step on the pairs ``index``; the gradients of its micro-batches sum to the whole batch's."""
        self.optimizer.zero_grad()
        own, counts = self.devices.spread(index)
        parts = own.split(self.settings.micro_batch_size or len(own))
        seen = {"reward_model/loss": 0.0, "reward_model/accuracy": 0.0}
        for rows, counted, last in self.devices.passes(parts, counts):
            share = counted * len(rows) / len(index)
            with self.devices.syncing(last):
                loss, gap = self.devices.run(partial(self.loss, rows))
                self.devices.backward(loss * share)
            seen["reward_model/loss"] += float(loss.detach()) * share
            seen["reward_model/accuracy"] += float((gap > 0).float().mean()) * share
        metrics = self.devices.sum(seen)
        weights = [weight for group in self.optimizer.param_groups[:1] for weight in group["params"]]
        metrics["reward_model/grad_norm"] = self.devices.clip(weights, 1.0)
        self.optimizer.step()
        self.schedule.step()
        gamma = self._gamma()
        return metrics if gamma is None else metrics | {"reward_model/gamma": gamma}

    def loss(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss over the pairs ``rows``, and the logits (P,) with which their labels are predicted."""
        batch = self.pairs.take(rows).batch(self.pad_id)
        hidden = last_hidden(self.scorer.model, batch.closed(self.scorer.eos_token_id))
        rewards = self.member.head(hidden).view(2, -1)
        # loss = -log σ( Δr + what length explains - margin )
        gap = rewards[0] - rewards[1]
        if self.gamma is not None:
            gap = gap + self.gamma * self.length[rows].to(gap.device)
        if self.member.length_head is not None:
            beside = self.member.length_head(hidden).view(2, -1)
            gap = gap + beside[0] - beside[1]
        margin, weight = (None if of is None else of[rows].to(gap.device) for of in (self.margin, self.weight))
        loss = preference_loss(gap, margin, self.settings.label_smoothing, weight)
        if self.settings.centring:
            loss = loss + self.settings.centring * centring_loss(rewards[0], rewards[1])
        if self.member.length_head is not None:
            parted = length_loss(rewards.flatten(), beside.flatten(), batch.response_mask.sum(1).float().to(gap.device))
            parted = parted + orthogonality_loss(self.member.head.weight, self.member.length_head.weight)
            loss = loss + self.settings.two_head_weight * parted
        return loss, gap.detach()

    def _gamma(self) -> float | None:
        return None if self.gamma is None else float(whole(self.gamma.detach()))

    def _save(self, store: Checkpoints, history: list[Metrics]) -> None:
        gamma = {} if self.gamma is None else {"gamma": self.gamma}
        named = {f"weight.{name}": p for name, p in self.weights.items()} | gamma | optimizer_tensors(self.optimizer)
        tensors = {name: whole(tensor.detach()) for name, tensor in named.items()}
        if self.devices.main:
            store.save(len(history), tensors, {"history": history, "schedule": self.schedule.state_dict()})

    @torch.no_grad()
    def _restore(self, found: Checkpoint) -> list[Metrics]:
        for name, parameter in self.weights.items():
            fill(parameter, found.tensors[f"weight.{name}"])
        if self.gamma is not None:
            fill(self.gamma, found.tensors["gamma"])
        restore_optimizer(self.optimizer, found.tensors)
        self.schedule.load_state_dict(found.state["schedule"])
        for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        return list(found.state["history"])


def normalise(scorer: Scorer, pairs: Pairs, pad_id: int) -> None:
    """Take the length slope s out of the rewards of a single member (when γ is fitted) and give them mean zero.

    What is taken off the reward goes into γ, so that the labels are predicted as before.
    """
    (member,) = scorer.members
    scores = score_all(scorer, pairs, pad_id)
    length = pairs.length_difference() / LENGTH_UNIT
    if member.gamma is not None:
        # s = Σ Δr Δlength / Σ Δlength²
        slope = float(((scores[0] - scores[1]) * length).sum() / (length**2).sum().clamp(min=1e-6))
        member.length_slope, member.gamma = slope, member.gamma + slope
        tokens = [[len(response) for response in side] for side in (pairs.chosen, pairs.rejected)]
        scores = scores - slope * torch.tensor(tokens) / LENGTH_UNIT
    member.head.bias.data -= scores.mean()


def length_taste(length: Tensor, iterations: int = 50) -> Tensor:
    """Maximum-likelihood γ of P(chosen) = σ(γ·length) for length differences (P,), by Newton's method; a scalar."""
    gamma = torch.zeros(())
    for _ in range(iterations):
        miss = torch.sigmoid(-gamma * length)
        curvature = (length**2 * miss * (1 - miss)).sum().clamp(min=1e-6)
        # A step of at most one logit: perfectly separable labels would send γ to infinity.
        gamma = (gamma + ((length * miss).sum() / curvature).clamp(-1, 1)).clamp(-10, 10)
    return gamma


def margins(table: pd.DataFrame, scale: float, source: Path | str) -> Tensor | None:
    """(P,) logits that each pair's answers must be apart; None when ``scale`` is 0. A pair without a margin has 0.

    Raises DataError when ``scale`` is above 0 and no pair has a margin.
    """
    if scale == 0:
        return None
    if "margin" not in table or not table["margin"].notna().any():
        raise DataError(
            f"reward_model.margin_scale is {scale:g} and no training pair of {source} has a margin; "
            "bring a column 'margin', or set it to 0"
        )
    return scale * torch.tensor(table["margin"].fillna(0.0).to_numpy(np.float32))


def resample(prompts: Sequence[str], seed: int) -> Tensor:
    """Indices of the pairs of a bootstrap resample of ``prompts`` (P,): a prompt comes with all its pairs."""
    codes, names = pd.factorize(np.asarray(prompts, dtype=object))
    drawn = np.random.default_rng(seed).integers(0, len(names), len(names))
    order = np.argsort(codes, kind="stable")
    begins = np.searchsorted(codes[order], np.arange(len(names) + 1))
    return torch.tensor(np.concatenate([order[begins[name] : begins[name + 1]] for name in drawn]))


def member_seed(seed: int, number: int) -> int:
    """A seed for each member; the first one's is ``seed``."""
    return seed if number == 0 else derived_seed(seed, "member", number)


def batches(pairs: Pairs, config: Config, seed: int) -> list[Tensor]:
    """Indices of each step's pairs; each epoch in a new order, pairs of similar length together."""
    generator = torch.Generator().manual_seed(seed)
    longest = [len(q) + max(len(c), len(r)) for q, c, r in zip(*pairs, strict=True)]
    lengths = torch.tensor(longest, dtype=torch.float32)
    steps: list[Tensor] = []
    for _ in range(config.reward_model.epochs):
        order = torch.argsort(lengths + 8 * torch.rand(len(lengths), generator=generator))
        chunks = order.split(config.reward_model.batch_size)
        steps += [chunks[number] for number in torch.randperm(len(chunks), generator=generator).tolist()]
    return steps
