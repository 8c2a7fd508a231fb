"""Style counts worked by hand, and the partial slope against least squares with a dummy for each prompt."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kellet.data.world import texts
from kellet.stats.style import Style, sentences, style
from kellet.stats.style_slope import slope_at_equal_length

NONE = Style(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("prompt", "response", "expected"),
    [
        ("", "", NONE),
        ("Where is it?", "It ships tomorrow.", NONE),
        ("x", "Thank you for writing! We are sorry. Your refund is paid.", NONE._replace(courtesy=2)),
        ("x", "We’re happy to help.\nHave a great day", NONE._replace(courtesy=2)),
        ("x", "Steps:\n1. Open it\n2) Close it\n- or\n* both", NONE._replace(structure=4)),
        ("x", "# Title\n**Bold title**\nText with **bold** and - a dash, 3. inside", NONE._replace(structure=2)),
        ("x", "Perhaps it is lost. I think, but I am not entirely sure.", NONE._replace(hedging=3)),
        ("x", "It is definitely 100% free, guaranteed.", NONE._replace(certainty=3)),
        # 'where is my' and 'is my parcel'; case and punctuation do not matter
        ("Where is my parcel?", "You ask: where is my parcel.", NONE._replace(echo=2)),
        # a b c | b c a | c a b | a b c: the last has been there
        ("x", "a b c. A b, c!", NONE._replace(repetition=1)),
    ],
)
def test_counts_worked_by_hand(prompt, response, expected):
    assert style(prompt, response) == expected


def test_the_world_s_filler_is_courtesy_and_its_facts_are_plain():
    told = texts()
    assert [style("", sentence).courtesy for sentence in told.filler] == [1] * len(told.filler)
    facts = [wording for facts in told.facts.values() for fact in facts for wording in fact]
    assert [fact for fact in facts if style("", fact) != NONE] == []


@given(st.text(max_size=60), st.text(max_size=60))
def test_an_answer_and_itself_again_counts_twice_except_for_the_runs(prompt, response):
    once, twice = style(prompt, response), style(prompt, f"{response}\n{response}")
    assert min(once) >= 0
    assert twice[:4] == tuple(2 * count for count in once[:4])
    assert twice.repetition >= once.repetition


def test_sentences_end_at_punctuation_and_at_line_ends():
    assert sentences("One. Two!  Three?\nfour\n\n 5.6 is a number.") == [
        "One.",
        "Two!",
        "Three?",
        "four",
        "5.6 is a number.",
    ]
    assert sentences(" \n ") == []


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
    found = slope_at_equal_length(reward, axis, length, prompt)
    assert found.value == pytest.approx(reference, abs=1e-9)
    assert found.low < 0.5 < found.high
    alone = np.linalg.lstsq(np.delete(design, 1, axis=1), reward, rcond=None)[0][0]
    assert alone > reference + 0.1  # without length held, the axis is paid for length too


def test_the_interval_holds_the_truth_as_often_as_it_says():
    found = [slope_at_equal_length(*answers(60, seed), resamples=400) for seed in range(150)]
    held = np.mean([estimate.low <= 0.5 <= estimate.high for estimate in found])
    assert 0.84 <= held <= 0.96  # 0.90 with three standard errors of 150 draws


def test_what_cannot_be_told_is_none():
    reward, axis, length, prompt = answers(40, 0)
    assert slope_at_equal_length(reward, np.zeros_like(axis), length, prompt) is None
    assert slope_at_equal_length(reward, 2 * length, length, prompt) is None  # the axis is length
    assert slope_at_equal_length(reward, np.where(prompt < 9, axis, 0), length, prompt) is None  # nine prompts
    same = slope_at_equal_length(reward, axis, np.full_like(length, 30.0), prompt)
    assert same is not None
    assert same.finite
