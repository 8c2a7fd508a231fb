"""Training the reward model: what it learns, its options, its ensemble, and that a seed decides every byte."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from kellet.errors import DataError, NoLift
from kellet.files import content_hash
from kellet.models.heads import load_head
from kellet.reward.card import require_lift
from kellet.reward.fitting import member_seed
from kellet.reward.model import load_scorer
from kellet.reward.train import margins, resample
from tests.helpers import tiny
from tests.helpers.reward import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("reward") / "covariate"
    return out, train(out)


def test_training_learns_what_separates_the_pairs(trained):
    out, _ = trained
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    names = {"step", "loss", "accuracy", "grad_norm", "gamma"}
    assert all({name.removeprefix("reward_model/") for name in row} == names for row in history)
    assert [row["step"] for row in history] == [1, 2, 3, 4, 5, 6, 7, 8]  # two epochs of 64 pairs, 16 at a time
    longer = train(out.with_name("longer"), epochs=8)
    lines = (out.with_name("longer") / "history.jsonl").read_text().splitlines()
    losses = [json.loads(line)["reward_model/loss"] for line in lines]
    assert np.mean(losses[-2:]) < 0.5 * np.mean(losses[:2])
    assert longer["accuracy"]["value"] > 0.75
    assert longer["accuracy_reward"]["value"] > 0.75
    # the longer one is right half the time: every point above that is lift
    assert longer["lift"]["value"] == pytest.approx(longer["accuracy"]["value"] - 0.5)
    require_lift(longer)


def test_margins_are_read_scaled_and_missing_ones_are_zero():
    table = pd.DataFrame({"margin": [1.0, None, -0.5]})
    assert margins(table, 2.0, "t").tolist() == [2.0, 0.0, -1.0]
    assert margins(table, 0.0, "t") is None
    for bad in (pd.DataFrame({"x": [1]}), pd.DataFrame({"margin": [None, None]})):
        with pytest.raises(DataError, match=r"margin_scale is 2 .* has a margin"):
            margins(bad, 2.0, "t")


def test_margins_of_the_table_are_used(tmp_path):
    table = tiny.pairs().assign(margin=3.0)
    train(tmp_path / "with", table, margin_scale=1.0, epochs=1)
    train(tmp_path / "without", table, epochs=1)
    with_margin, without = (
        json.loads((tmp_path / name / "history.jsonl").read_text().splitlines()[0])["reward_model/loss"]
        for name in ("with", "without")
    )
    # log(1 + e³) = 3.05 at a gap near zero
    assert with_margin > without + 2


def test_labels_that_like_length_alone_leave_a_reward_that_does_not(tmp_path):
    # the same two words, the longer one always chosen
    table = tiny.pairs()
    table["rejected"] = [answer.split("!")[0] for answer in table["chosen"]]
    table["chosen"] = [f"{answer} {answer} {answer}" for answer in table["rejected"]]
    plain = train(tmp_path / "none", table, length_control="none", epochs=6)
    covariate = train(tmp_path / "covariate", table, epochs=6)
    assert plain["accuracy_reward"]["value"] == 1
    assert plain["length_slope"]["value"] > 0
    assert covariate["gamma"] > 0
    assert abs(covariate["length_slope"]["value"]) < 0.1 * plain["length_slope"]["value"]
    assert covariate["length_baseline"]["value"] == 1
    assert covariate["accuracy_longer_rejected"] is None
    with pytest.raises(NoLift):
        require_lift(covariate)


def test_two_heads_part_length_from_quality(tmp_path):
    # 'yes' beats 'no', and three in four times the longer one is chosen
    table = tiny.pairs()
    long, short = np.arange(len(table)) % 4 > 0, np.arange(len(table)) % 4 == 0
    table["chosen"], table["rejected"] = np.where(long, "yes yes yes", "yes"), np.where(short, "no no no", "no")
    plain = train(tmp_path / "none", table, length_control="none", epochs=10)
    odin = train(tmp_path / "odin", table, length_control="two_head", epochs=10)
    assert plain["length_slope"]["value"] > 1
    assert abs(odin["length_slope"]["value"]) < 0.2
    assert odin["accuracy"]["value"] > odin["length_baseline"]["value"]  # the heads together predict the labels
    assert (tmp_path / "odin" / "length_head.safetensors").exists()
    quality, _ = load_head(tmp_path / "odin" / "head.safetensors")
    length, _ = load_head(tmp_path / "odin" / "length_head.safetensors")
    cosine = torch.nn.functional.cosine_similarity(quality.weight[0], length.weight[0], dim=0)
    assert abs(float(cosine)) < 0.2


def test_two_heads_and_micro_batches_are_refused():
    with pytest.raises(ValueError, match="micro_batch_size"):
        tiny.config(reward_model={"length_control": "two_head", "micro_batch_size": 4})


def test_a_resample_draws_prompts_with_all_their_pairs():
    prompts = ["a", "b", "a", "c", "d", "b", "e"]
    rows = resample(prompts, 3).tolist()
    counts = {prompt: [rows.count(row) for row in range(7) if prompts[row] == prompt] for prompt in "abcde"}
    assert all(len(set(times)) == 1 for times in counts.values())  # the pairs of a prompt come together
    assert sum(times[0] for times in counts.values()) == 5
    assert resample(prompts, 3).tolist() == rows != resample(prompts, 4).tolist()
    # a prompt is missing from a resample with probability (1 - 1/n)^n, about 1/e
    missing = np.mean([len(set(resample([str(n) for n in range(200)], seed).tolist())) for seed in range(40)])
    assert 1 - missing / 200 == pytest.approx(0.367, abs=0.02)


def test_members_differ_and_the_card_says_how_much(tmp_path):
    table = tiny.pairs()
    wrong = table.index % 7 == 0  # labels that are always right have no best temperature
    table.loc[wrong, ["chosen", "rejected"]] = table.loc[wrong, ["rejected", "chosen"]].to_numpy()
    card = train(tmp_path / "out", table, ensemble={"members": 2, "score": "minimum"}, epochs=5, calibrate=True)
    assert card["disagreement"]["value"] > 0
    low, high = card["disagreement"]["interval"]
    assert low <= card["disagreement"]["value"] <= high
    assert "between members" in (tmp_path / "out" / "card.md").read_text()
    model, tokenizer = tiny.base()
    loaded = load_scorer(model, tmp_path / "out", tokenizer.eos_token_id)
    assert loaded.ensemble.score == "minimum"
    assert loaded.temperature == card["temperature"] != 1
    # the rewards were divided by the best temperature of these pairs, so the best is now 1
    assert card["calibration"]["temperature"]["value"] == pytest.approx(1, abs=0.02)
    history = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history] == [*range(1, 21), *range(1, 21)]
    assert member_seed(5, 0) == 5
    assert member_seed(5, 1) not in (member_seed(5, 2), member_seed(6, 1), 6)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(trained, tmp_path):
    train(tmp_path / "again")
    train(tmp_path / "other", seed=1)
    first = content_hash(trained[0])
    assert content_hash(tmp_path / "again") == first
    for part in ("adapter/adapter_model.safetensors", "head.safetensors"):
        assert content_hash(tmp_path / "other" / part) != content_hash(trained[0] / part)


def test_dropout_is_seeded_too(tmp_path):
    for name in ("one", "two"):
        torch.manual_seed(hash(name) % 1000)  # the process's generator must not matter
        train(tmp_path / name, epochs=1, lora={"rank": 2, "dropout": 0.5})
    assert content_hash(tmp_path / "one") == content_hash(tmp_path / "two")


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_split_is_refused_and_nothing_is_written(tmp_path, split):
    table: pd.DataFrame = tiny.pairs()
    with pytest.raises(DataError, match="lacks pairs"):
        train(tmp_path / "out", table[table["split"] != split])
    assert not (tmp_path / "out").exists()
