"""A second reward model as judge: one that the policy was not optimised against (column judge_reward).

It is fitted to the validation pairs, which the first reward model has never been fitted to, from another seed, and its
card is measured on the test pairs. It shares the labels' bias, because it learned from the same people, but not the
first one's accidental errors, which PPO exploits. A judge that is not shown to know more than length gives no scores:
its win rate would be noise near 50%, and it would pass as non-inferior for no reason.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.config.run import Config
from kellet.models.devices import device_of
from kellet.models.seeds import derived_seed
from kellet.progress import Progress, quiet
from kellet.reward.card import shows_lift
from kellet.reward.model import load_scorer
from kellet.reward.rescore import score_texts
from kellet.reward.train import train_reward

COLUMN = "judge_reward"
ADAPTER = "judge"
SPLITS = ("validation", "test")
"""The split that the judge is fitted to, and that of its card."""


def train_judge(
    config: Config, preferences: Path, base: Path | str, out: Path, progress: Progress = quiet
) -> dict[str, Any]:
    """Train the judge as :func:`kellet.reward.train.train_reward` trains a reward model; return its card."""
    other = config.model_copy(update={"seed": derived_seed(config.seed, ADAPTER)})
    return train_reward(other, preferences, base, out, progress, SPLITS)


def judge_scores(
    model: Any, tokenizer: Any, answers: pd.DataFrame, judge: Path, config: Config
) -> npt.NDArray[np.float64]:
    """The judge's rewards (N,) of ``answers`` (prompt, response); all NaN when its card shows no lift over length.

    ``model`` and ``tokenizer`` are of the judge's base; the judge's adapter stays in the model. Answers are scored from
    their texts, so the judge does not know whether one was cut.
    """
    if not shows_lift(json.loads((judge / "card.json").read_text(encoding="utf-8"))):
        return np.full(len(answers), np.nan)
    scorer = load_scorer(model, judge, tokenizer.eos_token_id, ADAPTER).to(device_of(model))
    return score_texts(scorer, tokenizer, answers, config)
