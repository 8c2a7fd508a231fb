"""The simulated policies are what they claim to be: same text, same topic, same length, and a known gain."""

import pickle
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kellet.config.judgement import Gate
from kellet.evaluation.file import check_evaluation
from kellet.gate.length_populations import LENGTH, UNIDENTIFIED
from kellet.gate.populations import CLUSTERS, POPULATIONS, settings
from kellet.gate.simulated import draw, truths

BY_NAME = {population.name: population for population in POPULATIONS}
SELECTED = "gain where lengths agree"
"""Its pairs of equal length are not from prompts like the others'."""


def pairs_of(table: pd.DataFrame) -> pd.DataFrame:
    """Each answer of the candidate with each of the reference's to the same prompt."""
    sides = [table[table["system"] == system] for system in ("candidate", "reference")]
    return sides[0].merge(sides[1], on="prompt_id", suffixes=("_b", "_a"))


def within(table: pd.DataFrame, system: str) -> pd.Series:
    part = table[table["system"] == system]
    return part["reward"] - part.groupby("prompt_id")["reward"].transform("mean")


def test_names_differ_and_every_bad_length_has_an_honest_counterpart() -> None:
    assert len(BY_NAME) == len(POPULATIONS)
    bad = {population.name for population in LENGTH if not population.good}
    assert {f"{name}, honest" for name in bad.difference(UNIDENTIFIED)} == {p.name for p in LENGTH if p.good}


@pytest.mark.parametrize("population", POPULATIONS, ids=lambda p: p.name)
def test_a_draw_is_a_valid_evaluation_and_the_same_in_another_process(population) -> None:
    table = draw(population, 64, [0, 1])
    assert len(check_evaluation(table)) == len(table)
    copy = pickle.loads(pickle.dumps(population))  # noqa: S301 - its own bytes, as workers get them
    assert copy == population
    assert draw(copy, 64, [0, 1]).equals(table)


@pytest.mark.parametrize(
    "name", ["honest", "length hack, small", "heavy tails", "few prompts", "two lengths", "price by prompt, sd 0.08"]
)
def test_a_reward_varies_by_one_within_a_prompt(name: str) -> None:
    population = BY_NAME[name]
    rest = within(draw(population, 8000, 0), "reference")
    free = 1 - 1 / population.samples  # a prompt's own mean takes one degree of freedom
    assert rest.var(ddof=0) / free == pytest.approx(1.0, abs=0.15 if population.tails else 0.04)


@pytest.mark.parametrize(
    "population", [p for p in LENGTH if p.name not in (*UNIDENTIFIED, SELECTED)], ids=lambda p: p.name
)
def test_answers_of_equal_length_differ_by_the_gain_alone(population) -> None:
    pairs = pairs_of(draw(population, round(40_000 / population.samples**2 / population.share), 0))
    gain = pairs["reward_b"] - pairs["reward_a"]
    equal = pairs["length_tokens_b"] == pairs["length_tokens_a"]
    error = gain[equal].std() / np.sqrt(equal.sum())
    assert gain[equal].mean() == pytest.approx(population.gain, abs=4 * error)
    assert gain.mean() > population.gain + 0.05  # what length alone adds


def test_where_lengths_agree_the_gain_is_not_the_mean_gain() -> None:
    table = draw(BY_NAME[SELECTED], 20_000, 0)
    pairs = pairs_of(table)
    equal = pairs["length_tokens_b"] == pairs["length_tokens_a"]
    # lengths differ by N(8, 72) in a quarter of the prompts, by N(0, 72) in the others: there e^(64/144) = 1.56 times
    # as many pairs are equally long. (0.75·1.56·0.3 - 0.25·0.9)/(0.75·1.56 + 0.25) = 0.089
    gain = pairs["reward_b"] - pairs["reward_a"]
    assert gain[equal].mean() == pytest.approx(0.089, abs=0.08)
    prices = 0.1 * 8 * 0.25
    assert gain.mean() == pytest.approx(prices, abs=0.03)  # so the mean gain at equal length is none


def test_no_two_answers_are_of_one_length_where_that_is_said() -> None:
    pairs = pairs_of(draw(BY_NAME["one token more, always"], 100, 0))
    assert set(pairs["length_tokens_b"] - pairs["length_tokens_a"]) == {1.0}


def test_the_candidate_differs_as_the_population_says() -> None:
    table = draw(BY_NAME["length and courtesy"], 20_000, 0)
    means = table.groupby("system")[["length_tokens", "reward", "kl_nats"]].mean().loc["candidate"]
    means -= table.groupby("system")[["length_tokens", "reward", "kl_nats"]].mean().loc["reference"].fillna(0)
    assert means["length_tokens"] == pytest.approx(2, abs=0.15)
    assert means["reward"] == pytest.approx(2 * 0.1 + 0.5 * 0.4, abs=0.03)
    assert means["kl_nats"] == pytest.approx(3, abs=0.05)


def test_odd_scales() -> None:
    plain, large, small = (
        draw(BY_NAME[name], 50, 0)["reward"] for name in ("null", "rewards times 1e6", "rewards times 1e-9")
    )
    assert large.to_numpy() == pytest.approx(plain.to_numpy() * 1e6)
    assert small.to_numpy() == pytest.approx(plain.to_numpy() * 1e-9, rel=1e-12)
    table = draw(BY_NAME["one prompt at +1e5"], 50, 0)
    large_ones = table[table["reward"] > 1e4]
    assert set(large_ones["system"]) == {"candidate"}
    assert large_ones["prompt_id"].nunique() == 1


@pytest.mark.parametrize("population", CLUSTERS, ids=lambda p: p.name)
def test_clusters_are_texts_or_topics(population) -> None:
    table = draw(population, 256, 0)
    texts = table.groupby("prompt")["prompt_id"].nunique()
    if population.same_text:
        assert "cluster" not in table
        assert texts.max() == (50 if "fifty" in population.name else 4)
    else:
        assert texts.max() == 1
        assert table["cluster"].nunique() == (6 if "six " in population.name else 16)


def test_sizes_of_unequal_clusters() -> None:
    counts = draw(BY_NAME["unequal topics"], 2560, 0).groupby("cluster")["prompt_id"].nunique()
    # 1 + 1/2 + ... + 1/16 = 3.3807: the largest has 1/3.3807 of the prompts, the smallest a sixteenth of that
    assert counts.max() / 2560 == pytest.approx(1 / 3.3807, abs=0.001)
    assert counts.min() / 2560 == pytest.approx(1 / 3.3807 / 16, abs=0.001)
    halves = draw(BY_NAME["half in one topic"], 2560, 0).groupby("cluster")["prompt_id"].nunique()
    assert halves.max() == 1280


def test_topics_share_their_gain_and_texts_everything() -> None:
    means = []
    for seed in range(25):
        pairs = pairs_of(draw(BY_NAME["sixteen topics"], 1600, seed))
        gain = pairs["reward_b"] - pairs["reward_a"]
        means += gain.groupby(pairs["cluster_b"]).mean().tolist()
    # 0.4² between topics, (0.3² + 2·1/2)/100 within
    assert np.var(means) == pytest.approx(0.16 + 0.0109, rel=0.2)
    table = draw(BY_NAME["one text fifty times"], 2500, 0)
    mine = table[table["system"] == "reference"].groupby("prompt")["reward"]
    assert (mine.mean().var() / mine.var().mean()) == pytest.approx(1.0, abs=0.5)  # difficulty has sd 1, noise too


@pytest.mark.parametrize(
    ("name", "observed"),
    [
        ("gold down", 0.35),
        ("honest, judged", 0.64),
        ("erring judge", 0.8 * 0.35 + 0.2 * 0.65),
        ("preferred in 42%", 0.42),
        ("preferred in half", 0.5),
    ],
)
def test_a_judge_prefers_as_often_as_the_population_says(name: str, observed: float) -> None:
    population = BY_NAME[name]
    everywhere = replace(population.judges[0], prompts=None)
    table = draw(replace(population, judges=(everywhere,)), 10_000, 0)
    score = table.pivot_table(index=["prompt_id", "sample"], columns="system", values="judge_human")
    assert (score["candidate"] > score["reference"]).mean() == pytest.approx(observed, abs=0.012)


def test_forty_prompts_are_judged_once_and_512_comparisons_where_all_are() -> None:
    judged = draw(BY_NAME["gold down"], 256, 0).dropna(subset="judge_human")
    assert judged.groupby("system")["prompt_id"].agg(["size", "nunique"]).to_numpy().tolist() == [[40, 40], [40, 40]]
    everywhere = draw(BY_NAME["preferred in 42%"], 256, 0).dropna(subset="judge_human")
    assert everywhere.groupby("system").size().tolist() == [512, 512]


def test_a_judge_that_nobody_named_prefers_the_candidate_never() -> None:
    for name in ("judge nobody named", "second judge nobody named"):
        pairs = pairs_of(draw(BY_NAME[name], 256, 0))
        assert (pairs["judge_heldout_b"] < pairs["judge_heldout_a"]).all()
        assert settings(BY_NAME[name], Gate()) == Gate()


def test_a_model_sees_much_of_what_people_see() -> None:
    population = BY_NAME["model judge, honest"]
    people = replace(population.judges[0], prompts=None)
    table = draw(replace(population, judges=(people, population.judges[1])), 5000, 0)
    reference = table[table["system"] == "reference"]
    assert np.corrcoef(reference["judge_human"], reference["judge_model"])[0, 1] == pytest.approx(0.81, abs=0.02)
    assert settings(population, Gate()).model_judge == "judge_model"


def test_truths_by_hand() -> None:
    values = truths(BY_NAME["length hack, small"])
    assert values["mean_gain"] == pytest.approx(0.30)  # 2 tokens at 0.15
    assert values["matched_length_gain"] == values["equal_length_gain"] == values["equal_style_gain"] == 0.0
    assert values["length_ratio"] == pytest.approx(32 / 30)
    assert values["equal_length_win_rate"] == pytest.approx(0.5, abs=0.006)
    assert values["gain_per_nat"] == pytest.approx(0.1)
    # 95% of gamma with shape 6 and scale 0.5: half of chi-squared with 12 degrees of freedom over two, 21.026/4
    assert values["tail_kl"] == pytest.approx(21.026 / 4, rel=1e-4)
    assert truths(BY_NAME["sixteen topics"])["equal_length_win_rate"] == pytest.approx(0.5, abs=0.006)
    assert "equal_length_gain" not in truths(BY_NAME["quadratic price"])  # there is no one price of a token


def test_same_seed_same_draw() -> None:
    one, two, other = (draw(BY_NAME["honest"], 20, [0, seed]) for seed in (1, 1, 2))
    assert one.equals(two)
    assert not one.equals(other)


def test_heavy_tails_exceed_normal_noise() -> None:
    rest = within(draw(BY_NAME["heavy tails"], 4000, 0), "reference")
    plain = within(draw(BY_NAME["null"], 4000, 0), "reference")
    assert np.abs(rest).max() > 2 * np.abs(plain).max()
