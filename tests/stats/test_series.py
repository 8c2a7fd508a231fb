"""Level, change and growth of a series: worked by hand, and coverage under autocorrelation."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from kellet.stats.series import change, growth, level, series


def test_level_of_four_values_worked_by_hand():
    # q0·y/√4 = 2.5; the linear polynomial (-3, -1, 1, 3)/√20 gives 10/√20, the quadratic one 0, so ω = (5 + 0)/2;
    # half-width = t(0.95, 2 degrees) · √2.5 · ½ = 2.920 · 1.5811 · 0.5
    result = level(np.array([1.0, 2.0, 3.0, 4.0]))
    assert result.value == pytest.approx(2.5)
    assert result.high - 2.5 == pytest.approx(2.3085, abs=1e-3)
    assert result.low == pytest.approx(5 - result.high)


def test_a_straight_line_has_its_exact_change():
    result = change(np.linspace(3.0, 9.0, 20))
    assert (result.value, result.low, result.high) == pytest.approx((6.0, 6.0, 6.0))
    falling = change(np.linspace(9.0, 3.0, 20) + np.tile([0.1, -0.1], 10))
    assert falling.low < falling.value < falling.high < 0


def test_growth_is_the_factor_of_an_exponential():
    result = growth(2.0 * np.exp(np.linspace(0, math.log(3), 15)))
    assert (result.value, result.low, result.high) == pytest.approx((3.0, 3.0, 3.0))
    assert math.isnan(growth(np.array([1.0, 0.0] * 8)).value)


def noise(rng, memory, size=30, warm=60):
    drawn = rng.normal(size=size + warm)
    for place in range(1, len(drawn)):
        drawn[place] += memory * drawn[place - 1]
    return drawn[warm:]


@pytest.mark.parametrize("statistic", [level, change])
def test_independent_noise_is_covered_at_the_nominal_level(statistic):
    rng = np.random.default_rng(0)
    intervals = [statistic(noise(rng, 0.0)) for _ in range(1000)]
    assert 0.87 < np.mean([result.low <= 0 <= result.high for result in intervals]) < 0.93


def test_autocorrelated_noise_is_covered_far_better_than_by_counting_iterations_as_independent():
    rng = np.random.default_rng(1)
    ours = plain = 0
    for _ in range(1000):
        y = noise(rng, 0.6)
        result = level(y)
        ours += result.low <= 0 <= result.high
        plain += abs(y.mean()) <= student.ppf(0.95, len(y) - 1) * y.std(ddof=1) / math.sqrt(len(y))
    assert ours > 800
    assert plain < 650


def test_nulls_are_left_out_until_too_few_remain():
    rows = [{"a": float(n), "b": None if n < 2 else 1.0, "c": None if n < 4 else 1.0, "name": "x"} for n in range(12)]
    assert series(rows, "a", "b")[0].tolist() == list(range(2, 12))
    assert series(rows, "a", "c") is None  # 8 of 12 are left, nine are wanted
    assert series(rows, "missing") is None
    assert series(rows[:8], "a") is None
