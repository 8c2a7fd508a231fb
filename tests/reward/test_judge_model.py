"""The second reward model as judge: what it learned from, how it scores, and when it gives no scores."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from kellet.config.run import Config
from kellet.config.training import Lora
from kellet.evaluation.evaluate import Models, evaluate
from kellet.files import content_hash
from kellet.gate import verdict as gate
from kellet.models.trunk import add_adapter, load_adapter, save_adapter
from kellet.reward.judge_model import judge_scores, train_judge
from tests.helpers import tiny
from tests.helpers.tiny import perturb
from tests.helpers.unjudged import evaluation

CONFIG = tiny.config(reward_model={"epochs": 16}, evaluation={"prompts": 3, "samples": 1})
BASE = tiny.folder() / "base"
PREFERENCES = tiny.folder() / "preferences.parquet"


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    out = tmp_path_factory.mktemp("judge") / "judge"
    train_judge(CONFIG, PREFERENCES, BASE, out)
    return out


def test_it_is_never_fitted_to_the_reward_models_pairs(judge, tmp_path):
    table = pd.read_parquet(PREFERENCES)
    rows = table["split"] == "train"
    table.loc[rows, ["chosen", "rejected"]] = table.loc[rows, ["rejected", "chosen"]].to_numpy()
    table.to_parquet(tmp_path / "turned.parquet")
    train_judge(CONFIG, tmp_path / "turned.parquet", BASE, tmp_path / "judge")
    assert content_hash(tmp_path / "judge/adapter") == content_hash(judge / "adapter")


def test_its_card_is_of_pairs_that_neither_has_seen(judge):
    card = json.loads((judge / "card.json").read_text())
    assert card["pairs"] == (pd.read_parquet(PREFERENCES)["split"] == "test").sum()


@pytest.fixture
def trunk():
    model, tokenizer = tiny.base()
    return add_adapter(model, Lora(rank=2), 0).eval(), tokenizer


def answers():
    """Every prompt with answers that the labels prefer and answers that they do not, of both lengths."""
    texts = [text for pair in zip(*tiny.WORDS.values(), strict=True) for text in pair]
    prompts = list(tiny.pairs()["prompt"][:7])
    return pd.DataFrame([(prompt, text) for prompt in prompts for text in texts], columns=["prompt", "response"])


def test_it_prefers_what_the_labels_prefer_whatever_the_batch(judge, trunk):
    table = answers()
    scores = judge_scores(*trunk, table, judge, CONFIG)
    good = table["response"].str.startswith("yes").to_numpy()
    assert scores[good].mean() > scores[~good].mean() + 1  # logits; 32 pairs do not teach every prompt
    alone = judge_scores(*trunk, table, judge, tiny.config(evaluation={"batch_size": 1}))
    np.testing.assert_allclose(alone, scores, rtol=0, atol=1e-4)  # several logits in float32: 3e-5 was seen


def test_without_lift_over_length_it_gives_no_scores(judge, trunk, tmp_path):
    shutil.copytree(judge, tmp_path / "judge")
    card = json.loads((judge / "card.json").read_text())
    card["lift"]["interval"][0] = -0.01
    (tmp_path / "judge/card.json").write_text(json.dumps(card))
    assert np.isnan(judge_scores(*trunk, answers(), tmp_path / "judge", CONFIG)).all()


def test_an_evaluation_with_a_judge_is_the_same_with_one_column_more(judge, tmp_path):
    policy = tmp_path / "policy"
    save_adapter(perturb(add_adapter(tiny.base()[0], Lora(rank=2), 0)), policy / "adapter")
    tables = []
    for place, reader in ((tmp_path / "a", None), (tmp_path / "b", judge)):
        # any reward model will do
        evaluate(CONFIG, PREFERENCES, Models(BASE, reward_model=judge, policy=policy, judge=reader), place)
        tables.append(pd.read_parquet(place / "evaluation.parquet"))
    plain, judged = tables
    assert judged.drop(columns="judge_reward").equals(plain)
    model, tokenizer = tiny.base()
    alone = judge_scores(load_adapter(model, policy / "adapter"), tokenizer, plain, judge, CONFIG)
    np.testing.assert_array_equal(judged["judge_reward"], alone)


def test_the_criterion_says_that_it_shares_the_labels_bias():
    table = evaluation(prompts=12).assign(judge_reward=lambda rows: rows["response"].str.len().astype(float))
    settings = Config.model_validate({"gate": {"judge": "judge_reward", "resamples": 200}}).gate
    criteria = {criterion.name: criterion for criterion in gate.decide(table, settings).criteria}
    independent = criteria["independent_judge"]
    assert (independent.counted, independent.passed) == (True, True)
    assert "on other pairs of the same labels: it shares their bias" in independent.why
