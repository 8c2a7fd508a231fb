"""Calibration against labels drawn from known probabilities, and worked by hand."""

import numpy as np
import pytest
from scipy.special import expit

from kellet.stats.calibration import (
    best_temperature,
    calibration,
    expected_error,
    log_loss,
    overconfidence,
    reliability,
    temperature,
)


def pairs(n, scale, seed):
    """Logits whose labels come true as σ(gap/scale); prompts of two pairs."""
    rng = np.random.default_rng(seed)
    size = np.abs(rng.normal(0, 1.5, n))
    return np.where(rng.random(n) < expit(size / scale), size, -size), np.arange(n) // 2


def test_log_loss_by_hand():
    # -log 3/4 and -log 1/4; at temperature 2, σ = sqrt(3)/(1 + sqrt(3)) = 0.6340
    gap = np.log(3.0) * np.array([1.0, -1.0])
    assert log_loss(gap) == pytest.approx((0.287682 + 1.386294) / 2, abs=1e-6)
    assert log_loss(gap[:1], 2.0) == pytest.approx(0.455746, abs=1e-5)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_labels_is_found(scale):
    gap, _ = pairs(40_000, scale, 0)
    assert best_temperature(gap) == pytest.approx(scale, rel=0.05)


def test_the_expected_error_by_hand():
    # one bin (fewer than 40 pairs): confidence 3/4 of all, half of them right
    gap = np.log(3.0) * np.repeat([1.0, -1.0], 15)
    result, _ = expected_error(gap, np.arange(30), alpha=0.05, resamples=500, seed=0)
    assert result.value == pytest.approx(0.25)
    assert 0 < result.low < 0.25 < result.high
    # binomial of 30: standard error 0.0913, one-sided 95%: 1.645 of it
    assert result.high == pytest.approx(0.25 + 0.15, abs=0.03)
    (row,) = reliability(gap, np.arange(30), alpha=0.05)
    assert (row["pairs"], row["confidence"], row["right"]["value"]) == (30, pytest.approx(0.75), 0.5)


def test_a_calibrated_model_is_not_accused_and_an_over_confident_one_is():
    accused = {1.0: 0, 2.5: 0}
    for scale in accused:
        for seed in range(20):
            result, chance = expected_error(*pairs(400, scale, seed), alpha=0.05, resamples=200, seed=seed)
            accused[scale] += result.low > 0
            if scale == 1.0:
                assert 0.3 * chance < result.value < 2.5 * chance
    assert accused[1.0] <= 4  # 5% of 20, with three standard errors
    assert accused[2.5] == 20


def test_bins_hold_equal_numbers_in_order_of_confidence():
    rows = reliability(*pairs(415, 1.0, 0), alpha=0.05)
    assert len(rows) == 10
    assert sum(row["pairs"] for row in rows) == 415
    assert {row["pairs"] for row in rows} == {41, 42}
    confidences = [row["confidence"] for row in rows]
    assert confidences == sorted(confidences)
    assert all(0.5 <= confidence <= 1 for confidence in confidences)


def test_a_temperature_never_makes_the_log_loss_worse():
    result = calibration(*pairs(200, 2.0, 3), alpha=0.05, resamples=200, seed=0)
    assert result["log_loss_at_temperature"] < result["log_loss"]
    assert result["temperature"]["value"] > 1


@pytest.mark.parametrize(("scale", "size"), [(1.0, 200), (2.5, 200), (2.5, 1500)])
def test_the_interval_of_a_temperature_covers_the_one_that_made_the_labels(scale, size):
    result = [temperature(*pairs(size, scale, seed), alpha=0.05) for seed in range(300)]
    missed_low = sum(scale < each.low for each in result)
    missed_high = sum(scale > each.high for each in result)
    # 5% of 300 at each end is 15, with a binomial standard error of 3.8
    assert 4 <= missed_low <= 27
    assert 4 <= missed_high <= 27


def test_pairs_of_a_prompt_that_say_the_same_do_not_narrow_the_temperature():
    gap, prompts = pairs(400, 2.0, 0)
    once = temperature(gap, prompts, alpha=0.05)
    thrice = temperature(np.tile(gap, 3), np.tile(prompts, 3), alpha=0.05)
    assert (thrice.value, thrice.low, thrice.high) == pytest.approx((once.value, once.low, once.high), rel=1e-6)


def test_labels_without_a_temperature_have_no_interval():
    # chosen at random: no temperature is too high
    gap = np.where(np.arange(200) % 2 == 0, 2.0, -2.0)
    result = temperature(gap, np.arange(200), alpha=0.05)
    assert result.high == np.inf


def test_overconfidence_by_hand():
    # sure of 3/4, right in half: 25 points too sure
    gap = np.log(3.0) * np.repeat([1.0, -1.0], 50)
    result = overconfidence(gap, np.arange(100), alpha=0.05, resamples=500, seed=0)
    assert result.value == pytest.approx(0.25)
    # binomial of 100: standard error 0.05, one-sided 95%: 1.645 of it
    assert (result.low, result.high) == pytest.approx((0.25 - 0.082, 0.25 + 0.082), abs=0.015)
