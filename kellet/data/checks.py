"""What the suites of kellet/data/suite.py expect, computed by pandas alone: no other library decides about a table.

Each function is named after its expectation and takes the table and what the suite gives. Those of :data:`ROWS` say of
each row whether it fails; a value that is missing fails only where that is the question. Those of :data:`TABLES` say
whether the table as a whole passes, and what was observed.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kellet.stats.words import as_read

Verdict = tuple[bool, str]
"""Whether the table passes, and what was observed."""


def expect_column_values_to_not_be_null(table: pd.DataFrame, column: str) -> "pd.Series[bool]":
    """A value in each row."""
    return table[column].isna()


def expect_column_values_to_match_regex(table: pd.DataFrame, column: str, regex: str) -> "pd.Series[bool]":
    """The pattern somewhere in each text."""
    return _there(table, column) & ~_found(table[column], regex)


def expect_column_values_to_not_match_regex(table: pd.DataFrame, column: str, regex: str) -> "pd.Series[bool]":
    """The pattern nowhere in any text."""
    return _found(table[column], regex)


def expect_column_value_lengths_to_be_between(table: pd.DataFrame, column: str, max_value: int) -> "pd.Series[bool]":
    """No more than this many characters in any text."""
    return table[column].map(lambda text: isinstance(text, str) and len(text) > max_value).astype(bool)


def expect_column_pair_values_to_be_equal(table: pd.DataFrame, column_A: str, column_B: str) -> "pd.Series[bool]":  # noqa: N803
    """The same value in both columns, where both have one."""
    return _there(table, column_A, column_B) & (table[column_A] != table[column_B])


def expect_answers_to_differ(table: pd.DataFrame, column_A: str, column_B: str) -> "pd.Series[bool]":  # noqa: N803
    """Two texts that differ when white space at their ends and idle characters are left out."""
    return _there(table, column_A, column_B) & ~differ_when_stripped(table[column_A], table[column_B])


def expect_one_judgement(table: pd.DataFrame, column_A: str, column_B: str) -> "pd.Series[bool]":  # noqa: N803
    """One value of column A (who won) for each value of column B (which two answers, judged by whom)."""
    return _there(table, column_A, column_B) & ~one_for_each(table[column_A], table[column_B])


def expect_first_occurrence(table: pd.DataFrame, column: str) -> "pd.Series[bool]":
    """Each value once; of several, the first is kept."""
    return _there(table, column) & table[column].duplicated(keep="first")


def expect_column_values_to_be_unique(table: pd.DataFrame, column: str) -> "pd.Series[bool]":
    """Each value once; of several, none is right."""
    return _there(table, column) & table[column].duplicated(keep=False)


def expect_table_row_count_to_be_between(table: pd.DataFrame, min_value: int) -> Verdict:
    """So many rows or more."""
    return len(table) >= min_value, str(len(table))


def expect_column_unique_value_count_to_be_between(table: pd.DataFrame, column: str, min_value: int) -> Verdict:
    """So many different values or more."""
    count = int(table[column].nunique())
    return count >= min_value, str(count)


def expect_column_distinct_values_to_equal_set(table: pd.DataFrame, column: str, value_set: Sequence[str]) -> Verdict:
    """Each of these values, and no other."""
    found = set(table[column].dropna())
    missing = [value for value in value_set if value not in found]
    others = len(found - set(value_set))
    return not missing and not others, f"{others} exceptions" + (f", none in {', '.join(missing)}" if missing else "")


def expect_no_prompt_in_two_splits(table: pd.DataFrame) -> Verdict:
    """No prompt that is in more than one split."""
    leaks = split_leaks(table)
    return leaks == 0, f"{leaks} prompts in more than one split"


def expect_no_near_copy_in_two_splits(table: pd.DataFrame, copies: int) -> Verdict:  # noqa: ARG001  # it is counted
    """The same, case, white space and invisible characters left out; the count is given."""
    return copies == 0, f"{copies} prompts"


def expect_labels_to_vary(table: pd.DataFrame) -> Verdict:
    """Judgements that are not all equal."""
    reasons = constant_labels(table)
    return not reasons, "; ".join(reasons) or "labels vary"


def expect_longer_preferred_between(table: pd.DataFrame, low: float, high: float) -> Verdict:
    """The share of pairs whose longer answer was chosen, among pairs of unequal length, within a band."""
    more, fewer, _ = longer_preferred(table)
    share = more / (more + fewer) if more + fewer else 0.5
    return low <= share <= high, str(round(share, 4))


def expect_quarantined_share_at_most(
    table: pd.DataFrame,  # noqa: ARG001  # it has neither count
    quarantined: int,
    rows_in: int,
    maximum: float,
) -> Verdict:
    """Few quarantined rows among those that came; both counts are given."""
    share = quarantined / rows_in
    return share <= maximum, f"{share:.4f} ({quarantined} of {rows_in} rows)"


ROWS: dict[str, Callable[..., "pd.Series[bool]"]] = {
    check.__name__: check
    for check in (
        expect_column_values_to_not_be_null,
        expect_column_values_to_match_regex,
        expect_column_values_to_not_match_regex,
        expect_column_value_lengths_to_be_between,
        expect_column_pair_values_to_be_equal,
        expect_answers_to_differ,
        expect_one_judgement,
        expect_first_occurrence,
        expect_column_values_to_be_unique,
    )
}
TABLES: dict[str, Callable[..., Verdict]] = {
    check.__name__: check
    for check in (
        expect_table_row_count_to_be_between,
        expect_column_unique_value_count_to_be_between,
        expect_column_distinct_values_to_equal_set,
        expect_no_prompt_in_two_splits,
        expect_no_near_copy_in_two_splits,
        expect_labels_to_vary,
        expect_longer_preferred_between,
        expect_quarantined_share_at_most,
    )
}


def judge_table(name: str, table: pd.DataFrame, given: dict[str, Any]) -> Verdict:
    """What an expectation on the whole table says; of one on its rows, how many fail."""
    if name in TABLES:
        return TABLES[name](table, **given)
    failing = int(ROWS[name](table, **given).sum())
    return failing == 0, f"{failing} exceptions"


def differ_when_stripped(one: "pd.Series[Any]", other: "pd.Series[Any]") -> "pd.Series[bool]":
    """Whether two texts read differently (:func:`kellet.stats.words.as_read`); of a missing one it does not say."""
    pairs = zip(one, other, strict=True)
    differ = [not (isinstance(a, str) and isinstance(b, str)) or as_read(a) != as_read(b) for a, b in pairs]
    return pd.Series(np.array(differ, dtype=bool), index=one.index)


def one_for_each(values: "pd.Series[Any]", groups: "pd.Series[Any]") -> "pd.Series[bool]":
    """Whether all values of a row's group are equal."""
    return values.groupby(groups).transform("nunique") == 1


def longer_preferred(table: pd.DataFrame) -> tuple[int, int, int]:
    """Pairs whose chosen answer has (more, fewer, equally many) words than the rejected one.

    Like all checks of whole tables it reads :func:`kellet.data.validation.row_keys`, not texts.
    """
    difference = table["chosen_words"] - table["rejected_words"]
    return int((difference > 0).sum()), int((difference < 0).sum()), int((difference == 0).sum())


def constant_labels(table: pd.DataFrame) -> list[str]:
    """Each way in which all labels of a table are equal, so that there is nothing to learn; empty when they vary."""
    if len(table) < 2:
        return []
    reasons = []
    more, fewer, _ = longer_preferred(table)
    if (more == 0) != (fewer == 0):
        reasons.append(f"the {'longer' if more else 'shorter'} answer was chosen in all {more + fewer} pairs")
    reasons += [
        f"the {side} answer is the same text in all {len(table)} pairs"
        for side in ("chosen", "rejected")
        if table[side].nunique() == 1
    ]
    if (table["label"] != 0).all() and table["label"].nunique() == 1:
        reasons.append(f"the label column has one value in all {len(table)} rows")
    return reasons


def split_leaks(table: pd.DataFrame) -> int:
    """Prompts that are in more than one split."""
    return int((table.groupby("prompt")["split"].nunique() > 1).sum())


def _there(table: pd.DataFrame, *columns: str) -> "pd.Series[bool]":
    """Rows that have a value in each of the columns."""
    return table[list(columns)].notna().all(axis=1)


def _found(texts: "pd.Series[Any]", regex: str) -> "pd.Series[bool]":
    """Texts with the pattern in them, by Python's own engine: pandas' other one knows fewer kinds of white space."""
    pattern = re.compile(regex)
    found = [isinstance(text, str) and pattern.search(text) is not None for text in texts]
    return pd.Series(np.array(found, dtype=bool), index=texts.index)
