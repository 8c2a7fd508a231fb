"""Answers scored anew by a reward model: as in the evaluation where it is the same one, every distinct answer once."""

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
def made(tmp_path_factory):
    """An evaluation, and its answers scored by the same reward model."""
    root = tmp_path_factory.mktemp("rescore")
    base, preferences = tiny.folder() / "base", tiny.folder() / "preferences.parquet"
    train_reward(tiny.config(), preferences, base, root / "own")
    save_adapter(perturb(add_adapter(tiny.base()[0], tiny.config().policy.lora, 0)), root / "policy/adapter")
    evaluate(tiny.config(), preferences, Models(base, root / "own", root / "policy"), root / "evaluation")
    file = root / "evaluation/evaluation.parquet"
    rescore(tiny.config(), base, root / "own", {"a": file, "b": file}, root / "by-own")
    return pd.read_parquet(file), pd.read_parquet(root / "by-own/scores.parquet")


def test_the_same_reward_model_says_the_same(made):
    rows, own = made
    # a text may be written with other tokens than were sampled; the answers here are short and mostly are not
    same = np.abs(rewards_of(own, rows) - rows["reward"]) < 1e-4
    assert same.mean() > 0.5
    assert agreement(own, rows) < 0.5 * rows["reward"].std()
    assert agreement(own, rows) == pytest.approx(float(np.abs(rewards_of(own, rows) - rows["reward"]).mean()))


def test_every_distinct_answer_is_scored_once_whatever_the_order(made):
    rows, own = made
    assert len(own) == len(rows[["prompt", "response"]].drop_duplicates())
    shuffled = rows.sample(frac=1, random_state=0)
    assert (rewards_of(own, shuffled) == rewards_of(own.iloc[::-1], rows)[shuffled.index]).all()


def test_an_answer_without_a_score_is_refused(made):
    _, own = made
    with pytest.raises(DataError, match="1 of 1 answers"):
        rewards_of(own, pd.DataFrame([{"prompt": "never asked", "response": "nor answered"}]))
