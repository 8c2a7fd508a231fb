"""The Great Expectations suite of preference tables: row checks, which send rows to quarantine, and table checks.

A row that fails several checks is quarantined once, under the first in the order of :func:`row_expectations`.

Decided here:
- Two answers that differ only in white space at their ends are equal: such a pair carries no preference.
- Of exact duplicates (prompt, chosen, rejected and annotator) the first is kept.
- A contradiction is the same two answers to the same prompt judged both ways by the same annotator, or both ways
  without an annotator. All its rows go to quarantine: nothing says which is right, and keeping one would be a coin
  toss. Two annotators who disagree are kept: that is what a preference model is there to average.
- Share of longer-preferred: words, among pairs of unequal length, so that labels without a length taste give 0.5.

The suite never shows text from the data: Great Expectations does not escape it in its pages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from kellet.config import Data, Validation
from kellet.errors import DataError

BLANK = r"\s\u00a0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
TROUBLE = (
    "\ufffd"  # what a decoder puts where bytes made no sense
    "|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # control characters except tab and line ends
    "|Ã[\u00a0-\u00bf\u0152\u0153\u0178\u201e\u2030]"  # é, ü, ß ... in UTF-8 read as Windows-1252
    "|Â[\u00a0-\u00bf]|â€|ðŸ|ï¿½|ï»¿"  # °, curly quotes, emoji, U+FFFD, byte-order mark likewise
)
SPLITS = ("train", "validation", "test")
REQUIRED = ("pair_id", "prompt", "chosen", "rejected", "source", "split")


@dataclass(frozen=True)
class Check:
    """One expectation on the whole table."""

    name: str
    wanted: str
    observed: str
    passed: bool
    severity: str
    """``critical`` fails the table, ``warning`` is only told."""

    def __str__(self) -> str:
        return f"{self.name}: wanted {self.wanted}, got {self.observed}"


@dataclass(frozen=True)
class TableReport:
    """What the table checks found."""

    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks for which the table cannot be used."""
        return tuple(check for check in self.checks if not check.passed and check.severity == "critical")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Checks that are only told about, as sentences."""
        return tuple(str(check) for check in self.checks if not check.passed and check.severity == "warning")

    def raise_if_failed(self, hint: str = "") -> None:
        """Raise DataError naming each failing expectation with what it wanted and what it got."""
        if self.failed:
            raise DataError("the preferences cannot be used: " + "; ".join(map(str, self.failed)) + hint)


@dataclass(frozen=True)
class RowReport:
    """What the row checks found."""

    reasons: "pd.Series[str]"
    """Index of a failing row -> the first reason."""
    result: Any
    """The validation result of Great Expectations, for the Data Docs."""


def check_rows(rows: pd.DataFrame, limits: Validation) -> RowReport:
    """Judge rows as :func:`kellet.preferences.read_file` gives them; ``rows`` has a unique index and is not changed."""
    keyed = rows.copy()
    told_apart = rows["rejected_prompt"] if "rejected_prompt" in rows else pd.Series(None, rows.index, dtype=object)
    annotator = rows["annotator"] if "annotator" in rows else pd.Series(None, rows.index, dtype=object)
    chosen, rejected = rows["chosen"].fillna(""), rows["rejected"].fillna("")
    swapped = chosen > rejected
    either, other = chosen.where(~swapped, rejected), rejected.where(~swapped, chosen)
    # Rows whose two prompts differ keep to themselves: they are no duplicates of sound rows.
    by_whom = {"prompt": rows["prompt"], "rejected_prompt": told_apart.fillna(rows["prompt"]), "annotator": annotator}
    keyed["pair"] = _group(by_whom | {"chosen": chosen, "rejected": rejected})
    keyed["judgement"] = _group(by_whom | {"either": either, "other": other})
    result = _run("rows", keyed, row_expectations(limits, "rejected_prompt" in rows), complete=True)
    reasons: dict[Any, str] = {}
    ranked = sorted(result.results, key=lambda each: each.expectation_config.meta["rank"])
    for each in ranked:
        for index in each.result.get("unexpected_index_list") or []:
            reasons.setdefault(index, each.expectation_config.meta["reason"])
    return RowReport(pd.Series(reasons, dtype=object).sort_index(), result)


def check_table(table: pd.DataFrame, summary: Mapping[str, Any], data: Data) -> tuple[TableReport, Any]:
    """Judge the accepted pairs as a whole; ``summary`` has the counts rows_in and quarantined.

    Returns the report and the validation result of Great Expectations, for the Data Docs.
    """
    result = _run("table", table, table_expectations(table, summary, data), complete=False)
    checks = [
        Check(
            name=each.expectation_config.type,
            wanted=each.expectation_config.meta["wanted"],
            observed=_observed(each.result),
            passed=bool(each.success),
            severity=str(each.expectation_config.severity.value),
        )
        for each in sorted(result.results, key=lambda each: each.expectation_config.meta["rank"])
    ]
    return TableReport(tuple(checks)), result


def row_expectations(limits: Validation, implicit: bool) -> list[Any]:
    """The row suite, in the order in which reasons are given; meta carries the reason."""
    import great_expectations.expectations as gxe

    from kellet import expectations as own

    texts = ("prompt", "chosen", "rejected")
    longest = dict.fromkeys(texts, limits.max_answer_chars) | {"prompt": limits.max_prompt_chars}
    suite: list[tuple[str, Any, dict[str, Any]]] = [
        (f"{name} is missing", gxe.ExpectColumnValuesToNotBeNull, {"column": name}) for name in texts
    ]
    suite += [
        (f"{name} is empty", gxe.ExpectColumnValuesToMatchRegex, {"column": name, "regex": f"[^{BLANK}]"})
        for name in texts
    ]
    sides = {"column_A": "chosen", "column_B": "rejected"}
    if implicit:
        prompts = {"column_A": "prompt", "column_B": "rejected_prompt", "ignore_row_if": "either_value_is_missing"}
        suite.append(("prompts differ between the two sides", gxe.ExpectColumnPairValuesToBeEqual, prompts))
    suite.append(("chosen and rejected are equal", own.ExpectAnswersToDiffer, sides))
    suite += [
        (
            f"{name} is longer than {longest[name]} characters",
            gxe.ExpectColumnValueLengthsToBeBetween,
            {"column": name, "max_value": longest[name]},
        )
        for name in texts
    ]
    suite += [
        (f"{name} has encoding trouble", gxe.ExpectColumnValuesToNotMatchRegex, {"column": name, "regex": TROUBLE})
        for name in texts
    ]
    judgement = {"column_A": "pair", "column_B": "judgement"}
    suite.append(("the same answers are judged both ways", own.ExpectOneJudgement, judgement))
    suite.append(("exact duplicate", own.ExpectFirstOccurrence, {"column": "pair"}))
    return [
        kind(**given, description=f"Quarantine: {reason}", meta={"reason": reason, "rank": rank})
        for rank, (reason, kind, given) in enumerate(suite)
    ]


def table_expectations(table: pd.DataFrame, summary: Mapping[str, Any], data: Data) -> list[Any]:
    """The table suite; meta carries in words what is wanted."""
    import great_expectations.expectations as gxe

    from kellet import expectations as own

    limits = data.validation
    (low, high), (fail_low, fail_high) = limits.longer_preferred_warn, limits.longer_preferred_fail
    shares = {"train": 1.0, "validation": data.split.validation, "test": data.split.test}
    splits = [name for name in SPLITS if shares[name] > 0]
    band = "share of pairs whose longer answer was chosen within"
    counts = {"quarantined": summary["quarantined"], "rows_in": summary["rows_in"], "maximum": limits.max_quarantined}
    columns = [*REQUIRED, *(name for name in ("annotator", "created_at", "margin", "label") if name in table)]
    suite: list[tuple[str, Any, dict[str, Any]]] = [
        (f"the columns {', '.join(columns)}", gxe.ExpectTableColumnsToMatchSet, {"column_set": columns}),
        ("no missing source", gxe.ExpectColumnValuesToNotBeNull, {"column": "source"}),
        ("ids of 16 hex digits", gxe.ExpectColumnValuesToMatchRegex, {"column": "pair_id", "regex": "^[0-9a-f]{16}$"}),
        ("each pair once", gxe.ExpectColumnValuesToBeUnique, {"column": "pair_id"}),
        (
            f"at least {limits.min_pairs} pairs (data.validation.min_pairs)",
            gxe.ExpectTableRowCountToBeBetween,
            {"min_value": limits.min_pairs},
        ),
        (
            f"at most {limits.max_quarantined} of the rows in quarantine (data.validation.max_quarantined)",
            own.ExpectQuarantinedShareAtMost,
            counts,
        ),
        (
            "two prompts or more",
            gxe.ExpectColumnUniqueValueCountToBeBetween,
            {"column": "prompt", "min_value": 2},
        ),
        (
            f"pairs in each of the splits {', '.join(splits)}",
            gxe.ExpectColumnDistinctValuesToEqualSet,
            {"column": "split", "value_set": splits},
        ),
        ("no prompt in two splits", own.ExpectNoPromptInTwoSplits, {}),
        ("labels that are not all equal", own.ExpectLabelsToVary, {}),
        (
            f"{band} [{fail_low}, {fail_high}] (data.validation.longer_preferred_fail)",
            own.ExpectLongerPreferredBetween,
            {"low": fail_low, "high": fail_high},
        ),
        (
            f"{band} [{low}, {high}] (data.validation.longer_preferred_warn)",
            own.ExpectLongerPreferredBetween,
            {"low": low, "high": high, "severity": "warning"},
        ),
    ]
    return [
        kind(**given, description=f"Wanted: {wanted}", meta={"wanted": wanted, "rank": rank})
        for rank, (wanted, kind, given) in enumerate(suite)
    ]


def _group(columns: Mapping[str, "pd.Series[Any]"]) -> "pd.Series[int]":
    """A number for each row, equal where all columns are equal; missing values equal one another."""
    frame = pd.DataFrame(dict(columns))
    return frame.groupby(list(frame.columns), dropna=False, sort=False).ngroup()


def _run(name: str, table: pd.DataFrame, expectations: list[Any], complete: bool) -> Any:
    """Validate in a throw-away context; an expectation that could not be computed is raised, not counted as failed."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("preferences").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
    suite = gx.ExpectationSuite(name=name, expectations=expectations)
    # Rows without example values: the pages would show them unescaped.
    form = {"result_format": "COMPLETE", "partial_unexpected_count": 0} if complete else {"result_format": "SUMMARY"}
    result = batch.validate(suite, result_format=form)
    for each in result.results:
        if "'raised_exception': True" in str(each.exception_info):
            raise RuntimeError(f"{each.expectation_config.type} could not be computed: {each.exception_info}")
    return result


def _observed(result: Mapping[str, Any]) -> str:
    if result.get("observed_value") is not None:
        return str(result["observed_value"])
    missing = ", ".join(map(str, result.get("partial_missing_list") or ()))
    return f"{result.get('unexpected_count')} exceptions" + (f", none in {missing}" if missing else "")
