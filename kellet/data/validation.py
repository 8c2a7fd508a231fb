"""The Great Expectations suite of preference tables: row checks, which send rows to quarantine, and table checks.

A row that fails several checks is quarantined once, under the first in the order of :func:`row_expectations`, then
of :func:`pair_expectations`. Rows are judged some thousands at a time; what takes all rows (duplicates, contradictions,
the table as a whole) is judged on numbers that stand for the texts (:func:`row_keys`).

Decided here:
- Two answers that differ only in white space at their ends are equal: such a pair carries no preference.
- Of exact duplicates (prompt, chosen, rejected and annotator) the first is kept.
- A contradiction is the same two answers to the same prompt judged both ways by the same annotator, or both ways
  without an annotator. All its rows go to quarantine: nothing says which is right, and keeping one would be a coin
  toss. What becomes of two annotators who disagree is a setting (kellet/data/annotators.py).
- Share of longer-preferred: words, among pairs of unequal length, so that labels without a length taste give 0.5.

The suite never shows text from the data: Great Expectations does not escape it in its pages.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.config.data import Data, Validation
from kellet.data.annotators import SET_ASIDE
from kellet.data.conversation import last_message
from kellet.errors import DataError

BLANK = r"\s\u00a0\u1680\u2000-\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
TROUBLE = (
    "\ufffd"  # what a decoder puts where bytes made no sense
    "|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # control characters except tab and line ends
    "|Ã[\u00a0-\u00bf\u0152\u0153\u0178\u201e\u2030]"  # é, ü, ß ... in UTF-8 read as Windows-1252
    "|Â[\u00a0-\u00bf]|â€|ðŸ|ï¿½|ï»¿"  # °, curly quotes, emoji, U+FFFD, byte-order mark likewise
)
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class DataCheck:
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

    checks: tuple[DataCheck, ...]

    @property
    def failed(self) -> tuple[DataCheck, ...]:
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


def row_keys(rows: pd.DataFrame, prompt_key: Callable[[str], str]) -> pd.DataFrame:
    """Numbers that are equal where the texts are (64-bit hashes), and word counts, for rows as preferences are read.

    prompt, near_prompt (the prompt by ``prompt_key``), chosen, rejected, label (0: none), chosen_words, rejected_words;
    pair (everything), judgement (the same, whoever won), answers (the same, whoever judged), tie.
    """
    hashed = ("prompt", "chosen", "rejected", "rejected_prompt", "annotator", "label")
    keys = {name: _hashes(rows[name]) for name in hashed}
    keys["near_prompt"] = _hashes(rows["prompt"].map(prompt_key, na_action="ignore"))
    either, other = np.minimum(keys["chosen"], keys["rejected"]), np.maximum(keys["chosen"], keys["rejected"])
    # Rows whose two prompts differ keep to themselves: they are no duplicates of sound rows.
    by_whom = [keys["prompt"], keys["rejected_prompt"], keys["annotator"], rows["tie"].to_numpy(np.uint64)]
    kept = ("prompt", "near_prompt", "chosen", "rejected", "label")
    return pd.DataFrame(
        {name: keys[name] for name in kept}
        | {
            f"{side}_words": [len(text.split()) if isinstance(text, str) else 0 for text in rows[side]]
            for side in ("chosen", "rejected")
        }
        | {
            "pair": _joined(*by_whom, keys["chosen"], keys["rejected"]),
            "judgement": _joined(*by_whom, either, other),
            "answers": _joined(keys["prompt"], either, other),
            "tie": rows["tie"].to_numpy(bool),
        },
        index=rows.index,
    )


def check_rows(rows: pd.DataFrame, limits: Validation) -> RowReport:
    """Judge rows, each by itself, as :func:`kellet.data.preferences.read_preferences` gives them."""
    # A conversation's prompt is judged by its last message, not by the JSON that it is kept as.
    said = rows["prompt"].map(last_message, na_action="ignore").astype(object)
    judged = rows.assign(chosen_prompt=rows["prompt"], prompt=said)
    return _row_report(_run("rows", judged, row_expectations(limits), complete=True))


def check_pairs(keys: pd.DataFrame) -> RowReport:
    """Judge rows by what the others say: ``pair`` and ``judgement`` of :func:`row_keys`, for all rows of all files."""
    return _row_report(_run("pairs", keys[["pair", "judgement"]], pair_expectations(), complete=True))


def check_prompts(prompts: "pd.Series[Any]", limits: Validation) -> "pd.Series[str]":
    """Why each prompt that no answer comes with is refused; empty where it is not."""
    suite = [each for each in row_expectations(limits) if getattr(each, "column", None) == "prompt"]
    said = pd.DataFrame({"prompt": prompts.map(last_message, na_action="ignore").astype(object)})
    return _row_report(_run("prompts", said, suite, complete=True)).reasons.reindex(prompts.index).fillna("")


def merge_results(results: Sequence[Any]) -> Any:
    """The validation results of the same suite on several parts of the rows as one, counts added up."""
    whole = results[0]
    for position, each in enumerate(whole.results):
        parts = [result.results[position].result for result in results]
        counts = {name: sum(part.get(name) or 0 for part in parts) for name in ("element_count", "unexpected_count")}
        counts["missing_count"] = sum(part.get("missing_count") or 0 for part in parts)
        share = 100 * counts["unexpected_count"] / max(counts["element_count"], 1)
        each.result = {**counts, "unexpected_percent": share, "partial_unexpected_list": []}
        each.success = counts["unexpected_count"] == 0
    passed, count = sum(each.success for each in whole.results), len(whole.results)
    whole.success = passed == count
    whole.statistics = {
        "evaluated_expectations": count,
        "successful_expectations": passed,
        "unsuccessful_expectations": count - passed,
        "success_percent": 100 * passed / max(count, 1),
    }
    return whole


def check_table(table: pd.DataFrame, summary: Mapping[str, Any], data: Data) -> tuple[TableReport, Any]:
    """Judge the accepted pairs as a whole: their :func:`row_keys` with pair_id and split.

    ``summary`` has the counts rows_in and quarantined and, where rows were only set aside, reasons. Returns the report
    and the validation result of Great Expectations, for the Data Docs.
    """
    result = _run("table", table, table_expectations(table, summary, data), complete=False)
    checks = [
        DataCheck(
            name=each.expectation_config.type,
            wanted=each.expectation_config.meta["wanted"],
            observed=_observed(each.result),
            passed=bool(each.success),
            severity=str(each.expectation_config.severity.value),
        )
        for each in sorted(result.results, key=lambda each: each.expectation_config.meta["rank"])
    ]
    return TableReport(tuple(checks)), result


def row_expectations(limits: Validation) -> list[Any]:
    """The row suite, in the order in which reasons are given; meta carries the reason."""
    import great_expectations.expectations as gxe

    from kellet.data import expectations as own

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
    prompts = {"column_A": "chosen_prompt", "column_B": "rejected_prompt", "ignore_row_if": "either_value_is_missing"}
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
    return _quarantining(suite)


def pair_expectations() -> list[Any]:
    """The suite that looks at all rows together, in the order in which reasons are given."""
    from kellet.data import expectations as own

    judgement = {"column_A": "pair", "column_B": "judgement"}
    return _quarantining(
        [
            ("the same answers are judged both ways", own.ExpectOneJudgement, judgement),
            ("exact duplicate", own.ExpectFirstOccurrence, {"column": "pair"}),
        ]
    )


def _quarantining(suite: list[tuple[str, Any, dict[str, Any]]]) -> list[Any]:
    return [
        kind(**given, description=f"Quarantine: {reason}", meta={"reason": reason, "rank": rank})
        for rank, (reason, kind, given) in enumerate(suite)
    ]


def table_expectations(table: pd.DataFrame, summary: Mapping[str, Any], data: Data) -> list[Any]:
    """The table suite; meta carries in words what is wanted."""
    import great_expectations.expectations as gxe

    from kellet.data import expectations as own

    limits = data.validation
    (low, high), (fail_low, fail_high) = limits.longer_preferred_warn, limits.longer_preferred_fail
    shares = {"train": 1.0, "validation": data.split.validation, "test": data.split.test}
    splits = [name for name in SPLITS if shares[name] > 0]
    band = "share of pairs whose longer answer was chosen within"
    aside = sum(count for reason, count in summary.get("reasons", {}).items() if reason in SET_ASIDE)
    bad = {"quarantined": summary["quarantined"] - aside, "rows_in": summary["rows_in"]}
    copies = int((table.groupby("near_prompt")["split"].nunique() > 1).sum())
    suite: list[tuple[str, Any, dict[str, Any]]] = [
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
            bad | {"maximum": limits.max_quarantined},
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
        (
            "no prompt in two splits that differs in case or white space only (data.split.normalise)",
            own.ExpectNoNearCopyInTwoSplits,
            {"copies": copies, "severity": "warning"},
        ),
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


def _hashes(texts: "pd.Series[Any]") -> npt.NDArray[np.uint64]:
    """A 64-bit hash of each text, 0 where there is none."""
    missing = texts.isna().to_numpy()
    hashes = pd.util.hash_array(texts.where(~missing, "").to_numpy(object))
    hashes[missing] = 0
    return np.asarray(hashes, dtype=np.uint64)


def _joined(*columns: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """One hash for each row of several columns."""
    joined = pd.util.hash_pandas_object(pd.DataFrame(dict(enumerate(columns))), index=False)
    return np.asarray(joined, dtype=np.uint64)


def _row_report(result: Any) -> RowReport:
    reasons: dict[Any, str] = {}
    for each in sorted(result.results, key=lambda each: each.expectation_config.meta["rank"]):
        for index in each.result.get("unexpected_index_list") or []:
            reasons.setdefault(index, each.expectation_config.meta["reason"])
    return RowReport(pd.Series(reasons, dtype=object).sort_index(), result)


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
