"""Correlation within prompt, against independent formulas."""

import numpy as np
import pytest

from kellet.stats.within_prompt import correlation

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


def centred(values, codes):
    means = np.array([values[codes == code].mean() for code in range(codes.max() + 1)])
    return values - means[codes]


def test_it_is_pearsons_of_what_the_prompts_leave():
    codes, x, y, _ = drawn()
    told = correlation(x, y, codes, **SETTINGS)
    assert told.value == pytest.approx(np.corrcoef(centred(x, codes), centred(y, codes))[0, 1])
    assert np.corrcoef(x, y)[0, 1] < -0.8 < 0 < told.low  # over prompts it has the other sign


def test_held_columns_give_the_partial_correlation():
    codes, x, y, z = drawn()
    r = np.corrcoef([centred(column, codes) for column in (x, y, z)])
    partial = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert correlation(x, y, codes, z[:, None], **SETTINGS).value == pytest.approx(partial)


def test_the_interval_covers_the_true_value():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        codes = np.repeat(np.arange(80), 2)
        x = rng.normal(size=160)
        y = 0.75 * x + rng.normal(size=160)  # correlation 0.6
        told = correlation(x, y, codes, **SETTINGS)
        covered += told.low <= 0.6 <= told.high
    assert 165 <= covered <= 195


def test_nothing_is_told_where_nothing_varies():
    codes = np.repeat(np.arange(50), 2)
    assert correlation(np.ones(100), np.random.default_rng(0).normal(size=100), codes, **SETTINGS) is None
