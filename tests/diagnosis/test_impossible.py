"""Figures of a history that cannot be: told with their number of iterations, and nothing is read from them."""

import math

import numpy as np
import pytest

from kellet.diagnosis.diagnose import diagnose
from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.impossible import faults, negative_beyond_noise
from kellet.diagnosis.kl_hypotheses import c5_estimator
from tests.helpers.simulated_runs import Causes, constant_history, simulate

KL = "objective/kl_k1"


def run(iterations=30, **columns):
    """A run whose reward saturates under a fixed β; a column is a value, or a function of the iteration from 0."""
    columns = {"objective__reward": lambda n: 0.7 * (1 - math.exp(-n / 3)), "objective__kl_coef": 0.05, **columns}
    return [
        {
            "iteration": n + 1.0,
            **{name.replace("__", "/"): value(n) if callable(value) else value for name, value in columns.items()},
        }
        for n in range(iterations)
    ]


def told(diagnosis):
    """Name of what is wrong -> in how many iterations."""
    return {item["name"]: item["value"] for item in diagnosis.observations if ":" in item["name"]}


def test_a_kl_below_zero_is_told_and_holds_no_budget():
    # as in logs of TRL sampled with other settings than the policy's own: -0.4 nats at first, then falling
    diagnosis = diagnose(Evidence(history=run(objective__kl_k1=lambda n: -0.4 * (n + 1))))
    assert told(diagnosis) == {f"impossible:{KL}": 30}
    assert not any(item["name"] in ("kl", "kl_rise") for item in diagnosis.observations)
    for id_ in ("B2", "C1", "C2", "C3", "C5"):
        assert diagnosis.hypothesis(id_).verdict == "cannot tell", id_
        assert f"{KL} as it should be: it is below zero" in diagnosis.hypothesis(id_).needs
    text = "\n".join(diagnosis.explanation)
    assert "nor is it good news: KL of a response (k1 of the sampled tokens) is below zero" in text
    assert "Whether the KL penalty held cannot be told" in text
    assert not any("raise the KL target" in item.change for item in diagnosis.recommendations)
    assert diagnosis.recommendations[0].change.startswith("Repair the measurement")
    assert "temperature" in diagnosis.recommendations[0].expected_effect


@pytest.mark.parametrize("name", ["objective__kl", "objective__kl_k3"])
def test_full_kl_and_k3_are_never_negative_but_for_rounding(name):
    wrong = diagnose(Evidence(history=run(**{name: lambda n: -1.0 if n == 7 else 3.0})))
    assert told(wrong) == {f"impossible:{name.replace('__', '/')}": 1}
    assert wrong.hypothesis("C1").verdict == "cannot tell"
    rounding = diagnose(Evidence(history=run(**{name: lambda n: -1e-6 if n == 0 else 3.0})))
    assert told(rounding) == {}
    assert rounding.hypothesis("C1").verdict == "not supported"


def test_another_kl_of_the_same_samples_is_no_way_round_one_that_cannot_be():
    for full in (-2.0, lambda n: None if n >= 20 else 1.0):
        diagnosis = diagnose(Evidence(history=run(objective__kl=full, objective__kl_k1=1.0)))
        assert diagnosis.hypothesis("C1").verdict == "cannot tell"
    only = diagnose(Evidence(history=run(objective__kl=None, objective__kl_k1=1.0)))
    assert only.hypothesis("C1").verdict == "not supported"


def test_sampling_noise_alone_is_no_fault():
    # k1 of 64 responses where KL is 0.02 nats: a log ratio of mean KL has about the variance 2·KL
    rng = np.random.default_rng(0)
    made = [faults(run(objective__kl_k1=lambda _: rng.normal(0.02, math.sqrt(0.04 / 64))), 0.05) for _ in range(200)]
    assert sum(bool(found) for found in made) == 0
    # where it is zero, and every response counts: at most the level of 5%, and none of a history too short to judge
    rough = [negative_beyond_noise(rng.normal(0.0, 0.3, 30), -0.05, 0.05) for _ in range(400)]
    assert np.mean(rough) < 0.07
    assert not any(negative_beyond_noise(rng.normal(0.0, 0.3, 8), -0.05, 0.05) for _ in range(400))
    # each mean k1 of honest samples is below -8 with a probability of less than exp(-8)
    assert not negative_beyond_noise(np.array([*[5.0] * 20, -7.9, *[5.0] * 9]), -0.05, 0.05)
    assert negative_beyond_noise(np.array([*[5.0] * 20, -8.1, *[5.0] * 9]), -0.05, 0.05)


def test_a_third_of_the_run_below_zero_is_enough():
    dip = np.array([*[4.0] * 10, *[-1.0, -1.1] * 5, *[4.0] * 10])
    assert negative_beyond_noise(dip, -0.05, 0.05)
    assert not negative_beyond_noise(np.abs(dip), -0.05, 0.05)


def test_against_a_sound_full_kl_a_k1_below_zero_is_what_c5_asks_about():
    apart = c5_estimator(Evidence(history=constant_history(objective__kl=4.0, objective__kl_k1=-4.0)))
    assert apart.supported
    assert apart.deciding.estimate.value == pytest.approx(2.0)  # |-4 / 4 - 1|


@pytest.mark.parametrize(
    ("iterations", "late", "judged"),
    [(lambda n: n >= 20, 10, False), (lambda n: n >= 28, 2, False), (lambda n: n == 29, 0, True)],
)
def test_a_kl_that_ends_is_not_judged_by_what_it_was_before(iterations, late, judged):
    diagnosis = diagnose(Evidence(history=run(objective__kl=lambda n: None if iterations(n) else 1.0)))
    assert (diagnosis.hypothesis("C1").verdict == "not supported") is judged
    assert told(diagnosis) == ({} if judged else {"missing:objective/kl": late})
    if not judged:
        assert f"has no number in {late} of 30 iterations, {late} of the last 10" in diagnosis.hypothesis("C1").needs


def test_nan_and_infinity_count_as_no_number():
    for bad in (math.nan, math.inf):
        diagnosis = diagnose(Evidence(history=run(objective__kl_k3=bad)))
        assert told(diagnosis) == {"missing:objective/kl_k3": 30}
        assert diagnosis.hypothesis("C1").verdict == "cannot tell"
    # a target that is null throughout is that of a fixed β
    assert told(diagnose(Evidence(history=run(objective__kl=1.0, objective__kl_target=None)))) == {}


@pytest.mark.parametrize(
    ("column", "value", "undecided"),
    [
        ("objective__kl_coef", -0.05, "C1"),
        ("objective__kl_target", 0.0, "C4"),
        ("objective__kl_top_decile_share", 62.0, "C3"),
        ("tokens__response_mean", 0.0, None),
        ("objective__entropy", -0.1, None),
        ("ppo__policy__clipfrac", 12.0, None),
        ("ppo__advantage_std", -1.0, "B3"),
    ],
)
def test_ranges(column, value, undecided):
    history = run(objective__kl=lambda n: 0.5 * n, **{column: lambda n: value if n % 3 == 0 else 0.5})
    diagnosis = diagnose(Evidence(history=history))
    assert told(diagnosis) == {f"impossible:{column.replace('__', '/')}": 10}
    if undecided:
        assert diagnosis.hypothesis(undecided).verdict == "cannot tell"
    good = run(objective__kl=lambda n: 0.5 * n, **{column: 0.5})
    assert told(diagnose(Evidence(history=good))) == {}


def test_kellets_own_history_is_sound():
    for seed in range(5):
        assert simulate(Causes(), seed).faults == {}
