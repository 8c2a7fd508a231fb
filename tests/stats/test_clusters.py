"""Prompts that are not independent: what shares a cluster is resampled together, in every statistic."""

import numpy as np
import pytest

from kellet.stats.bootstrap import groups_of, mean, mean_difference, ratio_of_means
from kellet.stats.shares import count_difference, quantile, share_difference
from kellet.stats.win_rate import length_controlled, win_rate
from kellet.stats.within_prompt import equal_length_gain

SETTINGS = {"alpha": 0.05, "resamples": 500, "seed": 0}
TIMES = 7
RNG = np.random.default_rng(1)
A, B = RNG.normal(5, 1, 40), RNG.normal(5.3, 1, 40)
IDS = np.arange(40)
MANY = np.arange(40 * TIMES)
GROUP = np.tile(IDS, TIMES)


def ends(estimate):
    return pytest.approx((estimate.value, estimate.low, estimate.high), rel=1e-9)


def three(estimate):
    return estimate.value, estimate.low, estimate.high


def test_groups_are_numbered_in_the_order_of_prompts_and_none_when_each_is_its_own():
    assert groups_of(["b", "b", "a", "b"], [3, 1, 2, 1]).tolist() == [1, 0, 1]
    assert groups_of(["x", "y", "z"], [1, 2, 3]) is None
    assert groups_of(None, [1, 2, 3]) is None


@pytest.mark.parametrize("statistic", [mean_difference, ratio_of_means])
def test_copies_of_prompts_in_clusters_say_no_more_than_the_prompts(statistic):
    once = statistic(A, B, IDS, IDS, **SETTINGS)
    copies = statistic(np.tile(A, TIMES), np.tile(B, TIMES), MANY, MANY, **SETTINGS, group=GROUP)
    assert three(copies) == ends(once)
    assert (copies.clusters, copies.of) == (40, "clusters")
    alone = statistic(np.tile(A, TIMES), np.tile(B, TIMES), MANY, MANY, **SETTINGS)
    assert alone.high - alone.low < 0.6 * (once.high - once.low)  # √7 = 2.6 times too sure


def test_the_gain_at_equal_length_of_copies_is_that_of_the_prompts():
    rng = np.random.default_rng(2)
    prompt = np.repeat(IDS, 2)
    values = [rng.normal(size=80) for _ in range(4)]
    sides = (values[0], values[1]), (values[2] + 30, values[3] + 30)
    once = equal_length_gain(*sides, (prompt, prompt), **SETTINGS)
    often = np.repeat(MANY, 2)
    copied = [tuple(np.tile(side, TIMES) for side in pair) for pair in sides]
    copies = equal_length_gain(*copied, (often, often), **SETTINGS, group=np.tile(prompt, TIMES))
    for name in ("slope", "explained", "remaining"):
        assert three(getattr(copies, name)) == pytest.approx(three(getattr(once, name)), rel=1e-6)


def test_shares_and_quantiles_of_copies_keep_the_width_of_the_prompts():
    won = (A > 5).astype(float)
    once, copies = win_rate(won, IDS), win_rate(np.tile(won, TIMES), MANY, group=GROUP)
    assert three(copies) == pytest.approx(three(once), rel=0.02)  # Wilson's n is bounded by prompts and by clusters
    assert copies.clusters == 40
    marks_a, marks_b = A > 5, B > 5
    once = share_difference(marks_a, marks_b, IDS, IDS)
    copies = share_difference(np.tile(marks_a, TIMES), np.tile(marks_b, TIMES), MANY, MANY, group=GROUP)
    # Student's t of 39 degrees of freedom for the normal, 1.685/1.645; the two made-up prompts weigh a seventh
    assert copies.high - copies.low == pytest.approx((once.high - once.low) * 1.6849 / 1.6449, rel=0.08)
    never = share_difference(np.zeros(280), np.zeros(280), MANY, MANY, group=GROUP)
    assert (never.low, never.high) == pytest.approx((-1.6849 * 2**0.5 / 282, 1.6849 * 2**0.5 / 282), rel=1e-3)
    once, copies = quantile(A, 0.5, IDS), quantile(np.tile(A, TIMES), 0.5, MANY, group=GROUP)
    assert copies.high - copies.low > 0.7 * (once.high - once.low)
    few = np.zeros(40)
    few[:2] = 1
    copied = count_difference(np.tile(few, TIMES), **SETTINGS, groups=GROUP)
    assert copied.low < 0 < copied.high


def test_the_win_rate_at_equal_length_of_copies_keeps_its_width():
    rng = np.random.default_rng(4)
    won, shorter, longer = (rng.random(40) < 0.6).astype(float), rng.normal(30, 5, 40), rng.normal(30, 5, 40)
    once = length_controlled(won, shorter, longer, IDS)
    copied = [np.tile(values, TIMES) for values in (won, shorter, longer)]
    copies = length_controlled(*copied, MANY, group=GROUP)
    widths = [result.interval[1] - result.interval[0] for result in (once, copies)]
    assert widths[1] == pytest.approx(widths[0], rel=0.1)  # the prior weighs a seventh
    assert copies.clusters == 40


def test_sixteen_topics_that_share_their_gain_are_covered():
    """Nominal 90%; 400 draws have a standard error of 1.5 points."""
    held = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        topic = np.repeat(np.arange(16), 16)
        gain = rng.normal(0, 0.4, 16)[topic] + rng.normal(0, 1, 256)
        estimate = mean(gain, alpha=0.05, resamples=400, seed=0, groups=topic)
        held += estimate.low <= 0 <= estimate.high
    assert held >= 0.86 * 400


def test_unequal_clusters_weigh_by_their_prompts():
    groups = np.array([0] * 8 + [1, 2, 3, 4])
    values = np.arange(12.0)
    assert mean(values, **SETTINGS, groups=groups).value == pytest.approx(values.mean())


def test_a_small_level_reaches_further_than_the_resamples_show():
    """Of normal data the ends follow the normal quantiles: 3.29 at 0.0005 for 1.645 at 0.05."""
    values = np.random.default_rng(0).normal(size=4000)
    widths = []
    for alpha in (0.05, 0.0005):
        estimate = mean(values, alpha=alpha, resamples=2000, seed=0)
        widths.append(estimate.high - estimate.low)
    assert widths[1] / widths[0] == pytest.approx(3.2905 / 1.6449, rel=0.05)
