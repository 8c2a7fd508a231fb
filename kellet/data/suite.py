"""The suites of preference tables: what is expected of a row, of all rows together, of the table.

Rows that fail are quarantined, under the first reason in the order of :func:`row_expectations`, then of
:func:`pair_expectations`. :func:`table_expectations` judge the accepted pairs as a whole. kellet/data/validation.py
judges by the functions of kellet/data/checks.py, and where there are Data Docs by Great Expectations too, under the
same names (kellet/data/expectations.py holds those that it does not have).

Decided here:
- A text of white space and invisible characters alone is empty (kellet/stats/words.py).
- Two answers that differ only in white space at their ends, or in characters that do not change how a text reads, are
  equal: such a pair carries no preference.
- Of exact duplicates (prompt, chosen, rejected and annotator) the first is kept.
- A contradiction is the same two answers to the same prompt judged both ways by the same annotator, or both ways
  without an annotator. All its rows go to quarantine: nothing says which is right, and keeping one would be a coin
  toss. What becomes of two annotators who disagree is a setting (kellet/data/annotators.py).
- Share of longer-preferred: words, among pairs of unequal length, so that labels without a length taste give 0.5.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kellet.config.data import Data, Validation
from kellet.data.annotators import SET_ASIDE
from kellet.stats.words import BLANK

TROUBLE = (
    "\ufffd"  # what a decoder puts where bytes made no sense
    "|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # control characters except tab and line ends
    "|Ã[\u00a0-\u00bf\u0152\u0153\u0178\u201e\u2030]"  # é, ü, ß ... in UTF-8 read as Windows-1252
    "|Â[\u00a0-\u00bf]|â€|ðŸ|ï¿½|ï»¿"  # °, curly quotes, emoji, U+FFFD, byte-order mark likewise
)
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Expectation:
    """One line of a suite."""

    meaning: str
    """The reason of rows that fail; of the table as a whole, what is wanted."""
    name: str
    """The function in kellet/data/checks.py, and the expectation of Great Expectations."""
    given: Mapping[str, Any]
    """What both take."""
    severity: str = "critical"
    """``critical`` fails the table, ``warning`` is only reported."""


def row_expectations(limits: Validation) -> list[Expectation]:
    """What is expected of a row by itself, in the order in which reasons are given."""
    texts = ("prompt", "chosen", "rejected")
    longest = dict.fromkeys(texts, limits.max_answer_chars) | {"prompt": limits.max_prompt_chars}
    suite = [
        Expectation(f"{name} is missing", "expect_column_values_to_not_be_null", {"column": name}) for name in texts
    ]
    suite += [
        Expectation(f"{name} is empty", "expect_column_values_to_match_regex", {"column": name, "regex": f"[^{BLANK}]"})
        for name in texts
    ]
    sides = {"column_A": "chosen", "column_B": "rejected"}
    prompts = {"column_A": "chosen_prompt", "column_B": "rejected_prompt"}
    suite.append(Expectation("prompts differ between the two sides", "expect_column_pair_values_to_be_equal", prompts))
    suite.append(Expectation("chosen and rejected are equal", "expect_answers_to_differ", sides))
    suite += [
        Expectation(
            f"{name} is longer than {longest[name]} characters",
            "expect_column_value_lengths_to_be_between",
            {"column": name, "max_value": longest[name]},
        )
        for name in texts
    ]
    suite += [
        Expectation(
            f"{name} has encoding trouble",
            "expect_column_values_to_not_match_regex",
            {"column": name, "regex": TROUBLE},
        )
        for name in texts
    ]
    return suite


def pair_expectations() -> list[Expectation]:
    """What is expected of a row beside all others, in the order in which reasons are given."""
    judgement = {"column_A": "pair", "column_B": "judgement"}
    return [
        Expectation("the same answers are judged both ways", "expect_one_judgement", judgement),
        Expectation("exact duplicate", "expect_first_occurrence", {"column": "pair"}),
    ]


def table_expectations(table: pd.DataFrame, summary: Mapping[str, Any], data: Data) -> list[Expectation]:
    """What is expected of the accepted pairs as a whole, in the order in which it is told.

    ``table`` and ``summary`` are as :func:`kellet.data.validation.check_table` gets them.
    """
    limits = data.validation
    (low, high), (fail_low, fail_high) = limits.longer_preferred_warn, limits.longer_preferred_fail
    shares = {"train": 1.0, "validation": data.split.validation, "test": data.split.test}
    splits = [name for name in SPLITS if shares[name] > 0]
    band = "share of pairs whose longer answer was chosen within"
    set_aside = sum(count for reason, count in summary.get("reasons", {}).items() if reason in SET_ASIDE)
    bad = {"quarantined": summary["quarantined"] - set_aside, "rows_in": summary["rows_in"]}
    copies = int((table.groupby("near_prompt")["split"].nunique() > 1).sum())
    return [
        Expectation(
            "ids of 16 hex digits",
            "expect_column_values_to_match_regex",
            {"column": "pair_id", "regex": "^[0-9a-f]{16}$"},
        ),
        Expectation("each pair once", "expect_column_values_to_be_unique", {"column": "pair_id"}),
        Expectation(
            f"at least {limits.min_pairs} pairs (data.validation.min_pairs)",
            "expect_table_row_count_to_be_between",
            {"min_value": limits.min_pairs},
        ),
        Expectation(
            f"at most {limits.max_quarantined} of the rows in quarantine (data.validation.max_quarantined)",
            "expect_quarantined_share_at_most",
            bad | {"maximum": limits.max_quarantined},
        ),
        Expectation(
            "two prompts or more",
            "expect_column_unique_value_count_to_be_between",
            {"column": "prompt", "min_value": 2},
        ),
        Expectation(
            f"pairs in each of the splits {', '.join(splits)}",
            "expect_column_distinct_values_to_equal_set",
            {"column": "split", "value_set": splits},
        ),
        Expectation("no prompt in two splits", "expect_no_prompt_in_two_splits", {}),
        Expectation(
            "no prompt in two splits but for case, white space and invisible characters (data.split.normalise)",
            "expect_no_near_copy_in_two_splits",
            {"copies": copies},
            severity="warning",
        ),
        Expectation("labels that are not all equal", "expect_labels_to_vary", {}),
        Expectation(
            f"{band} [{fail_low}, {fail_high}] (data.validation.longer_preferred_fail)",
            "expect_longer_preferred_between",
            {"low": fail_low, "high": fail_high},
        ),
        Expectation(
            f"{band} [{low}, {high}] (data.validation.longer_preferred_warn)",
            "expect_longer_preferred_between",
            {"low": low, "high": high},
            severity="warning",
        ),
    ]
