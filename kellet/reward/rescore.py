"""Answers that are written already, scored by a reward model: policies of different reward models can then be compared.

Rewards of two reward models have no common unit and no common zero, so that one policy's reward by its own says nothing
beside another's. One reward model on everybody's answers does.

An answer is scored from its text. Where the tokenizer writes the text with other tokens than the policy sampled, the
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
from kellet.models.tokens import encode_prompt, encode_response, pad
from kellet.models.trunk import load_base
from kellet.progress import Progress, quiet
from kellet.reward.model import load_scorer

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

    ``reward_model`` is a folder of train_reward on the same base.
    """
    tables = [pd.read_parquet(path, columns=KEY) for path in evaluations.values()]
    answers = pd.concat(tables).drop_duplicates().sort_values(KEY, ignore_index=True)
    model, tokenizer = load_base(base, config.base_model)
    scorer = load_scorer(model, reward_model, tokenizer.eos_token_id)
    rewards = _scores(config, scorer, tokenizer, answers, progress)
    with atomic_folder(out) as folder:
        answers.assign(reward=rewards).to_parquet(folder / "scores.parquet", index=False)


def rewards_of(scores: pd.DataFrame, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Rewards ``(N,)`` of ``rows`` (prompt, response), in their order. Raises DataError for an answer without one."""
    found = rows[KEY].merge(scores, on=KEY, how="left", validate="many_to_one")["reward"].to_numpy(np.float64)
    missing = int(np.isnan(found).sum())
    if missing:
        raise DataError(f"{missing:,} of {len(rows):,} answers have no score; score all evaluation files together")
    return found


def agreement(scores: pd.DataFrame, rows: pd.DataFrame) -> float:
    """Mean absolute difference between ``rows``' own rewards and those of the same reward model from the texts."""
    return float(np.abs(rewards_of(scores, rows) - rows["reward"].to_numpy(np.float64)).mean())


@torch.no_grad()
def _scores(
    config: Config, scorer: Any, tokenizer: Any, answers: pd.DataFrame, progress: Progress
) -> npt.NDArray[np.float64]:
    """Rewards ``(N,)``; answers of about the same length share a batch."""
    queries = [encode_prompt(tokenizer, prompt, config.text) for prompt in answers["prompt"]]
    responses = [encode_response(tokenizer, text, config.text) for text in answers["response"]]
    order = np.argsort([len(response) for response in responses], kind="stable")
    rewards = np.empty(len(answers))
    for begin in range(0, len(order), config.evaluation.batch_size):
        part = order[begin : begin + config.evaluation.batch_size]
        batch = pad([queries[i] for i in part], [responses[i] for i in part], tokenizer.pad_token_id)
        rewards[part] = scorer(batch).double().numpy()
        progress(min(begin + config.evaluation.batch_size, len(order)), len(order), {})
    return rewards
