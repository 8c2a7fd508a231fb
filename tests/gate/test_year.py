"""A simulated year: who is promoted, what is in use meanwhile, and how it is counted."""

import json

import numpy as np
import pytest

from kellet.config.judgement import Gate
from kellet.errors import ConfigError
from kellet.gate import year as years
from kellet.gate.simulated import draw_prompts
from kellet.gate.verdict import decide
from kellet.gate.year import SCENARIOS, History, Scenario, chosen, history, measure, summary, year_table
from tests.helpers.command import kellet

GATE = Gate(resamples=200)
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def in_use(*truths: float) -> np.ndarray:
    """So many weeks of each, 52 in all."""
    return np.repeat(truths, 52 // len(truths))


def test_counts_by_hand():
    histories = [
        History([], in_use(0.0)),
        History([(1, 0.5), (12, 0.0)], in_use(0.5, 0.0)),  # a good one, then one without gain
        History([(2, 0.5)], in_use(0.5)),
        History([(40, -0.1)], in_use(0.0, 0.0, 0.0, -0.1)),
    ]
    year = summary(BY_NAME["mixed candidates"], 256, histories)
    assert [share.value for share in year.false.values()] == [0.0, 0.25, 0.5]  # within 10, 26, 52
    assert [share.value for share in year.promoted.values()] == [0.25, 0.5, 0.5]  # by look 1, 2, 5
    assert year.promotions == 1.0
    assert year.in_use[10] == (0.25, 0.0)  # of 0, 0.5, 0.5, 0
    assert year.in_use[52] == (0.0, -0.1)  # of 0, 0, 0.5, -0.1
    assert year.fallen == 0.5
    cells = [cell.strip() for cell in year_table([year]).splitlines()[2].split("|")]
    assert cells[2] == "256"
    assert cells[3].startswith("0.0% [0.0, 71.7], 25.0% [")  # 3.182²/(4 + 3.182²), 3.182 of Student
    assert cells[4:8] == ["25%, 50%, 50%", "1.0", "0.25 (0.00), 0.25 (0.00), 0.00 (-0.10)", "0.50"]
    json.dumps(year.to_dict())


def test_a_good_candidate_is_promoted_and_becomes_champion_and_anchor(monkeypatch):
    monkeypatch.setattr(years, "WEEKS", 2)
    best = Scenario("best", "2 sd, then worse", lambda _, champion: (years.PLAIN, 0.5 if champion else 2.0))
    past = history(best, GATE, 64, 0)
    assert past.promoted == [(1, 2.0)]  # the second has a gain too, and is far behind the champion
    assert past.in_use.tolist() == [2.0, 2.0]


def test_what_is_skipped_would_not_have_been_promoted(monkeypatch):
    monkeypatch.setattr(years, "WEEKS", 6)
    scenario = Scenario(
        "weak",
        "0.15 sd, or 0.1 behind the champion",
        lambda _, champion: (years.PLAIN, champion - 0.1 or 0.15),
        start=0.4,
    )
    quick = [history(scenario, GATE, 64, seed) for seed in range(3)]
    monkeypatch.setattr(years, "_may_pass", lambda *_: True)
    for seed, past in enumerate(quick):
        whole = history(scenario, GATE, 64, seed)
        assert whole.promoted == past.promoted
        assert whole.in_use.tolist() == past.in_use.tolist()


def test_one_policy_has_one_gain_and_new_answers_every_week(monkeypatch):
    seen = []
    monkeypatch.setattr(years, "WEEKS", 2)
    monkeypatch.setattr(years, "_may_pass", lambda rows, _: bool(seen.append(rows)))
    history(BY_NAME["one null policy"], GATE, 2000, 0)
    history(BY_NAME["null candidates"], GATE, 2000, 0)
    gains = []
    for rows in seen:
        means = rows.pivot_table(index="prompt_id", columns="system", values="reward")
        gains.append(means["candidate"] - means["reference"])
    assert (gains[0] != gains[1]).all()
    # a prompt's gain has a variance of 0.3² = 0.09 around 0, two answers of each system add 1: shared 0.09/1.09 = 0.08
    assert np.corrcoef(gains[0], gains[1])[0, 1] == pytest.approx(0.083, abs=0.045)
    assert np.corrcoef(gains[2], gains[3])[0, 1] == pytest.approx(0.0, abs=0.045)


def test_an_anchor_that_is_the_champion_answers_once():
    rng = np.random.default_rng(0)
    asked = draw_prompts(years.PLAIN, 8, rng)
    one, other, third = (years._train(years.PLAIN, truth, asked, rng) for truth in (0.0, 0.5, 1.0))
    systems = [
        set(years._evaluation(*policies, asked, rng)["system"])
        for policies in ((one, None, None), (one, other, other), (one, other, third))
    ]
    assert systems[0] == {"candidate", "reference"}
    assert systems[1] == {"candidate", "reference", "champion"}
    assert systems[2] == {"candidate", "reference", "champion", "anchor"}


def test_looks_are_at_the_levels_of_a_programme_unless_it_is_off(monkeypatch):
    levels = []
    monkeypatch.setattr(years, "WEEKS", 3)
    monkeypatch.setattr(years, "_may_pass", lambda _, gate: bool(levels.append(gate.alpha)))
    history(BY_NAME["null candidates"], GATE, 16, 0)
    history(BY_NAME["null candidates"], GATE.model_copy(update={"programme": False}), 16, 0)
    # 0.05·t^-1.6/ζ(1.6), ζ(1.6) = 2.28577
    assert levels[:3] == pytest.approx([0.05 / 2.28577, 0.05 / 2.28577 / 2**1.6, 0.05 / 2.28577 / 3**1.6], rel=1e-4)
    assert levels[3:] == [0.05] * 3


def test_the_hack_of_a_year_is_paid_and_gains_nothing_at_equal_length():
    rng = np.random.default_rng(0)
    asked = draw_prompts(years.HACK, 4000, rng)
    rows = years._evaluation(years._train(years.HACK, 0.0, asked, rng), None, None, asked, rng)
    means = rows.groupby("system")["reward"].mean()
    assert means["candidate"] - means["reference"] > 0.1
    assert not decide(rows, GATE).promote


def test_the_result_depends_on_the_seed_and_not_on_workers(monkeypatch):
    arguments = (GATE, chosen(["one null policy"]), [16], 2)
    one = measure(*arguments)
    assert [year.to_dict() for year in measure(*arguments, workers=2)] == [year.to_dict() for year in one]
    monkeypatch.setattr(years, "WEEKS", 5)
    scenario = Scenario("now and then", "0.35 sd", lambda *_: (years.PLAIN, 0.35))
    same, again, *others = (history(scenario, GATE, 128, seed).promoted for seed in (1, 1, 2, 3, 4))
    assert same == again
    assert any(other != same for other in others)


def test_the_command_prints_the_year():
    result = kellet("gate-power", "--year", "--population", "null candidates", "--prompts", "16", "--replicates", "1")
    assert "| **null candidates**: a new policy without gain every week | 16 |" in result.output
    with pytest.raises(ConfigError, match="no year of 'nul'; there are: one null policy; null candidates"):
        chosen(["nul"])
