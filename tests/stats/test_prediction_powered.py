"""Win rates from people's and a model's labels: by hand, against the published formula, and by how often they hold."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from kellet.stats.prediction_powered import labels_needed, prediction_powered
from kellet.stats.win_rate import win_rate

NAN = np.nan


def pairs(rng, n, prompts, rate, shared, bias=0.0, samples=1, within=0.0):
    """Labels of n prompts' first pair and predictions of all; ``shared`` is the correlation of what both look at."""
    seen = np.sqrt(within) * np.repeat(rng.normal(size=prompts), samples)
    seen += np.sqrt(1 - within) * rng.normal(size=prompts * samples)
    other = rng.normal(size=prompts * samples)
    prompt, first = np.repeat(np.arange(prompts), samples), np.tile(np.arange(samples), prompts) == 0
    truth = norm.ppf(rate) + seen > 0
    model = norm.ppf(rate) + bias + shared * seen + np.sqrt(1 - shared**2) * other > 0
    return np.where((prompt < n) & first, truth, NAN), model.astype(float), prompt


def test_by_hand_with_the_published_formula() -> None:
    label = [1, 1, 0, 0, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN]
    model = [1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    # Labelled: mean(Y) = 1/2, mean(f) = 3/4, Cov(Y, f) = 1/2 - 3/8 = 1/8, Var(f) = 3/16; others: mean(F) = 3/4 and
    # Var(F) = 3/16. λ = (1/8) / ((1 + 4/8)·3/16) = 4/9, and θ = 1/2 + 4/9·(3/4 - 3/4) = 1/2.
    result = prediction_powered(label, model)
    assert result.tuning == pytest.approx(4 / 9)
    assert result.estimate.value == pytest.approx(0.5)
    assert result.correlation == pytest.approx((1 / 8) / np.sqrt(1 / 4 * 3 / 16))
    assert (result.labelled, result.prompts, result.estimate.clusters) == (4, 12, 4)
    # One win more among the others: mean(F) = 7/8, and with λ = 1/2 the value is 1/2 + 1/2·(7/8 - 3/4) = 0.5625.
    model[-1] = 1
    assert prediction_powered(label, model, tuning=0.5).estimate.value == pytest.approx(0.5625)


def test_the_interval_by_hand() -> None:
    label, model = [1, 1, 0, 0, NAN, NAN, NAN, NAN], [1, 1, 1, 0, 1, 1, 1, 0]
    low, high = (getattr(prediction_powered(label, model, tuning=0.5, alpha=0.05).estimate, e) for e in ("low", "high"))
    # Y - f/2 is 1/2, 1/2, -1/2, 0 and, made up, 1 and -1/2: their mean is 1/6, the sum of squares about it
    # 2·(1/3)² + (2/3)² + (1/6)² + (5/6)² + (2/3)² = 66/36, over 6² = 0.05093. F/2 adds (1/4)·(3/4·1/4)/4 = 0.01172.
    # Student's t with 3 degrees of freedom has 2.3534 at 95%: half = 2.3534·√0.06265 = 0.58905; centre 1/6 + 3/8.
    assert low == 0.0  # 0.5417 - 0.5890 is below 0
    assert high == 1.0
    wider = prediction_powered(label, model, tuning=0.5, alpha=0.2).estimate
    # t at 80% is 0.97847: half = 0.24491
    assert (wider.low, wider.high) == (pytest.approx(0.54167 - 0.24491, abs=1e-4), pytest.approx(0.78658, abs=1e-4))


def test_without_the_model_it_is_the_mean_of_the_labels() -> None:
    rng = np.random.default_rng(0)
    label, model, prompt = pairs(rng, 40, 256, 0.6, 0.8)
    plain, expected = prediction_powered(label, model, prompt, tuning=0.0), win_rate(label[:40])
    assert plain.estimate == plain.alone
    assert plain.estimate.value == label[:40].mean()
    assert plain.estimate.low == pytest.approx(expected.low, abs=0.01)  # Wilson's and Agresti and Coull's are close
    assert plain.estimate.high == pytest.approx(expected.high, abs=0.01)
    everybody = prediction_powered(label[:40], model[:40])
    assert everybody.tuning == 0.0
    assert everybody.estimate.value == label[:40].mean()


def test_a_useless_or_opposite_judge_widens_nothing() -> None:
    rng = np.random.default_rng(1)
    drawn = [prediction_powered(*pairs(rng, 60, 400, 0.5, 0.0)) for _ in range(200)]
    widths = [
        np.mean([item.high - item.low for item in side])
        for side in zip(*((r.estimate, r.alone) for r in drawn), strict=True)
    ]
    assert widths[0] <= widths[1]
    label, model, prompt = pairs(rng, 60, 400, 0.5, 0.9)
    assert prediction_powered(label, 1 - model, prompt).tuning == 0.0
    assert prediction_powered(label, np.full(400, 0.5), prompt).tuning == 0.0


def test_a_good_judge_shortens_the_interval_as_the_theory_says() -> None:
    rng = np.random.default_rng(2)
    result = prediction_powered(*pairs(rng, 1000, 10_000, 0.5, 0.9))
    # √(1 - ρ²·(1 - n/M)), see labels_needed
    expected = np.sqrt(1 - result.correlation**2 * 0.9)
    width, alone = (item.high - item.low for item in (result.estimate, result.alone))
    assert width / alone == pytest.approx(expected, abs=0.02)
    assert result.correlation == pytest.approx(2 / np.pi * np.arcsin(0.9), abs=0.05)  # of two signs, both halved at 0


@pytest.mark.parametrize(
    ("n", "prompts", "rate", "shared", "bias", "samples", "within"),
    [
        (40, 256, 0.5, 0.8, 0.0, 1, 0.0),
        (40, 256, 0.4, 0.8, 0.5, 1, 0.0),  # a model that prefers the candidate far too often
        (40, 256, 0.95, 0.9, 0.0, 1, 0.0),
        (12, 256, 0.5, 0.9, 0.0, 1, 0.0),
        (100, 256, 0.5, 0.8, 0.3, 2, 0.8),  # two pairs a prompt, nearly alike
    ],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(n, prompts, rate, shared, bias, samples, within) -> None:
    rng = np.random.default_rng(3)
    drawn = [
        prediction_powered(*pairs(rng, n, prompts, rate, shared, bias, samples, within)).estimate for _ in range(600)
    ]
    held = np.mean([item.low <= rate <= item.high for item in drawn])
    assert held >= 0.9 - 2.5 * math.sqrt(0.09 / 600)  # 90% intervals; few labels may make them longer than needed
    assert np.mean([item.value for item in drawn]) == pytest.approx(rate, abs=0.015)


def test_prompts_of_one_cluster_are_no_evidence_of_their_own() -> None:
    rng = np.random.default_rng(4)
    label, model, prompt = pairs(rng, 30, 200, 0.6, 0.8)
    copies = np.arange(5 * len(label)) // 5
    five = [np.repeat(array, 5) for array in (label, model)]
    once = prediction_powered(label, model, prompt)
    grouped = prediction_powered(*five, np.arange(len(copies)), copies)
    assert grouped.estimate.of == "clusters"
    assert grouped.estimate.clusters == 30
    for field in ("value", "low", "high"):
        assert getattr(grouped.estimate, field) == pytest.approx(getattr(once.estimate, field))


def test_labels_that_all_agree_do_not_make_a_model_infallible() -> None:
    rng = np.random.default_rng(5)
    label, model, prompt = pairs(rng, 40, 4000, 0.5, 1.0)
    result = prediction_powered(label, model, prompt).estimate
    # 40 of 40: the share of disagreement has an upper bound of 1 - 0.05^(1/40) = 7.2% at 95%
    assert 0.10 < result.high - result.low < 2 * 0.072


def test_a_missing_prediction_is_a_tie_and_no_label_is_nothing() -> None:
    label, model = [1, 0, 1, NAN, NAN], [1, 0, NAN, 1, NAN]
    assert prediction_powered(label, model) == prediction_powered(label, [1, 0, 0.5, 1, 0.5])
    nothing = prediction_powered([NAN, NAN], [1, 0])
    assert math.isnan(nothing.estimate.value)
    assert (nothing.estimate.low, nothing.estimate.high, nothing.labelled) == (0.0, 1.0, 0)
    one = prediction_powered([1, NAN], [1, 0]).estimate
    assert (one.value, one.low, one.high) == (1.0, 0.0, 1.0)


def test_labels_needed_by_hand() -> None:
    # Without a model, (1.6449 + 0.8416)²·0.25/0.1² = 154.6, as kellet/gate/checks.py has for comparisons.
    assert labels_needed(0.1, 0.5, 0.0, 10_000, 0.05, 0.8) == 155
    # With ρ² = 1/2 and hardly any limit of prompts half of them; with 200 prompts (1/2)/(1/154.56 - 1/400) = 126.0.
    assert labels_needed(0.1, 0.5, math.sqrt(0.5), 10**9, 0.05, 0.8) == 78
    assert labels_needed(0.1, 0.5, math.sqrt(0.5), 200, 0.05, 0.8) == 126
    assert labels_needed(0.1, 0.5, 0.9, 150, 0.05, 0.8) is None  # 155 are needed and there are 150
    assert labels_needed(0.0, 0.5, 0.9, 150, 0.05, 0.8) is None


def test_so_many_labels_decide() -> None:
    rng = np.random.default_rng(6)
    correlation = 2 / np.pi * np.arcsin(0.9)
    n = labels_needed(0.1, 0.5, correlation, 300, 0.05, 0.8)
    assert n < 120
    shown = np.mean([prediction_powered(*pairs(rng, n, 300, 0.5, 0.9)).estimate.low > 0.4 for _ in range(400)])
    assert shown == pytest.approx(0.8, abs=0.06)
