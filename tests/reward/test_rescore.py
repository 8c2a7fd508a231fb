"""Rescored answers: the same reward model gives the evaluation's rewards, and every distinct answer is scored once."""

import numpy as np
import pandas as pd
import pytest

from kellet.errors import DataError
from kellet.evaluation.evaluate import Models, evaluate
from kellet.models.trunk import add_adapter, save_adapter
from kellet.reward.rescore import agreement, rescore, rewards_of
from kellet.reward.train import train_reward
from tests.helpers import tiny
from tests.helpers.tiny import perturb


@pytest.fixture(scope="module")
def rescored(tmp_path_factory):
    """An evaluation, and its answers scored by the same reward model."""
    root = tmp_path_factory.mktemp("rescore")
    base, preferences = tiny.folder() / "base", tiny.folder() / "preferences.parquet"
    train_reward(tiny.config(), preferences, base, root / "reward_model")
    save_adapter(perturb(add_adapter(tiny.base()[0], tiny.config().policy.lora, 0)), root / "policy/adapter")
    evaluate(tiny.config(), preferences, Models(base, root / "reward_model", root / "policy"), root / "evaluation")
    file = root / "evaluation/evaluation.parquet"
    rescore(tiny.config(), base, root / "reward_model", {"a": file, "b": file}, root / "rescored")
    return pd.read_parquet(file), pd.read_parquet(root / "rescored/scores.parquet")


def test_the_same_reward_model_gives_the_same_rewards(rescored):
    rows, scores = rescored
    # a text may be encoded as other tokens than were sampled; most of these short answers are not
    same = np.abs(rewards_of(scores, rows) - rows["reward"]) < 1e-4
    assert same.mean() > 0.5
    assert agreement(scores, rows) < 0.5 * rows["reward"].std()
    assert agreement(scores, rows) == pytest.approx(float(np.abs(rewards_of(scores, rows) - rows["reward"]).mean()))


def test_every_distinct_answer_is_scored_once_whatever_the_order(rescored):
    rows, scores = rescored
    assert len(scores) == len(rows[["prompt", "response"]].drop_duplicates())
    shuffled = rows.sample(frac=1, random_state=0)
    assert (rewards_of(scores, shuffled) == rewards_of(scores.iloc[::-1], rows)[shuffled.index]).all()


def test_an_answer_without_a_score_is_refused(rescored):
    _, scores = rescored
    with pytest.raises(DataError, match="1 of 1 answers"):
        rewards_of(scores, pd.DataFrame([{"prompt": "never asked", "response": "nor answered"}]))
