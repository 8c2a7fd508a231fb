"""Level, change and growth of a series: worked by hand, and coverage under autocorrelation."""

import math

import numpy as np
import pytest
from scipy.stats import t as student

from kellet.stats.bootstrap import Estimate
from kellet.stats.series import change, growth, level, ratio, series, start, trend


def test_level_of_four_values_worked_by_hand():
    # q0·y/√4 = 2.5; the linear polynomial (-3, -1, 1, 3)/√20 gives 10/√20, the quadratic one 0, so ω = (5 + 0)/2;
    # half-width = t(0.95, 2 degrees) · √2.5 · ½ = 2.920 · 1.5811 · 0.5
    result = level(np.array([1.0, 2.0, 3.0, 4.0]))
    assert result.value == pytest.approx(2.5)
    assert result.high - 2.5 == pytest.approx(2.3085, abs=1e-3)
    assert result.low == pytest.approx(5 - result.high)


def test_a_straight_line_has_its_exact_trend():
    result = trend(np.linspace(3.0, 9.0, 20))
    assert (result.value, result.low, result.high) == pytest.approx((6.0, 6.0, 6.0))
    falling = trend(np.linspace(9.0, 3.0, 20) + np.tile([0.1, -0.1], 10))
    assert falling.low < falling.value < falling.high < 0


def test_a_size_is_the_late_level_minus_the_first_of_a_straight_line():
    # from 0 to 29 over 30 iterations: the last ten are 20 to 29, 24.5 on average, and the line begins at 0
    result = change(np.arange(30.0))
    assert (result.value, result.low, result.high) == pytest.approx((24.5, 24.5, 24.5))
    for size in (1, 5, 7, 8, 9, 30, 100):
        assert start(np.arange(size) + 7.0) == pytest.approx(7.0)


@pytest.mark.parametrize("size", [10, 30, 100])
def test_a_rise_that_saturates_has_its_own_size_where_a_straight_line_halves_it(size):
    # 0.01 to 0.71 with a tenth of the run as time constant, without noise: its own late third less its own first value
    time = np.linspace(0, 1, size)
    curve = 0.01 + 0.70 * (1 - np.exp(-time / 0.1))
    own = curve[-math.ceil(size / 3) :].mean() - 0.01
    found = change(curve)
    assert own == pytest.approx(0.70, abs=0.01)
    assert 0.9 * own < found.value <= own
    assert found.low < own < found.high
    assert found.low > 0
    assert np.polyfit(time, curve, 1)[0] < 0.5


def test_the_level_at_the_start_by_hand():
    # the first five of 30: a line through 1, 1, 1, 1, 2 has the mean 1.2 and the slope (2·1 - 2·1 + 1·0 + 2·1)/10 = 0.2
    values = np.array([1.0, 1.0, 1.0, 1.0, 2.0, *[9.0] * 25])
    assert start(values) == pytest.approx(1.2 - 2 * 0.2)


def test_growth_is_the_factor_of_an_exponential():
    # 2·3^x for x from 0 to 1 in 15 steps of 1/14: the last five have the mean x of 12/14
    result = growth(2.0 * np.exp(np.linspace(0, math.log(3), 15)))
    assert (result.value, result.low, result.high) == pytest.approx((3 ** (12 / 14),) * 3)
    assert math.isnan(growth(np.array([1.0, 0.0] * 8)).value)


def test_a_ratio_has_the_interval_of_its_numerator_where_the_other_is_exact():
    result = ratio(Estimate(3.0, 2.0, 4.5, 9), Estimate(2.0, 2.0, 2.0, 9))
    assert (result.value, result.low, result.high) == pytest.approx((1.5, 1.0, 2.25))
    inverse = ratio(Estimate(2.0, 2.0, 2.0, 9), Estimate(3.0, 2.0, 4.0, 9))
    assert (inverse.low, inverse.high) == pytest.approx((2 / 4, 2 / 2))
    assert math.isnan(ratio(Estimate(1.0, 0.5, 1.5, 9), Estimate(1.0, 0.0, 2.0, 9)).value)


def test_a_ratio_of_two_uncertain_figures_is_covered():
    rng = np.random.default_rng(2)
    a, b = 2 + 0.2 * rng.normal(size=4000), 4 + 0.6 * rng.normal(size=4000)
    half = 1.6449  # of a standard deviation, for 5% on each side
    made = [
        ratio(Estimate(x, x - half * 0.2, x + half * 0.2, 9), Estimate(y, y - half * 0.6, y + half * 0.6, 9))
        for x, y in zip(a, b, strict=True)
    ]
    assert 0.93 < np.mean([one.low <= 0.5 for one in made]) < 0.97
    assert 0.93 < np.mean([one.high >= 0.5 for one in made]) < 0.97


def noise(rng, memory, size=30, warm=60):
    drawn = rng.normal(size=size + warm)
    for place in range(1, len(drawn)):
        drawn[place] += memory * drawn[place - 1]
    return drawn[warm:]


@pytest.mark.parametrize("statistic", [level, change, trend])
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


@pytest.mark.parametrize(("ends", "read"), [([1.0] * 3, True), ([1.0, 1.0, None], True), ([1.0, None, None], False)])
def test_what_ends_in_nulls_is_not_judged_by_what_it_was_before(ends, read):
    assert (series([{"a": value} for value in [1.0] * 27 + ends], "a") is not None) is read


def test_a_last_third_with_too_many_nulls_or_infinities_is_not_read():
    for bad in (None, math.inf, math.nan):
        values = [1.0] * 20 + [bad, 1.0, bad, 1.0, bad, 1.0, 1.0, 1.0, 1.0, 1.0]  # 7 of the last 10, 27 of 30
        assert series([{"a": value} for value in values], "a") is None
    values = [bad, 1.0, bad, 1.0, bad, *[1.0] * 25]
    assert len(series([{"a": value} for value in values], "a")[0]) == 27


@pytest.mark.parametrize("memory", [0.0, 0.5])
@pytest.mark.parametrize("size", [10, 30, 100])
@pytest.mark.parametrize("shape", ["flat", "linear", "saturating", "step"])
def test_bounds_of_a_size_hold_whatever_the_course(shape, size, memory):
    time = np.linspace(0, 1, size)
    curve = {"flat": 0 * time, "linear": time, "saturating": 1 - np.exp(-time / 0.1), "step": 1.0 * (time >= 0.5)}[
        shape
    ]
    own = curve[-math.ceil(size / 3) :].mean() - curve[0]
    rng = np.random.default_rng(3)
    scale = 0.2 * math.sqrt(1 - memory**2)
    made = [change(curve + scale * noise(rng, memory, size)) for _ in range(600)]
    assert np.mean([one.low <= own for one in made]) > 0.88  # 90%, less twice the error of 600 runs
    assert np.mean([one.high >= own for one in made]) > 0.88
