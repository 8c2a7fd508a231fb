"""Correlation, slope and gain within prompt: worked by hand, against independent formulas, and with a known truth."""

import numpy as np
import pytest

from kellet.stats.within_prompt import centred, correlation, equal_length_gain, length_slope, slope_at_equal_length

PROMPTS = np.repeat(np.arange(12), 2)
SETTINGS = {"alpha": 0.05, "resamples": 400, "seed": 0}


def drawn(n=300, seed=0):
    """Three answers to each prompt; x and z go together, y follows x, and prompts differ a lot in all of them."""
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(n), 3)
    z = rng.normal(size=3 * n)
    x = 0.6 * z + rng.normal(size=3 * n)
    y = 0.5 * x - 0.4 * z + rng.normal(size=3 * n)
    prompt = 5 * rng.normal(size=n)
    return codes, x + prompt[codes], y - 2 * prompt[codes], z + prompt[codes]


def less_means(values, codes):
    means = np.array([values[codes == code].mean() for code in range(codes.max() + 1)])
    return values - means[codes]


def test_values_are_centred_in_their_own_cluster_and_a_cluster_may_be_empty():
    assert centred([1.0, 3.0, 10.0], np.array([0, 0, 2]), 3).tolist() == [-1.0, 1.0, 0.0]


def test_it_is_pearsons_of_what_the_prompts_leave():
    codes, x, y, _ = drawn()
    result = correlation(x, y, codes, **SETTINGS)
    assert result.value == pytest.approx(np.corrcoef(less_means(x, codes), less_means(y, codes))[0, 1])
    assert np.corrcoef(x, y)[0, 1] < -0.8 < 0 < result.low  # over prompts it has the other sign


def test_held_columns_give_the_partial_correlation():
    codes, x, y, z = drawn()
    r = np.corrcoef([less_means(column, codes) for column in (x, y, z)])
    partial = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert correlation(x, y, codes, z[:, None], **SETTINGS).value == pytest.approx(partial)


def test_the_interval_of_the_correlation_covers_the_true_value():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        codes = np.repeat(np.arange(80), 2)
        x = rng.normal(size=160)
        y = 0.75 * x + rng.normal(size=160)  # correlation 0.6
        result = correlation(x, y, codes, **SETTINGS)
        covered += result.low <= 0.6 <= result.high
    assert 165 <= covered <= 195


def test_without_variation_there_is_no_correlation():
    codes = np.repeat(np.arange(50), 2)
    assert correlation(np.ones(100), np.random.default_rng(0).normal(size=100), codes, **SETTINGS) is None


def answers(n, seed, slope=0.5):
    """``n`` prompts with three answers: an axis that goes with length, and a reward that pays for both."""
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(n), 3)
    length = rng.integers(10, 60, 3 * n).astype(float)
    axis = np.floor(length / 20) + rng.integers(0, 3, 3 * n)
    reward = rng.normal(0, 1, n)[prompt] + slope * axis + 0.03 * length + rng.normal(0, 0.4, 3 * n)
    return reward, axis, length, prompt


def test_the_slope_is_that_of_least_squares_with_a_dummy_for_each_prompt():
    reward, axis, length, prompt = answers(40, 0)
    design = np.column_stack([axis, length, prompt[:, None] == np.arange(40)])
    reference = np.linalg.lstsq(design, reward, rcond=None)[0][0]
    result = slope_at_equal_length(reward, axis, length, prompt)
    assert result.value == pytest.approx(reference, rel=1e-9)
    assert result.low < 0.5 < result.high
    alone = np.linalg.lstsq(np.delete(design, 1, axis=1), reward, rcond=None)[0][0]
    assert alone > reference + 0.1  # without length held, the axis is paid for length too


def test_the_interval_of_the_slope_holds_the_truth_as_often_as_it_says():
    result = [slope_at_equal_length(*answers(60, seed), resamples=400) for seed in range(150)]
    held = np.mean([estimate.low <= 0.5 <= estimate.high for estimate in result])
    assert 0.84 <= held <= 0.96  # 0.90 with three standard errors of 150 draws


def test_without_variation_there_is_no_slope():
    reward, axis, length, prompt = answers(40, 0)
    assert slope_at_equal_length(reward, np.zeros_like(axis), length, prompt) is None
    assert slope_at_equal_length(reward, 2 * length, length, prompt) is None  # the axis is length
    assert slope_at_equal_length(reward, np.where(prompt < 9, axis, 0), length, prompt) is None  # nine prompts
    same = slope_at_equal_length(reward, axis, np.full_like(length, 30.0), prompt)
    assert same is not None
    assert same.finite


def hand_worked():
    """Twelve prompts, two answers each, two tokens and one reward apart: the slope is one half, whatever the prompt."""
    length = np.tile([10.0, 12.0], 12)
    reward = np.repeat(np.arange(12.0) ** 2, 2) + np.tile([0.0, 1.0], 12)
    return reward, length


def test_slope_by_hand():
    reward, length = hand_worked()
    slope = length_slope(reward, length, PROMPTS, resamples=300)
    assert (slope.value, slope.low, slope.high) == pytest.approx((0.5, 0.5, 0.5))


def test_the_gain_is_split_by_hand():
    reward, length = hand_worked()
    # four tokens more at one half each explain 2 of the gain of 3
    split = equal_length_gain((reward, reward + 3), (length, length + 4), (PROMPTS, PROMPTS), resamples=300)
    assert split.explained.value == pytest.approx(2)
    assert split.remaining.value == pytest.approx(1)


def test_length_between_prompts_does_not_count():
    reward, length = hand_worked()
    longer_prompts = length + 10 * PROMPTS  # long answers to prompts of high reward: no slope within prompt
    assert length_slope(reward, longer_prompts, PROMPTS, resamples=300).value == pytest.approx(0.5)


def test_one_answer_a_prompt_cannot_tell():
    assert length_slope(np.arange(30.0), np.arange(30.0), np.arange(30)) is None


def test_bounds_of_the_remaining_gain_miss_about_alpha_of_the_time():
    missed = np.zeros(2)
    prompt = np.repeat(np.arange(64), 2)
    for seed in range(300):
        rng = np.random.default_rng(seed)
        shared, length = rng.normal(size=64)[prompt], rng.normal(30, 6, (2, 128))
        length[1] += 6
        reward = shared + 0.05 * length + rng.normal(size=(2, 128))
        reward[1] += 0.4
        split = equal_length_gain(tuple(reward), tuple(length), (prompt, prompt), resamples=300, seed=seed)
        missed += [split.remaining.low > 0.4, split.remaining.high < 0.4]
    assert (missed / 300 >= 0.015).all()
    assert (missed / 300 <= 0.09).all()


def test_the_share_by_hand_and_no_share_of_nothing():
    reward, length = hand_worked()
    # four tokens at one half each are two thirds of a gain of 3; a gain that may be zero has no share
    split = equal_length_gain((reward, reward + 3), (length, length + 4), (PROMPTS, PROMPTS), resamples=300)
    assert split.share.value == pytest.approx(2 / 3)
    wobble = np.repeat([1.0, -1.0], 12)
    split = equal_length_gain((reward, reward + wobble), (length, length + 4), (PROMPTS, PROMPTS), resamples=300)
    assert not split.share.finite
