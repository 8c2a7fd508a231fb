"""Effects of one system against another, worked by hand on answers that differ by constants."""

import numpy as np
import pytest

from kellet.config.judgement import Gate
from kellet.evaluation.answers import Answers, answers_of
from kellet.evaluation.file import check_evaluation
from kellet.remedies.effects import Effect, effects, judges_of
from kellet.stats.bootstrap import Estimate
from tests.helpers.evaluations import evaluation

GATE = Gate(resamples=200)
PROMPTS = 12


def answers(reward=0.0, length=10.0, kl=2.0, text="It is here.", gold=0.0, truncated=0.0):
    """One answer to each of twelve prompts, all with these values."""
    prompt = np.arange(PROMPTS)

    def of(value):
        return np.full(PROMPTS, float(value))

    return Answers(
        prompt,
        np.zeros(PROMPTS, np.int64),
        of(reward),
        of(np.nan),
        of(length),
        of(kl),
        of(truncated),
        [f"Where is order {n}?" for n in prompt],
        [text] * PROMPTS,
        {"judge_gold": of(gold)},
    )


def against(a, b, **rewards):
    return effects(a, b, a, dict.fromkeys(rewards, (a.reward, b.reward, a.reward)), GATE)


def test_differences_worked_by_hand():
    a = answers(length=10, kl=2, gold=0, text="It is here.")
    b = answers(length=15, kl=5, gold=1, text="Thank you. It is here. Thank you. It is here now and here.", truncated=1)
    values = {name: effect.estimate and effect.estimate.value for name, effect in against(a, b).items()}
    assert values["judge_gold/win_rate"] == 1
    assert values["judge_gold/gain"] == pytest.approx(1)
    assert values["length"] == pytest.approx(1.5)
    assert values["kl"] == pytest.approx(3)
    assert values["truncated"] == 1
    assert values["style/courtesy"] == pytest.approx(2)  # two sentences that thank
    # runs of three words said before: "thank you it", "you it is", "it is here"
    assert values["style/repetition"] == pytest.approx(3)
    assert values["style/hedging"] == 0


def test_the_reference_has_no_kl_of_its_own():
    assert against(answers(kl=np.nan), answers(kl=5))["kl"].estimate.value == pytest.approx(5)
    unknown = against(answers(kl=2), answers(kl=np.nan))["kl"]
    assert unknown.estimate is None
    assert "kl_nats" in unknown.why


def test_each_reward_model_is_asked_about_both_systems():
    a, b = answers(), answers()
    one, two = np.zeros(PROMPTS), np.full(PROMPTS, -2.0)
    results = effects(a, b, a, {"baseline": (one, two, one), "first": (two, one, two)}, GATE)
    assert results["reward/baseline/gain"].estimate.value == pytest.approx(-2)
    assert results["reward/first/gain"].estimate.value == pytest.approx(2)
    assert results["reward/baseline/win_rate"].estimate.value == 0
    assert not any("own" in name for name in results)


def test_equal_length_takes_the_length_slope_of_the_reference():
    # reward is 0.02 a token and 0.5 for quality; b is 5 tokens longer: raw gain 0.6, at equal length 0.5
    rows = check_evaluation(evaluation(400, gain=0.5, longer=5.0, length_pay=0.02, seed=3))
    systems = answers_of(rows)
    a, b = systems["reference"], systems["candidate"]
    results = effects(a, b, a, {"own": (a.reward, b.reward, a.reward)}, GATE)
    left = results["reward/own/equal_length_gain"].estimate
    assert results["reward/own/gain"].estimate.value == pytest.approx(0.6, abs=0.15)
    assert left.low < 0.5 < left.high
    assert left.value < results["reward/own/gain"].estimate.value
    far = effects(a, b._replace(length=b.length + 500), a, {"own": (a.reward, b.reward, a.reward)}, GATE)
    assert far["reward/own/equal_length_gain"].estimate is None
    assert "not identified" in far["reward/own/equal_length_gain"].why


@pytest.mark.parametrize(
    ("low", "high", "better", "improved", "direction"),
    [
        (0.1, 0.3, "higher", True, 1),
        (0.1, 0.3, "lower", False, 1),
        (-0.3, -0.1, "higher", False, -1),
        (-0.3, -0.1, "lower", True, -1),
        (-0.1, 0.3, "higher", None, 0),
        (0.1, 0.3, "", None, 1),
    ],
)
def test_better_is_shown_by_the_whole_interval(low, high, better, improved, direction):
    effect = Effect("x", "x", "reward", better, 0.0, Estimate((low + high) / 2, low, high, 20))
    assert effect.improved is improved
    assert effect.direction == direction


def test_a_judge_without_pairs_is_no_judge():
    b = answers(gold=1)
    unseen = b._replace(judges={"judge_gold": np.full(PROMPTS, np.nan)})
    assert judges_of(answers(), b) == ["judge_gold"]
    assert judges_of(unseen, b) == []
    assert not any(name.startswith("judge") for name in against(unseen, b))
