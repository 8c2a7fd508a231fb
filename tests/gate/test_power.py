"""Verdicts and intervals on the simulated policies are counted correctly."""

import dataclasses

import pytest

from kellet.config.judgement import Gate
from kellet.errors import ConfigError
from kellet.gate import populations
from kellet.gate import power as gate_power
from kellet.gate.populations import POPULATIONS, chosen
from kellet.gate.power import Coverage, Rate, coverage_table, measure, verdict_table, verdicts
from kellet.gate.simulated import truths
from kellet.stats.bootstrap import Estimate

GATE = Gate(resamples=200)
BY_NAME = {population.name: population for population in POPULATIONS}


def test_verdicts_are_counted():
    hacked = verdicts(BY_NAME["length hack"], GATE, 64, 6)
    assert (hacked.promoted.value, hacked.blocked.value) == (0, 1)
    assert hacked.held_back == "length_inflation (100%)"
    honest = verdicts(dataclasses.replace(BY_NAME["honest"], gain=2.0), GATE, 128, 6)
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
