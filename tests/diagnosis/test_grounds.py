"""Advice on grounds alone: what clears a reward model, and what is asked for where nobody could judge it."""

import math
from dataclasses import replace

import numpy as np
import pytest

from kellet.config.run import Config
from kellet.diagnosis.diagnose import diagnose
from kellet.diagnosis.evidence import Evidence
from tests.diagnosis.test_impossible import run
from tests.helpers.simulated_runs import Causes, history, simulate

ROOM = "Use the room"


def changes(evidence):
    return [item.change for item in diagnose(evidence).recommendations]


@pytest.fixture(scope="module")
def sound():
    """A run in which nothing is wrong, KL is far below its budget, and a judge likes the candidate as well."""
    return simulate(Causes(), 1)


def test_room_is_used_where_the_reward_model_was_judged_and_cleared(sound):
    assert changes(sound)[0].startswith(ROOM)


def test_from_a_log_alone_nothing_is_loosened_and_answers_are_asked_for(sound):
    diagnosis = diagnose(Evidence(history=sound.history))
    assert all(diagnosis.hypothesis(f"A{n}").verdict == "cannot tell" for n in range(1, 6))
    first, second = diagnosis.recommendations
    assert first.change.startswith("Bring answers of both policies")
    assert "kellet import-logs --candidate" in first.expected_effect
    assert (dict(first.patch), dict(second.patch)) == ({}, {})
    assert "an exploit of the reward model and an honest gain look alike" in "\n".join(diagnosis.explanation)


def test_an_exploit_and_an_honest_gain_with_the_same_log_get_the_same_diagnosis():
    # reward = quality + price·words: by quality alone, or by words alone that nobody wants
    honest = Causes(quality=1.0)
    exploit = Causes(quality=0.0, length_price=1 / 30, longer=30.0)
    logs = []
    for causes in (honest, exploit):
        rows = history(causes, np.random.default_rng(0))
        kept = ("iteration", "objective/reward", "objective/kl", "objective/kl_coef")
        logs.append([{name: row[name] for name in kept} for row in rows])
    assert np.allclose([list(row.values()) for row in logs[0]], [list(row.values()) for row in logs[1]])
    one, other = (diagnose(Evidence(history=rows)).to_dict() for rows in logs)
    assert one["explanation"] == other["explanation"]
    assert one["recommendations"] == other["recommendations"]
    assert not any(item["change"].startswith(ROOM) for item in one["recommendations"])


@pytest.mark.parametrize(
    ("candidate", "prompts", "unjudged"),
    [
        (1.0, 0, True),
        (-1.0, 60, False),  # the judge prefers the reference
        (1.0, 9, True),  # it prefers the candidate in each of too few comparisons
    ],
)
def test_without_a_judge_that_clears_it_nothing_is_loosened(sound, candidate, prompts, unjudged):
    rows = sound.evaluation
    score = (rows["system"] == "candidate") * candidate
    asked = rows["judge_human"].notna() & (rows["prompt_id"] < f"p{prompts:04d}")
    diagnosis = diagnose(replace(sound, evaluation=rows.assign(judge_human=score.where(asked))))
    assert not any(item.change.startswith(ROOM) for item in diagnosis.recommendations)
    assert ("No judge but the reward model" in "\n".join(diagnosis.explanation)) is unjudged
    if unjudged:
        assert diagnosis.recommendations[0].change.startswith("Have people or a judge compare")


def test_a_doubt_about_length_is_no_ground_to_loosen(sound):
    # with one answer a prompt nothing tells A2 and A4
    one_each = sound.evaluation[sound.evaluation["sample"] == 0].reset_index(drop=True)
    diagnosis = diagnose(replace(sound, evaluation=one_each))
    assert diagnosis.hypothesis("A2").verdict == "cannot tell"
    assert not any(item.change.startswith(ROOM) for item in diagnosis.recommendations)


def test_a_history_that_cannot_be_is_no_ground_to_loosen(sound):
    wrong = [row | {"objective/kl": -1.0} for row in sound.history]
    assert changes(replace(sound, history=wrong))[0].startswith("Repair")
    assert not any(change.startswith(ROOM) for change in changes(replace(sound, history=wrong)))


def test_a_log_over_its_budget_gets_answers_asked_for_and_a_tighter_penalty():
    over = run(objective__kl=lambda n: float(n), objective__kl_coef=0.01)
    first, second = diagnose(Evidence(history=over)).recommendations
    assert first.change.startswith("Bring answers")
    # the gain of 0.7 at a late KL of 24.5 nats asks for 0.7/(2·√(24.5·2)) = 0.05 at a quarter of the budget of 8
    assert second.patch["policy.kl.target"] == 2.0
    assert second.patch["policy.kl.init_coef"] == pytest.approx(0.05, rel=0.08)
    # where neither β nor a gain is known, no β is advised
    unknown = [row | {"objective/kl_coef": None, "objective/reward": 0.0} for row in over]
    _, second = diagnose(Evidence(history=unknown)).recommendations
    assert "policy.kl.init_coef" not in second.patch
    assert "β from no less than the run had" in second.change
    # where the reward is to be repaired as well, the tighter penalty keeps its place
    broken = [row | {"objective/reward": None} for row in over]
    first, second = diagnose(Evidence(history=broken)).recommendations
    assert first.change.startswith("Repair")
    assert "policy.kl.target" in second.patch


@pytest.mark.parametrize(
    ("column", "value"), [("iteration", lambda n: n + 501.0), ("objective__kl", lambda n: 10.0 + n)]
)
def test_a_log_that_begins_late_says_so_and_has_no_price_but_a_bound(column, value):
    # the penalty's share of the logged gain, 0.05·KL/0.7, is above a quarter; of the whole gain it may not be
    rows = run(**{"objective__kl": lambda n: float(n), column: value})
    diagnosis = diagnose(Evidence(history=rows))
    (late,) = [item for item in diagnosis.observations if item["name"] == "begins_late"]
    assert "the log begins" in late["words"]
    assert (late["value"], late["interval"]) == (None, None)
    assert diagnosis.hypothesis("C1").verdict == "cannot tell"
    whole = diagnose(Evidence(history=run(objective__kl=lambda n: float(n))))
    assert whole.hypothesis("C1").verdict == "not supported"
    assert not any(item["name"] == "begins_late" for item in whole.observations)


def test_the_size_of_a_rise_is_told_with_its_levels():
    # 0.01 + 0.7·(1 - exp(-n/3)): 0.71 in the last third; a straight line through all 30 gives about half
    rows = run(objective__reward=lambda n: 0.01 + 0.7 * (1 - math.exp(-n / 3)), objective__kl=1.0)
    words = diagnose(Evidence(history=rows)).observations[0]["words"]
    assert words.startswith("Reward rose by 0.6")
    assert words.endswith("at the start to 0.71 in the last third).")


def test_a_short_history_asks_for_more_iterations():
    diagnosis = diagnose(Evidence(history=run(5, objective__kl=1.0)))
    assert diagnosis.hypothesis("C1").needs == "9 iterations or more; the history has 5"


def test_the_gate_s_margin_is_the_judge_s(sound):
    strict = Config.model_validate({"gate": {"judge_margin": 0.0}})
    rate = sound.judge_win_rate
    assert rate.low < 0.5 < rate.high
    assert not any(change.startswith(ROOM) for change in changes(replace(sound, config=strict)))
