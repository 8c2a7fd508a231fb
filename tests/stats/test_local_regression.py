"""The gain at equal length by local regression: pairs and sums by hand, and prices of every shape."""

import numpy as np
import pytest

from kellet.stats.local_regression import MIN_CLUSTERS, crosswise, local_gain


def test_every_answer_is_paired_with_every_answer_to_its_prompt():
    pairs = crosswise(["x", "x", "y", "z"], ["y", "x", "x", "x"])
    named = sorted(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    # x: rows 0 and 1 of a, rows 1, 2, 3 of b; y: row 2 of a, row 0 of b; z has none
    assert named == [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (1, 3), (2, 0)]
    assert pairs.prompt.tolist() == [{0: 0, 1: 0, 2: 1}[row] for row in pairs.a.tolist()]


def test_of_many_answers_each_has_eight_different_partners():
    pairs = crosswise(np.zeros(20), np.zeros(20))
    assert len(pairs.a) == 20 * 8
    assert len(set(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))) == 20 * 8
    assert np.bincount(pairs.b).tolist() == [8] * 20  # and each of b is asked as often


def test_equally_long_answers_give_the_plain_mean_with_its_t_interval():
    """Nothing to regress on: the mean of the differences, and the jackknife's error is the usual s/√n."""
    gains = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    prompt, length = np.arange(10), np.full(10, 7.0)
    result = local_gain((np.zeros(10), gains), (length, length), (prompt, prompt), 2.0, alpha=0.05)
    assert result.gain.value == pytest.approx(5.5)
    # s = 3.02765, s/√10 = 0.95743, t(0.95; 9) = 1.83311
    assert (result.gain.low, result.gain.high) == pytest.approx((5.5 - 1.75507, 5.5 + 1.75507), rel=1e-5)
    assert (result.pairs, result.shortest, result.longest) == (10, 7.0, 7.0)


def test_a_quadratic_price_is_taken_out_exactly():
    """Without noise d = gain + f(length_b) - f(length_a), which for a quadratic f is gain + f'(m)·Δ: in the model."""
    rng = np.random.default_rng(3)
    prompt = np.repeat(np.arange(60), 2)
    before, after = rng.integers(20, 40, 120).astype(float), rng.integers(22, 36, 120).astype(float)

    def price(length):
        return -0.004 * (length - 30) ** 2 + 0.1 * length

    result = local_gain((price(before), 0.25 + price(after)), (before, after), (prompt, prompt), 6.0)
    assert result.gain.value == pytest.approx(0.25, abs=1e-6)
    assert result.gain.low == pytest.approx(0.25, abs=1e-6)


def test_nothing_beyond_the_bandwidth_is_used():
    rng = np.random.default_rng(0)
    prompt = np.repeat(np.arange(40), 2)
    before = np.tile([30.0, 30.0], 40)
    after = np.tile([30.0, 40.0], 40)
    reward = rng.normal(size=80)
    other = np.where(after == 40, 1e6, reward)
    results = [
        local_gain((np.zeros(80), each), (before, after), (prompt, prompt), 5.0).gain for each in (reward, other)
    ]
    assert results[0] == results[1]
    assert local_gain((np.zeros(80), reward), (before, before + 10), (prompt, prompt), 5.0) is None


def test_clusters_take_the_place_of_prompts():
    """Each of ten prompts asked five times, with the same answers: the interval of the ten."""
    gains, length = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]), np.full(10, 7.0)
    once = local_gain((np.zeros(10), gains), (length, length), (np.arange(10), np.arange(10)), 2.0).gain
    often, ids = np.tile(gains, 5), np.arange(50)
    lengths = np.full(50, 7.0), np.full(50, 7.0)
    result = local_gain((np.zeros(50), often), lengths, (ids, ids), 2.0, group=np.tile(np.arange(10), 5)).gain
    assert (result.value, result.low, result.high) == pytest.approx((once.value, once.low, once.high))
    assert (result.clusters, result.of) == (10, "clusters")
    few = np.tile(np.arange(MIN_CLUSTERS - 1), 6)[:50]
    assert local_gain((np.zeros(50), often), lengths, (ids, ids), 2.0, group=few) is None


@pytest.mark.parametrize("shape", ["quadratic", "saturating", "half of the prompts", "by prompt"])
def test_a_gain_that_is_all_length_is_shown_in_about_alpha_of_the_draws(shape):
    """At alpha 0.05 and 300 draws, 24 (8%) would happen by chance in 1% of the times."""
    shown = 0
    for seed in range(300):
        rng = np.random.default_rng([seed, 7])
        prompt = np.repeat(np.arange(128), 2)
        before, after = rng.normal(30, 6, 256), rng.normal(30, 6, 256)
        if shape == "quadratic":
            after = rng.normal(30, 3, 256)
            price = lambda length: -0.004 * (length - 30) ** 2  # noqa: E731
        elif shape == "saturating":
            after = after + 2
            price = lambda length: 0.1 * np.minimum(length, 34)  # noqa: E731
        elif shape == "half of the prompts":
            paid = prompt % 2 == 0
            after = after + np.where(paid, 5, -3)
            price = lambda length, paid=paid: 0.1 * length * paid  # noqa: E731
        else:
            slope = rng.normal(0.08, 0.08, 128)[prompt]
            after = after + 1.5 / 0.08 * slope
            price = lambda length, slope=slope: slope * length  # noqa: E731
        before, after = np.round(before), np.round(after)
        rewards = [price(length) + rng.normal(size=256) for length in (before, after)]
        result = local_gain(tuple(rewards), (before, after), (prompt, prompt), 6.0)
        shown += result.gain.low > 0
    assert shown <= 24
