"""The verdict on a table is computed without Great Expectations, and is the one that Great Expectations gives."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kellet.config.data import Data, Split, Validation
from kellet.data import checks, validation
from kellet.data.expectations import require_same, run
from kellet.data.prompts import prompt_key
from kellet.data.suite import Expectation, pair_expectations, row_expectations, table_expectations
from kellet.data.validation import check_pairs, check_prompts, check_rows, check_table, row_keys

BLANKS = (
    "\u0020\t\n\r\x0b\x0c\x1c\x1d\x1e\x1f\x85\u00a0\u1680\u2000\u200b\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
SPECIAL = "\x00\x07\x7f\ufffdÃ©Â°â€™ðŸ\u0301e日本語👍'\"{}[]%"
TEXTS = st.one_of(st.none(), st.text(BLANKS + SPECIAL + "ab", max_size=8), st.text(max_size=20))
LIMITS = Validation(max_prompt_chars=6, max_answer_chars=7, min_pairs=10)


@st.composite
def tables(draw: st.DrawFn) -> pd.DataFrame:
    """Rows as preferences are read, among them missing, blank, damaged, long, equal and repeated ones."""
    names = ("prompt", "chosen", "rejected", "rejected_prompt")
    rows = draw(st.lists(st.fixed_dictionaries(dict.fromkeys(names, TEXTS)), min_size=1, max_size=12))
    rows += [dict(row) for row in draw(st.lists(st.sampled_from(rows), max_size=4))]
    for row in draw(st.lists(st.sampled_from(rows), max_size=4)):
        row["rejected_prompt"] = row["prompt"]
        row["annotator"] = draw(st.sampled_from(["a", "b", None]))
    for row in draw(st.lists(st.sampled_from(rows), max_size=3)):
        rows.append({**row, "chosen": row["rejected"], "rejected": row["chosen"]})
    rows = draw(st.permutations(rows))
    table = pd.DataFrame(rows, dtype=object, columns=[*names, "annotator", "label"])
    return table.assign(tie=False).set_axis(range(3, 3 + len(table)))


@given(tables())
@settings(max_examples=25, deadline=None)
def test_rows_fail_with_and_without_great_expectations_alike(rows: pd.DataFrame) -> None:
    """``docs`` raises where the two differ; the reasons are the same ones."""
    plain, beside = check_rows(rows, LIMITS), check_rows(rows, LIMITS, docs=True)
    pd.testing.assert_series_equal(plain.reasons, beside.reasons)
    assert plain.result is None
    assert beside.result is not None
    keys = row_keys(rows, prompt_key)
    pd.testing.assert_series_equal(check_pairs(keys).reasons, check_pairs(keys, docs=True).reasons)


@st.composite
def accepted(draw: st.DrawFn) -> pd.DataFrame:
    """Keys of accepted pairs: few or many, one prompt or several, ids that repeat or are none, splits that lack."""
    size = draw(st.sampled_from([0, 1, 2, 9, 10, 30]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))

    def column(values: list[Any]) -> np.ndarray:
        return random.choice(np.array(values[: draw(st.integers(1, len(values)))]), size)

    numbers = {name: column([1, 2, 3, 4]).astype(np.uint64) for name in ("prompt", "near_prompt", "chosen", "rejected")}
    words = {f"{side}_words": column([1, 2, 5]).astype(int) for side in ("chosen", "rejected")}
    ids = [f"{n:016x}" for n in random.permutation(size)]
    if size and draw(st.booleans()):
        ids[-1] = draw(st.sampled_from([ids[0], "x", "0" * 17, "0" * 16 + "\n"]))
    split = column(["train", "validation", "test", "other"]).astype(object)
    return pd.DataFrame({**numbers, **words, "label": column([0, 7]).astype(np.uint64), "pair_id": ids, "split": split})


@given(accepted(), st.integers(0, 20), st.sampled_from([0.0, 0.2]))
@settings(max_examples=60, deadline=None)
def test_tables_pass_with_and_without_great_expectations_alike(table: pd.DataFrame, bad: int, test: float) -> None:
    data = Data(validation=LIMITS, split=Split(test=test))
    summary = {"quarantined": bad, "rows_in": max(len(table) + bad, 1)}
    report, result = check_table(table, summary, data)
    assert result is None
    beside, result = check_table(table, summary, data, docs=True)
    assert beside == report
    for check in result.results:
        ours = report.checks[check.expectation_config.meta["rank"]]
        assert (ours.name, ours.severity) == (check.expectation_config.type, check.expectation_config.severity.value)
        assert ours.passed == check.success
        observed = check.result.get("observed_value")
        if observed is not None:
            assert ours.observed == str(observed)
        else:
            words = set(ours.observed.replace(",", "").split())
            assert words >= {str(check.result["unexpected_count"]), *(check.result.get("partial_missing_list") or ())}


def test_every_expectation_of_the_suites_is_computed_by_a_function_of_its_name() -> None:
    empty = pd.DataFrame({"near_prompt": [], "split": []})
    lines = table_expectations(empty, {"quarantined": 0, "rows_in": 1}, Data())
    used = {line.name for line in (*row_expectations(LIMITS), *pair_expectations(), *lines)}
    assert used == {*checks.ROWS, *checks.TABLES}
    assert not set(checks.ROWS) & set(checks.TABLES)


def test_prompts_without_answers_are_judged_as_rows_are() -> None:
    prompts = pd.Series(["fine", None, " \u200b", "toolong", "\ufffd"], index=[4, 5, 6, 7, 8], dtype=object)
    reasons = ["", "is missing", "is empty", "is longer than 6 characters", "has encoding trouble"]
    expected = [reason and f"prompt {reason}" for reason in reasons]
    assert list(check_prompts(prompts, LIMITS)) == expected


def test_an_expectation_that_great_expectations_cannot_compute_is_raised_not_counted() -> None:
    line = Expectation("each once", "expect_column_values_to_be_unique", {"column": "absent"})
    with pytest.raises(RuntimeError, match="expect_column_values_to_be_unique could not be computed"):
        run("rows", pd.DataFrame({"there": ["a"]}), [line], "Wanted", complete=True)


def test_two_verdicts_that_differ_stop_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({name: ["a", None, "b"] for name in ("prompt", "chosen", "rejected", "rejected_prompt")})
    rows = rows.assign(chosen="c").astype(object)
    assert len(check_rows(rows, LIMITS, docs=True).reasons) == 1
    blind = {**checks.ROWS, "expect_column_values_to_not_be_null": lambda table, column: table[column].isna() & False}
    monkeypatch.setattr(validation, "ROWS", blind)
    with pytest.raises(RuntimeError, match=r"expect_column_values_to_not_be_null: .* disagree on this table"):
        check_rows(rows, LIMITS, docs=True)


def test_a_table_check_that_differs_is_seen_too() -> None:
    line = Expectation("two or more", "expect_table_row_count_to_be_between", {"min_value": 2})
    result = run("table", pd.DataFrame({"x": [1]}), [line], "Wanted", complete=False)
    require_same(result, {}, {0: False})
    with pytest.raises(RuntimeError, match="disagree on this table"):
        require_same(result, {}, {0: True})
