"""The cluster bootstrap, against hand-worked cases, Student's t, a simulation with known truth, and laws."""

import numpy as np
import pytest
from scipy import stats

from kellet.errors import DataError
from kellet.stats import resampling
from kellet.stats.bootstrap import mean, mean_difference, ratio_of_means

SETTINGS = {"alpha": 0.05, "resamples": 400, "seed": 0}


def test_mean_difference_by_hand():
    # prompt A: 4 - (1 + 3)/2 = 2; prompt B: (2 + 4)/2 - 2 = 1; their mean is 1.5, though the pooled means differ by 4/3
    estimate = mean_difference([1, 3, 2], [4, 2, 4], ["A", "A", "B"], ["A", "B", "B"], **SETTINGS)
    assert estimate.value == 1.5
    assert estimate.clusters == 2


def test_ratio_by_hand():
    # means of prompts: reference 20 and 30, candidate 30 and 45: (30 + 45)/(20 + 30) = 1.5
    estimate = ratio_of_means([10, 30, 30], [30, 45], [1, 1, 2], [1, 2], **SETTINGS)
    assert estimate.value == pytest.approx(1.5)


def test_a_constant_ratio_has_no_width():
    lengths = np.arange(1.0, 31.0)
    estimate = ratio_of_means(lengths, 1.1 * lengths, range(30), range(30), **SETTINGS)
    assert (estimate.low, estimate.high) == pytest.approx((1.1, 1.1))


def test_normal_data_give_students_interval():
    values = np.random.default_rng(1).normal(2, 3, 400)
    low, high = stats.t.interval(0.90, 399, values.mean(), stats.sem(values))
    estimate = mean(values, alpha=0.05, resamples=20_000, seed=2)
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=0.03 * (high - low))


def test_skewed_data_lean_to_their_long_side():
    estimate = mean(np.random.default_rng(0).lognormal(0, 1, 60), **SETTINGS)
    assert estimate.high - estimate.value > 1.15 * (estimate.value - estimate.low)


@pytest.mark.parametrize("clusters", [20, 100])
def test_each_bound_misses_about_alpha_of_the_time(clusters):
    missed = np.zeros(2)
    for seed in range(400):
        rng = np.random.default_rng(seed)
        prompt = np.repeat(np.arange(clusters), 3)
        shared = rng.gamma(2, 1, clusters)  # answers to a prompt share half of their variance
        values = shared[prompt] + rng.gamma(2, 1, 3 * clusters)
        estimate = mean_difference(np.zeros(3 * clusters), values, prompt, prompt, alpha=0.05, resamples=300, seed=seed)
        missed += [estimate.low > 4.0, estimate.high < 4.0]  # the mean of both gammas is 2
    assert (missed / 400 >= 0.02).all()
    assert (missed / 400 <= 0.09).all()


def test_swapping_the_systems_flips_the_sign():
    rng = np.random.default_rng(3)
    a, b, prompt = rng.normal(size=80), rng.gamma(2, size=80), np.repeat(np.arange(40), 2)
    forth, back = (mean_difference(x, y, prompt, prompt, **SETTINGS) for x, y in ((a, b), (b, a)))
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_order_of_rows_does_not_matter_and_the_seed_does():
    rng = np.random.default_rng(4)
    values, prompt, order = rng.normal(size=90), np.repeat(np.arange(45), 2), rng.permutation(90)
    zero = np.zeros(90)
    one = mean_difference(zero, values, prompt, prompt, **SETTINGS)
    two = mean_difference(zero, values[order], prompt, prompt[order], **SETTINGS)
    other = mean_difference(zero, values, prompt, prompt, alpha=0.05, resamples=400, seed=1)
    assert (two.low, two.high) == pytest.approx((one.low, one.high), rel=1e-12)
    assert other.low != one.low
    assert one == mean_difference(zero, values, prompt, prompt, **SETTINGS)


def test_chunks_do_not_change_the_draws(monkeypatch):
    values = np.random.default_rng(5).normal(size=50)
    whole = mean(values, **SETTINGS)
    monkeypatch.setattr(resampling, "CHUNK", 50 * 7)
    split = mean(values, **SETTINGS)
    assert (split.low, split.high) == pytest.approx((whole.low, whole.high), rel=1e-12)


def test_a_count_that_one_prompt_has_gets_possible_ends():
    # resamples have Binomial(256, 1/256) of it: P(at most 2) = 92.0%, P(at most 3) = 98.2%; se is 1/256 exactly
    estimate = mean(np.array([1.0] + [0.0] * 255), alpha=0.05, resamples=4000, seed=0)
    assert estimate.high == pytest.approx(3 / 256)
    assert estimate.low == pytest.approx((1 - stats.t.ppf(0.95, 255)) / 256)
    other = mean(np.array([-1.0] + [0.0] * 255), alpha=0.05, resamples=4000, seed=0)
    assert (other.low, other.high) == pytest.approx((-estimate.high, -estimate.low))


def test_a_ratio_of_lengths_is_not_negative():
    lengths = np.zeros(20)
    lengths[0] = 5.0
    estimate = ratio_of_means(np.full(20, 10.0), lengths, range(20), range(20), **SETTINGS)
    assert estimate.low == 0
    assert estimate.value < estimate.high < 0.1  # 0.025 on average, of a prompt that is drawn at most a few times


def test_one_prompt_says_nothing_about_the_next():
    estimate = mean(np.array([3.0]), **SETTINGS)
    assert (estimate.value, estimate.low, estimate.high) == (3.0, -np.inf, np.inf)
    assert not estimate.finite


def test_prompts_on_one_side_only_are_refused():
    with pytest.raises(DataError, match="one side only"):
        mean_difference([1, 2], [1], [1, 2], [1], **SETTINGS)


def test_a_ratio_to_nothing_is_no_ratio():
    assert np.isnan(ratio_of_means([0, 0], [1, 2], [1, 2], [1, 2], **SETTINGS).value)
