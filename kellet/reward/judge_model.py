"""A second reward model as judge: one that the policy was not optimised against (column judge_reward).

It is fitted to the validation pairs, which the first reward model has never been fitted to, from another seed, and its
card is measured on the test pairs. It shares the labels' bias, because it learned from the same people; what it does
not share is the first one's accidents, which PPO finds. A judge that is not shown to know more than length gives no
scores: its win rate would be noise near 50%, and non-inferiority would pass for no reason.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from kellet.config.run import Config
from kellet.errors import NoLift
from kellet.models.seeds import derived_seed
from kellet.models.tokens import encode_prompt, encode_response, pad
from kellet.progress import Progress, quiet
from kellet.reward.card import require_lift
from kellet.reward.model import load_scorer
from kellet.reward.train import train_reward

COLUMN = "judge_reward"
ADAPTER = "judge"
PARTS = ("validation", "test")
"""The split that the judge is fitted to, and that of its card."""


def train_judge(
    config: Config, preferences: Path, base: Path | str, out: Path, progress: Progress = quiet
) -> dict[str, Any]:
    """Train the judge; return its card. Everything else is as :func:`kellet.reward.train.train_reward` has it."""
    other = config.model_copy(update={"seed": derived_seed(config.seed, ADAPTER)})
    return train_reward(other, preferences, base, out, progress, PARTS)


def judge_scores(
    model: Any, tokenizer: Any, answers: pd.DataFrame, judge: Path, config: Config
) -> npt.NDArray[np.float64]:
    """The judge's rewards (N,) of ``answers`` (prompt, response); all NaN when its card shows no lift over length.

    ``model`` is a trunk on the judge's base; the judge's adapter stays in it. Answers are read as texts: the judge is
    not told whether one was cut.
    """
    rewards = np.full(len(answers), np.nan)
    if not trusted(json.loads((judge / "card.json").read_text(encoding="utf-8"))):
        return rewards
    scorer = load_scorer(model, judge, tokenizer.eos_token_id, ADAPTER)
    queries = [encode_prompt(tokenizer, prompt, config.text) for prompt in answers["prompt"]]
    responses = [encode_response(tokenizer, response, config.text) for response in answers["response"]]
    # Answers of about the same length share a batch.
    order = np.argsort([len(response) for response in responses], kind="stable")
    for begin in range(0, len(order), config.evaluation.batch_size):
        rows = order[begin : begin + config.evaluation.batch_size]
        batch = pad([queries[row] for row in rows], [responses[row] for row in rows], tokenizer.pad_token_id)
        with torch.no_grad():
            rewards[rows] = scorer(batch).double().numpy()
    return rewards


def trusted(card: Mapping[str, Any]) -> bool:
    """Whether the judge is shown to predict preferences better than 'always the longer one'."""
    try:
        require_lift(card)
    except NoLift:
        return False
    return True
