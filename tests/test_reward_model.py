"""The reward model: Bradley-Terry with a length covariate, its normalisation, its card, and determinism."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize

from kellet.config import Lora
from kellet.errors import DataError, NoLift
from kellet.files import content_hash
from kellet.reward_card import require_lift
from kellet.reward_model import (
    Scorer,
    encode_pairs,
    fit,
    length_taste,
    load_scorer,
    normalise,
    score_all,
    score_pairs,
    train_reward,
)
from kellet.tokens import pad
from kellet.trunk import REWARD, add_adapter, load_head, playing, scalar_head
from tests import tiny
from tests.test_trunk import perturb


def train(out, table=None, seed=0, **settings):
    """Train on ``table`` (the tiny pairs unless given); the card."""
    config = tiny.config(seed=seed, reward_model=settings)
    path = tiny.folder() / "preferences.parquet"
    if table is not None:
        path = out.with_suffix(".parquet")
        table.to_parquet(path, index=False)
    return train_reward(config, path, tiny.folder() / "base", out)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("reward") / "covariate"
    return out, train(out)


@pytest.fixture
def scorer():
    """A reward model of chance weights."""
    model, tokenizer = tiny.base()
    return Scorer(perturb(add_adapter(model, Lora(rank=2), 0).eval()), scalar_head(16, 1), tokenizer.eos_token_id)


@pytest.fixture(scope="module")
def pairs():
    tokenizer = tiny.base()[1]
    return encode_pairs(tiny.pairs(), tokenizer, tiny.config())


def test_swapping_chosen_and_rejected_flips_every_difference(scorer, pairs):
    swapped = pairs._replace(chosen=pairs.rejected, rejected=pairs.chosen)
    there, back = score_all(scorer, pairs, 0), score_all(scorer, swapped, 0)
    assert float((there[0] - there[1]).abs().max()) > 0.01
    assert torch.allclose(there[0] - there[1], -(back[0] - back[1]), atol=1e-5)
    assert torch.equal(pairs.length_difference(), -swapped.length_difference())


def test_scores_do_not_depend_on_the_company(scorer, pairs):
    together = score_all(scorer, pairs, 0)
    for row in (0, 17):
        alone = score_pairs(scorer, type(pairs)(*(column[row : row + 1] for column in pairs)), 0)
        assert torch.allclose(alone[:, 0], together[:, row], atol=1e-4)


def test_a_response_that_was_cut_is_scored_as_if_it_ended_there(scorer):
    cut, ended = pad([[1, 40]], [[70, 71, 72]], 0), pad([[1, 40]], [[70, 71, 2]], 0)
    assert torch.equal(scorer(cut), scorer(ended))


def test_the_length_slope_is_taken_off_for_every_ten_tokens(scorer):
    batch = pad([[1, 40]] * 2, [[70, 2], [70, 71, 72, 73, 2]], 0)
    before = scorer(batch)
    scorer.length_slope = 2.0
    assert torch.allclose(before - scorer(batch), torch.tensor([0.4, 1.0]), atol=1e-6)


@pytest.mark.parametrize(("taste", "seed"), [(0.0, 0), (0.8, 1), (-1.5, 2), (3.0, 3)])
def test_length_taste_is_the_maximum_of_the_likelihood(taste, seed):
    rng = np.random.default_rng(seed)
    length = rng.normal(0, 1, 300)
    length *= np.where(rng.random(300) < 1 / (1 + np.exp(-taste * length)), 1, -1)
    reference = optimize.minimize_scalar(lambda g: np.logaddexp(0, -g * length).sum(), bracket=(-1, 1))
    assert float(length_taste(torch.tensor(length, dtype=torch.float32))) == pytest.approx(reference.x, abs=1e-3)


def test_length_taste_of_labels_without_length_or_without_doubt():
    assert float(length_taste(torch.zeros(5))) == 0
    assert 1 < float(length_taste(torch.ones(5))) <= 10  # the likelihood has no maximum; it stays finite
    assert float(length_taste(torch.tensor([1.0, -1.0]))) == pytest.approx(0, abs=1e-6)


def test_normalised_rewards_have_no_slope_on_length_and_mean_zero(scorer, pairs):
    length = pairs.length_difference() / 10
    assert float(length.abs().max()) > 0
    before = score_all(scorer, pairs, 0)
    with torch.no_grad():
        gamma = normalise(scorer, pairs, 0.7, 0)
    after = score_all(scorer, pairs, 0)
    slope = np.linalg.lstsq(length.numpy()[:, None], (after[0] - after[1]).numpy(), rcond=None)[0][0]
    assert slope == pytest.approx(0, abs=1e-4)
    assert float(after.mean()) == pytest.approx(0, abs=1e-5)
    # what predicts the labels is what it was
    assert torch.allclose(after[0] - after[1] + gamma * length, before[0] - before[1] + 0.7 * length, atol=1e-4)
    assert gamma != pytest.approx(0.7, abs=1e-4)


def test_without_length_control_only_the_mean_is_moved(scorer, pairs):
    before = score_all(scorer, pairs, 0)
    with torch.no_grad():
        assert normalise(scorer, pairs, None, 0) is None
    after = score_all(scorer, pairs, 0)
    assert scorer.length_slope == 0
    assert float(after.mean()) == pytest.approx(0, abs=1e-5)
    assert torch.allclose(before - after, (before - after).mean().expand_as(after), atol=1e-5)


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


def test_the_first_loss_is_that_of_a_coin_or_of_length_alone(pairs):
    for control, most in (("none", 0.7), ("covariate", 0.7)):
        model, tokenizer = tiny.base()
        config = tiny.config(reward_model={"length_control": control, "epochs": 1, "learning_rate": 1e-9})
        model = add_adapter(model, config.reward_model.lora, 0)
        gamma, history = fit(Scorer(model, scalar_head(16, 0), tokenizer.eos_token_id), pairs, config, 0)
        assert 0.5 < np.mean([row["reward_model/loss"] for row in history]) < most  # log 2 = 0.693
        assert (gamma is None) == (control == "none")


def test_labels_that_like_length_alone_leave_a_reward_that_does_not(tmp_path):
    # the same two words, the longer one always chosen
    table = tiny.pairs()
    table["rejected"] = [answer.split("!")[0] for answer in table["chosen"]]
    table["chosen"] = [f"{answer} {answer} {answer}" for answer in table["rejected"]]
    plain = train(tmp_path / "none", table, length_control="none", epochs=6)
    held = train(tmp_path / "covariate", table, epochs=6)
    assert plain["accuracy_reward"]["value"] == 1
    assert plain["length_slope"]["value"] > 0
    assert held["gamma"] > 0
    assert abs(held["length_slope"]["value"]) < 0.1 * plain["length_slope"]["value"]
    assert held["length_baseline"]["value"] == 1
    assert held["accuracy_longer_rejected"] is None
    with pytest.raises(NoLift):
        require_lift(held)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(trained, tmp_path):
    train(tmp_path / "again")
    train(tmp_path / "other", seed=1)
    first = content_hash(trained[0])
    assert content_hash(tmp_path / "again") == first
    for part in ("adapter/adapter_model.safetensors", "head.safetensors"):
        assert content_hash(tmp_path / "other" / part) != content_hash(trained[0] / part)


def test_the_card_has_every_field_with_its_interval(trained):
    out, card = trained
    assert json.loads((out / "card.json").read_text()) == card
    assert card["pairs"] == 32
    assert card["prompts"] == 32
    assert card["length_control"] == "covariate"
    assert isinstance(card["gamma"], float)
    measured = ("accuracy", "length_baseline", "lift", "accuracy_longer_rejected", "length_slope", "filler_probe")
    for name in (*measured, "truncation_probe"):
        low, high = card[name]["interval"]
        assert low <= card[name]["value"] <= high, name
    # a quarter of the pairs each: short/short, long/short, short/long, long/long
    assert card["length_baseline"]["value"] == 0.5
    assert card["accuracy_longer_rejected"]["pairs"] == 8
    assert card["length_slope"]["unit"] == "reward per token, within pair"
    assert set(card["calibration"]) == {"log_loss", "temperature", "log_loss_at_temperature"}
    assert card["calibration"]["log_loss_at_temperature"] <= card["calibration"]["log_loss"] + 1e-9
    assert isinstance(card["warnings"], list)


def test_what_cannot_be_measured_is_null_in_the_card(tmp_path):
    table = tiny.pairs()
    table["chosen"] = "yes"  # one sentence, so none can be cut off
    train(tmp_path / "out", table)
    written = (tmp_path / "out" / "card.json").read_text()
    assert json.loads(written)["truncation_probe"] == {"value": None, "interval": [None, None], "prompts": 0}
    assert "NaN" not in written


def test_what_was_saved_scores_as_the_card_says(trained):
    out, card = trained
    model, tokenizer = tiny.base()
    loaded = load_scorer(add_adapter(model, Lora(rank=2), 5), out, tokenizer.eos_token_id)
    _, more = load_head(out / "head.safetensors")
    assert loaded.length_slope == more["length_slope"] != 0
    table = tiny.pairs()
    held_out = encode_pairs(table[table["split"] == "validation"], tokenizer, tiny.config())
    with playing(loaded.model, REWARD):
        scores = score_all(loaded, held_out, 0)
    assert float((scores[0] > scores[1]).float().mean()) == pytest.approx(card["accuracy_reward"]["value"])


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_split_is_refused_and_nothing_is_written(tmp_path, split):
    table: pd.DataFrame = tiny.pairs()
    with pytest.raises(DataError, match="lacks pairs"):
        train(tmp_path / "out", table[table["split"] != split])
    assert not (tmp_path / "out").exists()


def card_with(value, low, high):
    return {
        "pairs": 400,
        "accuracy": {"value": 0.612},
        "length_baseline": {"value": 0.6},
        "lift": {"value": value, "interval": [low, high]},
    }


@pytest.mark.parametrize("low", [-0.02, 0.0, None])
def test_no_lift_is_said_with_its_numbers_and_exit_code_3(low):
    with pytest.raises(NoLift, match=r"\+1\.2 points.*\+4\.0.*400 held-out pairs.*61\.2% against 60\.0%") as caught:
        require_lift(card_with(0.012, low, 0.04))
    assert caught.value.exit_code == 3


def test_lift_above_zero_passes():
    require_lift(card_with(0.05, 0.001, 0.1))
