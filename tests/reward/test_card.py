"""The reward model's card: its fields, its intervals, its warnings, and its text."""

import json

import numpy as np
import pandas as pd
import pytest

from kellet.config.training import Lora
from kellet.errors import NoLift
from kellet.models.heads import load_head
from kellet.models.trunk import add_adapter
from kellet.reward.card import require_lift, style_slopes, warnings_of
from kellet.reward.card_text import card_text
from kellet.reward.model import encode_pairs, load_scorer, score_all
from tests.helpers import tiny
from tests.helpers.reward import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("card") / "covariate"
    return out, train(out)


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
    # short/short, long/short, short/long, long/long: a quarter of the pairs for each
    assert card["length_baseline"]["value"] == 0.5
    assert card["accuracy_longer_rejected"]["pairs"] == 8
    assert card["length_slope"]["unit"] == "reward per token, within pair"
    calibration = card["calibration"]
    assert {"log_loss", "temperature", "log_loss_at_temperature", "overconfidence", "reliability"} < set(calibration)
    assert calibration["temperature"]["interval"][0] <= calibration["temperature"]["value"]
    assert calibration["log_loss_at_temperature"] <= calibration["log_loss"] + 1e-9
    low, high = calibration["expected_error"]["interval"]
    assert 0 <= low <= calibration["expected_error"]["value"] <= high
    assert sum(row["pairs"] for row in calibration["reliability"]) == 32
    assert set(card["style_slopes"]) == {"courtesy", "structure", "hedging", "certainty", "echo", "repetition"}
    assert (card["temperature"], card["disagreement"]) == (1.0, None)
    assert isinstance(card["warnings"], list)


def test_what_cannot_be_measured_is_null_in_the_card(tmp_path):
    table = tiny.pairs()
    table["chosen"] = "yes"  # one sentence, so none can be cut off
    train(tmp_path / "out", table)
    written = (tmp_path / "out" / "card.json").read_text()
    assert json.loads(written)["truncation_probe"] == {"value": None, "interval": [None, None], "prompts": 0}
    assert "NaN" not in written


def test_the_saved_model_scores_as_its_card_says(trained):
    out, card = trained
    model, tokenizer = tiny.base()
    loaded = load_scorer(add_adapter(model, Lora(rank=2), 5), out, tokenizer.eos_token_id)
    _, more = load_head(out / "head.safetensors")
    assert loaded.members[0].length_slope == more["length_slope"] != 0
    assert loaded.members[0].gamma == pytest.approx(card["gamma"])
    table = tiny.pairs()
    held_out = encode_pairs(table[table["split"] == "validation"], tokenizer, tiny.config())
    scores = score_all(loaded, held_out, 0)
    assert float((scores[0] > scores[1]).float().mean()) == pytest.approx(card["accuracy_reward"]["value"])


def test_style_slopes_find_what_is_paid():
    """Rewards made of counts: 0.5 for a courtesy sentence, 0.02 for a word."""
    rng = np.random.default_rng(0)
    polite, answers, rewards, lengths = ("Thank you.", "We are sorry.", "Kind regards."), [], [], []
    for _ in range(120):
        thanks, words = int(rng.integers(0, 4)), int(rng.integers(0, 9))
        answers.append(" ".join([*polite[:thanks], *(f"w{number}" for number in range(words)), "end."]))
        lengths.append(len(answers[-1].split()))
        rewards.append(0.5 * thanks + 0.02 * lengths[-1])
    table = pd.DataFrame({"prompt": "Where is it?", "chosen": answers[:60], "rejected": answers[60:]})
    slopes = style_slopes(table, np.array(rewards), np.array(lengths, dtype=float), np.tile(np.arange(60), 2))
    assert slopes["courtesy"]["value"] == pytest.approx(0.5)
    assert {axis for axis, slope in slopes.items() if slope is not None} == {"courtesy"}


def quiet_card(**change):
    """A card that gives no warning."""

    def figure(value, low, high):
        return {"value": value, "interval": [low, high]}

    nothing = figure(-0.1, -0.2, 0.1)
    card = {
        "pairs": 100,
        "prompts": 50,
        "length_control": "none",
        "temperature": 1.0,
        "accuracy": figure(0.7, 0.6, 0.8),
        "length_baseline": figure(0.6, 0.5, 0.7),
        "accuracy_reward": figure(0.7, 0.6, 0.8),
        "accuracy_longer_rejected": None,
        "lift": figure(0.1, 0.02, 0.2),
        "length_slope": nothing,
        "filler_probe": nothing,
        "truncation_probe": nothing,
        "style_slopes": {"courtesy": nothing, "echo": None},
        "calibration": {
            "log_loss": 0.6,
            "temperature": figure(1.2, 1.1, 1.3),
            "overconfidence": figure(0.02, 0.0, 0.04),
            "expected_error": figure(0.05, 0.0, 0.1),
            "expected_error_by_chance": 0.05,
            "reliability": [{"pairs": 100, "confidence": 0.7, "right": figure(0.68, 0.6, 0.75)}],
        },
        "disagreement": None,
    }
    return card | change


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        ({"filler_probe": {"value": 0.2, "interval": [0.1, 0.3]}}, "courtesy sentence that adds nothing"),
        ({"truncation_probe": {"value": 0.2, "interval": [0.1, 0.3]}}, "leaving out the last sentence"),
        ({"length_slope": {"value": 0.02, "interval": [0.01, 0.03]}}, "ten more tokens raise the reward by 0.20"),
        ({"style_slopes": {"echo": {"value": 0.2, "interval": [0.1, 0.3]}}}, "one more of echo .* pays \\+0.20"),
        ({"lift": {"value": 0.1, "interval": [0.0, 0.2]}}, "no lift"),
        ({"calibration": {"expected_error": {"value": 0.1, "interval": [0.02, 0.2]}}}, "10 points off"),
    ],
)
def test_each_warning_is_given_for_its_own_figure(change, warning):
    assert warnings_of(quiet_card()) == []
    (text,) = warnings_of(quiet_card(**change))
    assert pd.Series([text]).str.contains(warning).all(), text


def test_the_card_reads_with_its_warnings_first_and_no_nan():
    text = card_text(quiet_card(warnings=["look here"]))
    assert text.index("look here") < text.index("What it predicts")
    assert "| lift over it | 10.0% [2.0, 20.0] |" in text
    assert "| a courtesy sentence, at equal length | -0.100 [-0.200, 0.100] |" in text
    assert "| three words of the prompt repeated, at equal length | ? |" in text
    assert "| 70.0% | 68.0% [60.0, 75.0] | 100 |" in text
    nothing = {"value": float("nan"), "interval": [float("nan")] * 2}
    assert "nan" not in card_text(quiet_card(warnings=[], truncation_probe=nothing)).lower()


def card_with(value, low, high):
    return {
        "pairs": 400,
        "accuracy": {"value": 0.612},
        "length_baseline": {"value": 0.6},
        "lift": {"value": value, "interval": [low, high]},
    }


@pytest.mark.parametrize("low", [-0.02, 0.0, None])
def test_no_lift_is_an_error_with_its_numbers_and_exit_code_3(low):
    with pytest.raises(NoLift, match=r"\+1\.2 points.*\+4\.0.*400 held-out pairs.*61\.2% against 60\.0%") as caught:
        require_lift(card_with(0.012, low, 0.04))
    assert caught.value.exit_code == 3


def test_lift_above_zero_passes():
    require_lift(card_with(0.05, 0.001, 0.1))
