"""The simulated policies have the effects they claim, and their verdicts are counted correctly."""

import dataclasses

import numpy as np
import pytest

from kellet.config.judgement import Gate
from kellet.errors import ConfigError
from kellet.gate import populations
from kellet.gate import power as gate_power
from kellet.gate.populations import POPULATIONS, chosen
from kellet.gate.power import Coverage, Rate, coverage_table, measure, verdict_table, verdicts
from kellet.gate.simulated import draw, truths
from kellet.stats.bootstrap import Estimate

GATE = Gate(resamples=200)
BY_NAME = {population.name: population for population in POPULATIONS}


def within(table, system):
    part = table[table["system"] == system]
    return part["reward"] - part.groupby("prompt_id")["reward"].transform("mean")


@pytest.mark.parametrize("name", ["honest", "length hack, small", "heavy tails", "few prompts"])
def test_a_reward_varies_by_one_within_a_prompt(name):
    population = BY_NAME[name]
    rest = within(draw(population, 8000, 0), "reference")
    free = 1 - 1 / population.samples  # a prompt's own mean takes one degree of freedom
    assert rest.var(ddof=0) / free == pytest.approx(1.0, abs=0.15 if population.tails else 0.04)


def test_the_candidate_differs_as_the_population_says():
    table = draw(BY_NAME["length and courtesy"], 20_000, 0)
    means = table.groupby("system")[["length_tokens", "reward", "kl_nats"]].mean().loc["candidate"]
    means -= table.groupby("system")[["length_tokens", "reward", "kl_nats"]].mean().loc["reference"].fillna(0)
    assert means["length_tokens"] == pytest.approx(2, abs=0.15)
    assert means["reward"] == pytest.approx(2 * 0.1 + 0.5 * 0.4, abs=0.03)
    assert means["kl_nats"] == pytest.approx(3, abs=0.05)


@pytest.mark.parametrize(
    ("name", "observed"),
    [("gold down", 0.35), ("honest, judged", 0.64), ("erring judge", 0.8 * 0.35 + 0.2 * 0.65)],
)
def test_a_judge_prefers_as_often_as_the_population_says(name, observed, monkeypatch):
    monkeypatch.setattr(populations, "JUDGED", 20_000)
    table = draw(BY_NAME[name], 20_000, 0).dropna(subset="judge_human")
    score = table.pivot_table(index="prompt_id", columns="system", values="judge_human")
    assert (score["candidate"] > score["reference"]).mean() == pytest.approx(observed, abs=0.012)


def test_forty_prompts_are_judged_once():
    judged = draw(BY_NAME["gold down"], 256, 0).dropna(subset="judge_human")
    assert judged.groupby("system")["prompt_id"].agg(["size", "nunique"]).to_numpy().tolist() == [[40, 40], [40, 40]]


def test_truths_by_hand():
    values = truths(BY_NAME["length hack, small"])
    assert values["mean_gain"] == pytest.approx(0.30)  # 2 tokens at 0.15
    assert values["equal_length_gain"] == values["equal_style_gain"] == 0.0
    assert values["length_ratio"] == pytest.approx(32 / 30)
    assert values["equal_length_win_rate"] == pytest.approx(0.5, abs=0.006)
    assert values["gain_per_nat"] == pytest.approx(0.1)
    # 95% of gamma with shape 6 and scale 0.5: half of chi-squared with 12 degrees of freedom over two, 21.026/4
    assert values["tail_kl"] == pytest.approx(21.026 / 4, rel=1e-4)


def test_same_seed_same_draw():
    one, two, other = (draw(BY_NAME["honest"], 20, [0, seed]) for seed in (1, 1, 2))
    assert one.equals(two)
    assert not one.equals(other)


def test_verdicts_are_counted():
    hacked = verdicts(BY_NAME["length hack"], GATE, 64, 6)
    assert (hacked.promoted.value, hacked.blocked.value) == (0, 1)
    assert hacked.held_back == "length_inflation (100%)"
    honest = verdicts(dataclasses.replace(BY_NAME["honest"], gain=2.0), GATE, 64, 6)
    assert (honest.promoted.value, honest.blocked.value, honest.held_back) == (1, 0, "")


def test_the_gate_is_told_of_errors_or_not():
    assert populations.settings(BY_NAME["erring judge"], GATE).judge_error == 0.2
    assert populations.settings(BY_NAME["erring judge, untold"], GATE).judge_error == 0.0


def test_coverage_counts_the_truth_inside(monkeypatch):
    population = BY_NAME["honest, judged"]
    rows = {row.check: row.covered.value for row in gate_power.coverage(population, GATE, 64, 25)}
    assert set(rows) == set(truths(population))
    assert min(rows.values()) >= 0.72  # P(Binomial(25, 0.95) < 18) = 0.0002
    monkeypatch.setattr(gate_power, "truths", lambda _: {"mean_gain": 99.0})
    assert [row.covered.value for row in gate_power.coverage(population, GATE, 64, 3)] == [0.0]


def test_workers_do_not_change_the_result():
    arguments = (GATE, chosen(["honest, judged"]), [16, 32], 2)
    assert measure(*arguments, workers=2).to_dict() == measure(*arguments).to_dict()


def test_an_unknown_population_is_named():
    with pytest.raises(ConfigError, match="'honst'; there are: null; honest"):
        chosen(["honst"])


def test_tables_by_hand():
    half = Estimate(0.5, 0.25, 0.75, 8)
    rates = [Rate(BY_NAME[name], n, 8, half, half, "kl_budget (50%)") for name in ("honest", "null") for n in (64, 256)]
    text = verdict_table(rates).splitlines()
    cell = "50.0% [25.0, 75.0]"
    assert text[2] == f"| **null**: nothing changed | {cell} | {cell} | kl_budget (50%) |"
    assert text[4] == "| promoted, and should be | 64 prompts | 256 prompts | held back most by |"
    assert text[6].startswith("| **honest**")
    rows = [Coverage("null", "mean_kl", n, 3.0, half) for n in (64, 256)]
    assert coverage_table(rows).splitlines()[2] == "| mean kl | null | 3 | 50.0% | 50.0% |"


def test_heavy_tails_exceed_normal_noise():
    rest = within(draw(BY_NAME["heavy tails"], 4000, 0), "reference")
    plain = within(draw(BY_NAME["null"], 4000, 0), "reference")
    assert np.abs(rest).max() > 2 * np.abs(plain).max()
