"""Figures as text, worked by hand."""

import math

import pytest

from kellet.stats.bootstrap import Estimate
from kellet.stats.format import aligned, in_words, number, percent, rounded, value_and_interval


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.1234, "share", "12.3%"),
        (1.05, "ratio", "1.050"),
        (12.34, "nats", "12.3 nats"),
        (0.5, "reward", "0.50"),
        (0.0123, "reward", "0.012"),
        (math.inf, "reward", "unbounded"),
    ],
)
def test_a_number_by_its_unit(value, unit, text):
    assert number(value, unit) == text


def test_an_estimate_reads_the_same_from_json_where_null_is_an_end_without_bound():
    estimate = Estimate(0.5, 0.25, math.inf, 9)
    written = {"value": 0.5, "interval": [0.25, None], "prompts": 9}
    for figure in (estimate, written):
        assert in_words(figure, "share") == "50.0% [25.0%, unbounded]"
        assert percent(figure, 1, missing="?") == "50.0% [25.0, ?]"
        assert rounded(figure, 1, after_value=" nats") == "0.5 nats [0.2, …]"  # 0.25 to the even digit
    assert rounded({"value": None, "interval": None}) == "… […, …]"


def test_nats_are_named_once():
    assert in_words(Estimate(3.0, 2.0, 4.0, 9), "nats") == "3.00 nats [2.00, 4.00]"


def test_zero_has_no_sign_unless_it_is_asked_for():
    assert rounded(Estimate(-0.001, -0.002, 0.0, 9)) == "0.00 [0.00, 0.00]"
    assert value_and_interval(Estimate(0.0, -0.02, 0.02, 9), "{:+.0%}".format) == "+0% [-2%, +2%]"


def test_columns_are_as_wide_as_their_widest_cell():
    assert aligned([("", "first"), ("length", "1"), ("KL", "")]) == ["        first", "length  1", "KL"]
