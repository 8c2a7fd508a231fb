"""The gain at equal length: worked by hand, and a population with known truth."""

import numpy as np
import pytest

from kellet.stats.equal_length import equal_length_gain, length_slope

PROMPTS = np.repeat(np.arange(12), 2)


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
