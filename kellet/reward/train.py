"""Train the reward model: fit each member to pairs, normalise it, write it with its card. Resumable to the byte.

Equations and sources stand in kellet/reward/model.py and kellet/reward/loss.py; a member's steps in
kellet/reward/fitting.py. Legend: P pairs.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from kellet.config.run import Config
from kellet.errors import DataError, InputError
from kellet.files import atomic_folder, write_json, write_json_lines
from kellet.manifest import write_manifest
from kellet.models.checkpoint import Checkpoints, origin_of
from kellet.models.devices import Devices
from kellet.models.tokens import tell_cut
from kellet.models.trunk import adapter_tensors, load_base
from kellet.progress import Progress, quiet
from kellet.reward.card import reward_card
from kellet.reward.card_text import card_text
from kellet.reward.fitting import Fitting, LabelledPairs, StepMetrics, add_member, member_seed
from kellet.reward.model import Scorer, cut_counts, encode_pairs, preference_gap, save_member, save_settings
from kellet.reward.normalise import normalise
from kellet.stats.calibration import best_temperature

PARAMETERS: dict[str, Any] = {"seed": True, "text": True, "reward_model": True, "base_model": {"quantise", "dtype"}}
"""The parameters that decide a training; the base is identified by the hash of its content."""
FREE = {
    "reward_model": {"base", "require_lift", "checkpoint_every"},
    "text": {"max_cut_prompts", "max_cut_responses"},
}
"""Parameters that may change between a kill and the next start; a base that is moved is the same by its content."""
NORMALISING_PAIRS = 1024
"""Training pairs, drawn at random, on which the length slope and the mean of the reward are measured."""


def train_reward(
    config: Config,
    preferences: Path,
    base: Path | str,
    out: Path,
    progress: Progress = quiet,
    splits: tuple[str, str] = ("train", "validation"),
) -> dict[str, Any]:
    """Train on the first of ``splits``, measure the card on the second; return the card.

    ``out`` gets adapter/, head.safetensors (further members in member_N/), reward_model.json, card.json, card.md and
    history.jsonl. Rewards are shifted so that the labelled answers of the first split score zero on average. A
    training that was stopped goes on from its newest checkpoint beside ``out``. Raises DataError when a split has no
    pair or margins are asked for and there are none, InputError when the checkpoint is of another training.
    """
    settings = config.reward_model
    table = pd.read_parquet(preferences)
    training, held_out = (table[table["split"] == split] for split in splits)
    devices = Devices()
    if settings.length_control == "two_head" and devices.count > 1:
        raise InputError("length_control two_head correlates rewards over the batch; train it on one process")
    model, tokenizer = load_base(base, config.base_model, devices.device)
    for what, cut in cut_counts(training, tokenizer, config).items():
        tell_cut(cut, len(training) * (1 if what == "prompts" else 2), what, config.text, str(preferences))
    labelled = LabelledPairs(
        encode_pairs(training, tokenizer, config, preferences),
        margins(training, settings.margin_scale, preferences),
        judgement_weights(training),
    )
    unseen = encode_pairs(held_out, tokenizer, config, preferences)  # here, to refuse an empty split before training
    parameters = config.model_dump(mode="json", include=PARAMETERS, exclude=FREE)
    origin = origin_of(parameters | {"parts": list(splits)}, preferences=Path(preferences), base=base)
    scorer = Scorer(model, [], tokenizer.eos_token_id, settings.ensemble)
    history, stores = list[StepMetrics](), list[Checkpoints]()
    for number in range(settings.ensemble.members):
        seed = member_seed(config.seed, number)
        alone = add_member(scorer, number, config, seed)
        rows = torch.arange(len(training))
        if settings.ensemble.members > 1:
            rows = resample(list(training["prompt"]), seed)
        stores.append(Checkpoints(out if number == 0 else out.with_name(f"{out.name}.member_{number}"), origin))
        fitting = Fitting(alone, labelled.take(rows), config, tokenizer.pad_token_id, seed, devices)
        history += fitting.run(stores[-1], progress)
        some = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:NORMALISING_PAIRS]
        devices.run(partial(normalise, alone, labelled.pairs.take(rows[some]), tokenizer.pad_token_id))
    if settings.calibrate:
        gap = devices.run(lambda: preference_gap(scorer, unseen, tokenizer.pad_token_id))
        scorer.temperature = best_temperature(gap)
    card = devices.run(lambda: reward_card(scorer, tokenizer, held_out, config))
    adapters = [adapter_tensors(scorer.model, member.adapter) for member in scorer.members]
    if devices.main:
        _write(out, base, scorer, adapters, card, history)
        for store in stores:
            store.remove()
    return card


def _write(
    out: Path,
    base: Path | str,
    scorer: Scorer,
    adapters: list[dict[str, Tensor]],
    card: dict[str, Any],
    history: list[StepMetrics],
) -> None:
    with atomic_folder(out) as folder:
        for number, (member, tensors) in enumerate(zip(scorer.members, adapters, strict=True)):
            save_member(scorer.model, member, folder, number, tensors)
        save_settings(folder, scorer.ensemble, scorer.temperature)
        write_json(folder / "card.json", card)
        (folder / "card.md").write_text(card_text(card), encoding="utf-8")
        write_json_lines(folder / "history.jsonl", history)
        write_manifest(folder, "reward_model", base=base)


def judgement_weights(training: pd.DataFrame) -> Tensor | None:
    """Weights (P,) of the training pairs with mean 1, from the column that ``data.disagreement: weights`` makes."""
    if "weight" not in training:
        return None
    weight = torch.tensor(training["weight"].to_numpy(), dtype=torch.float32)
    return weight / weight.mean()


def margins(table: pd.DataFrame, scale: float, source: Path | str) -> Tensor | None:
    """(P,) logits by which each chosen answer must lead; None when ``scale`` is 0. A pair without a margin has 0.

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
