"""Win rates, shares, quantiles and the win rate at equal length: published values, hand-worked cases, laws."""

import numpy as np
import pytest
from scipy import optimize

from kellet.stats.bootstrap import Estimate, mean
from kellet.stats.shares import count_difference, quantile, share_difference
from kellet.stats.win_rate import LENGTH_PRIOR, QUALITY_PRIOR, corrected, length_controlled, wilson, win_rate

INTERVALS = {"alpha": 0.05, "resamples": 400, "seed": 0}


def test_wilson_interval_as_published():
    # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3: 81 of 263, 95%: 0.2553 to 0.3662
    estimate = win_rate([1] * 81 + [0] * 182, alpha=0.025)
    assert (estimate.low, estimate.high) == pytest.approx((0.2553, 0.3662), abs=5e-4)


def test_ties_count_half():
    assert win_rate([1, 0.5, 0.5, 0], None).value == 0.5


def test_prompts_weigh_the_same():
    # prompt 1 won once of once, prompt 2 lost three times of three: one half, not one quarter
    assert win_rate([1, 0, 0, 0], [1, 2, 2, 2]).value == 0.5


def test_all_won_is_not_certainty():
    assert 0.90 < win_rate(np.ones(40)).low < 0.95  # the exact bound of 40 of 40 is 0.05 ** (1/40) = 0.928


def test_answers_that_agree_within_prompt_count_once():
    wins = np.random.default_rng(0).integers(0, 2, 60).astype(float)
    once, copied = win_rate(wins), win_rate(np.repeat(wins, 5), np.repeat(np.arange(60), 5))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize(("truth", "prompts"), [(0.5, 40), (0.8, 40), (0.65, 200)])
def test_win_rate_bounds_miss_about_alpha_of_the_time(truth, prompts):
    low = high = 0
    for seed in range(1000):
        estimate = win_rate(np.random.default_rng(seed).random(prompts) < truth)
        low, high = low + (estimate.low > truth), high + (estimate.high < truth)
    assert 0.015 <= low / 1000 <= 0.085
    assert 0.015 <= high / 1000 <= 0.085


def test_an_erring_judge_is_undone():
    # who is right in 80% sees 0.8·0.7 + 0.2·0.3 = 0.62 of a true 0.7
    assert corrected(Estimate(0.62, 0.5, 0.9, 50), 0.2) == Estimate(pytest.approx(0.7), pytest.approx(0.5), 1.0, 50)


def test_share_difference_by_hand():
    # 98 prompts without any difference, and the two made-up ones: sd = sqrt(2/100), half = 1.6449·0.14142/10 = 0.02326
    estimate = share_difference(np.zeros(98), np.zeros(98), range(98), range(98))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0, -0.02326, 0.02326), abs=1e-5)


def test_share_difference_flips_with_the_systems():
    rng = np.random.default_rng(1)
    a, b, prompt = rng.random(60) < 0.1, rng.random(60) < 0.4, np.repeat(np.arange(30), 2)
    forth, back = share_difference(a, b, prompt, prompt), share_difference(b, a, prompt, prompt)
    assert (back.value, back.low, back.high) == pytest.approx((-forth.value, -forth.high, -forth.low))


def test_interval_of_the_median_as_tabulated():
    # eleven values: P(Binomial(11, 1/2) <= 2) = 0.0327 and P(<= 3) = 0.113, so the 3rd and the 9th are the bounds
    estimate = quantile(np.arange(1.0, 12.0), 0.5)
    assert (estimate.value, estimate.low, estimate.high) == (6, 3, 9)


def test_the_95th_percentile_needs_59_answers():
    # 0.95 ** 58 = 0.051 > 0.05 > 0.0485 = 0.95 ** 59
    assert quantile(np.arange(58.0), 0.95).high == np.inf
    assert quantile(np.arange(59.0), 0.95).high == 58.0


def test_quantile_counts_prompts_when_their_answers_agree():
    values = np.random.default_rng(2).gamma(2, size=100)
    once, copied = quantile(values, 0.95), quantile(np.repeat(values, 4), 0.95, np.repeat(np.arange(100), 4))
    assert copied.high == once.high


def lengths(n=400, shift=0.0, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.normal(30, 6, n)
    return a, a + rng.normal(shift, 6, n), rng


def test_logistic_fit_agrees_with_a_general_optimiser():
    a, b, rng = lengths(shift=3.0)
    preference = rng.choice([0, 0.25, 0.5, 1], 400)
    x = np.tanh((b - a) / np.std(b - a))

    def minus_log_posterior(w):
        z = w[0] + w[1] * x
        likelihood = preference * np.logaddexp(0, -z) + (1 - preference) * np.logaddexp(0, z)
        return likelihood.sum() + w[0] ** 2 / (2 * QUALITY_PRIOR**2) + w[1] ** 2 / (2 * LENGTH_PRIOR**2)

    best = optimize.minimize(minus_log_posterior, [0, 0], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    result = length_controlled(preference, a, b)
    assert result.controlled == pytest.approx(1 / (1 + np.exp(-best.x[0])), abs=1e-6)
    assert result.length_effect == pytest.approx(best.x[1], abs=1e-5)


def test_wins_by_length_alone_vanish_at_equal_length():
    a, b, _ = lengths(4000, shift=4.0)
    result = length_controlled((b > a).astype(float), a, b)
    assert result.raw > 0.7
    assert result.controlled < 0.6  # the prior keeps the slope of a step finite, so not quite one half


def test_length_that_does_not_matter_changes_nothing():
    a, b, rng = lengths(4000, shift=3.0)
    result = length_controlled((rng.random(4000) < 0.7).astype(float), a, b)
    assert result.controlled == pytest.approx(result.raw, abs=0.02)
    assert result.interval[0] < 0.7 < result.interval[1]


def test_equal_lengths_give_the_raw_rate():
    preference = np.array([1, 0] * 20 + [1] * 20)
    result = length_controlled(preference, np.full(60, 30), np.full(60, 30))
    assert result.identified
    assert result.controlled == pytest.approx(2 / 3, abs=0.002)  # the weak prior moves it a little


def test_swapping_turns_the_rate_round():
    a, b, rng = lengths(shift=2.0)
    preference = rng.random(400)
    forth, back = length_controlled(preference, a, b), length_controlled(1 - preference, b, a)
    assert back.controlled == pytest.approx(1 - forth.controlled)
    assert back.interval == pytest.approx((1 - forth.interval[1], 1 - forth.interval[0]))


def test_lengths_that_barely_overlap_are_not_identified():
    a, b, rng = lengths(shift=25.0)
    result = length_controlled(rng.random(400), a, b)
    assert not result.identified
    assert result.controlled is None
    assert result.interval is None
    assert "extrapolation" in result.reason


@pytest.mark.parametrize(("no_longer", "identified"), [(0.19, False), (0.21, True)])
def test_a_fifth_of_the_pairs_on_each_side_identifies(no_longer, identified):
    lengths_b = np.where(np.arange(1000) < 1000 * no_longer, 29.0, 33.0)
    assert length_controlled(np.tile([0.0, 1.0], 500), np.full(1000, 30.0), lengths_b).identified is identified


def test_a_separated_fit_stays_finite_and_unsure():
    a, b, _ = lengths(40)
    result = length_controlled(np.ones(40), a, b)
    assert 0.95 < result.controlled < 1
    assert result.interval[0] < 0.95


def test_controlled_bounds_miss_about_alpha_of_the_time():
    missed = np.zeros(2)
    truth = 1 / (1 + np.exp(-0.4))
    for seed in range(400):
        rng = np.random.default_rng(seed)
        delta = rng.normal(1, 2, 200)
        # scaled by the sample's own deviation, as the model defines its coefficient
        wins = rng.random(200) < 1 / (1 + np.exp(-(0.4 + 0.8 * np.tanh(delta / delta.std()))))
        low, high = length_controlled(wins, np.zeros(200), delta, np.arange(200)).interval
        missed += [low > truth, high < truth]
    assert (missed / 400 >= 0.02).all()
    assert (missed / 400 <= 0.09).all()


def test_a_count_that_was_never_seen_is_not_impossible():
    estimate = count_difference(np.zeros(254), **INTERVALS)
    # two made-up prompts of 256: sd √(2/256), over √256
    half = 1.6449 * 2**0.5 / 256
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0, -half, half), 1e-4)


@pytest.mark.parametrize(("prompts", "shown"), [(4, False), (5, True)])
def test_few_counts_on_one_side_show_what_the_sign_test_shows(prompts, shown):
    # 2⁻⁴ = 6.3% and 2⁻⁵ = 3.1% on one side by chance
    differences = np.zeros(256)
    differences[:prompts] = 1
    assert (count_difference(differences, **INTERVALS).low > 0) is shown


def test_many_counts_are_those_of_the_bootstrap():
    differences = np.random.default_rng(0).poisson(0.5, 60) - np.random.default_rng(1).poisson(0.5, 60) * 1.0
    assert count_difference(differences, **INTERVALS) == mean(differences, **INTERVALS)
    halves = np.array([1.0, 2.0, 3.0, 0.0, 0.0])  # three of five prompts differ: few, but not rare
    assert count_difference(halves, **INTERVALS) == mean(halves, **INTERVALS)


def test_wilson_agrees_with_the_literature() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263, 15/148, 0/20, 1/29."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)
    assert wilson(0, 0) == (0.0, 1.0)
