"""Score answers that are already written by one reward model, so that policies of different reward models compare.

Rewards of two reward models have neither a common unit nor a common zero, so a policy's reward by its own reward model
says nothing beside another policy's. One reward model on all answers does.

An answer is scored from its text. Where the tokenizer encodes the text as other tokens than the policy sampled, the
score differs a little from the one of the evaluation; :func:`agreement` says by how much.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from kellet.config.run import Config
from kellet.errors import DataError
from kellet.files import atomic_folder
from kellet.manifest import check_manifest, write_manifest
from kellet.models.devices import Devices
from kellet.models.tokens import encode_prompts, encode_response, pad
from kellet.models.trunk import load_base
from kellet.progress import Progress, quiet
from kellet.reward.model import Scorer, load_scorer

KEY = ["prompt", "response"]


def rescore(
    config: Config,
    base: Path | str,
    reward_model: Path,
    evaluations: Mapping[str, Path],
    out: Path,
    progress: Progress = quiet,
) -> None:
    """Score every distinct answer of the evaluation files; write ``out``/scores.parquet: prompt, response, reward.

    ``reward_model`` is a folder of train_reward on ``base``, which need not be the policies'.
    """
    tables = [pd.read_parquet(path, columns=KEY) for path in evaluations.values()]
    answers = pd.concat(tables).drop_duplicates().sort_values(KEY, ignore_index=True)
    check_manifest(reward_model, base=base)
    devices = Devices()
    model, tokenizer = load_base(base, config.base_model, devices.device)
    scorer = load_scorer(model, reward_model, tokenizer.eos_token_id)
    devices.place(model, scorer)
    rewards = score_texts(scorer, tokenizer, answers, config, progress)
    with atomic_folder(out) as folder:
        answers.assign(reward=rewards).to_parquet(folder / "scores.parquet", index=False)
        write_manifest(folder, "scores", base=base, reward_model=reward_model)


def rewards_of(scores: pd.DataFrame, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Rewards ``(N,)`` of ``rows`` (prompt, response), in their order. Raises DataError for an answer without one."""
    rewards = rows[KEY].merge(scores, on=KEY, how="left", validate="many_to_one")["reward"].to_numpy(np.float64)
    missing = int(np.isnan(rewards).sum())
    if missing:
        raise DataError(f"{missing:,} of {len(rows):,} answers have no score; score all evaluation files together")
    return rewards


def agreement(scores: pd.DataFrame, rows: pd.DataFrame) -> float:
    """Mean absolute difference between the rewards in ``rows`` and the same reward model's from the texts."""
    return float(np.abs(rewards_of(scores, rows) - rows["reward"].to_numpy(np.float64)).mean())


@torch.no_grad()
def score_texts(
    scorer: Scorer, tokenizer: Any, answers: pd.DataFrame, config: Config, progress: Progress = quiet
) -> npt.NDArray[np.float64]:
    """Rewards ``(N,)`` of ``answers`` (prompt, response); answers of about the same length share a batch."""
    queries = encode_prompts(tokenizer, list(answers["prompt"]), config.text)
    responses = [encode_response(tokenizer, text, config.text) for text in answers["response"]]
    order = np.argsort([len(response) for response in responses], kind="stable")
    rewards = np.empty(len(answers))
    for begin in range(0, len(order), config.evaluation.batch_size):
        rows = order[begin : begin + config.evaluation.batch_size]
        batch = pad([queries[row] for row in rows], [responses[row] for row in rows], tokenizer.pad_token_id)
        rewards[rows] = scorer(batch).double().numpy()
        progress(min(begin + config.evaluation.batch_size, len(order)), len(order), {})
    return rewards
