"""Judging preference tables by Great Expectations: rows, which may go to quarantine, and the table as a whole.

The expectations stand in kellet/data/suite.py. Rows are judged some thousands at a time. What takes all rows at once
(duplicates, contradictions, the table) is judged on numbers that stand for the texts (:func:`row_keys`).

No text from the data is ever part of a result: Great Expectations does not escape it in its pages.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.config.data import Data, Validation
from kellet.data.conversation import last_message
from kellet.data.suite import pair_expectations, row_expectations, table_expectations
from kellet.errors import DataError


@dataclass(frozen=True)
class DataCheck:
    """One expectation on the whole table."""

    name: str
    wanted: str
    observed: str
    passed: bool
    severity: str
    """``critical`` fails the table, ``warning`` is only reported."""

    def __str__(self) -> str:
        return f"{self.name}: wanted {self.wanted}, got {self.observed}"


@dataclass(frozen=True)
class TableReport:
    """The checks of a table."""

    checks: tuple[DataCheck, ...]

    @property
    def failed(self) -> tuple[DataCheck, ...]:
        """Failed checks for which the table cannot be used."""
        return tuple(check for check in self.checks if not check.passed and check.severity == "critical")

    @property
    def warnings(self) -> tuple[str, ...]:
        """Failed checks that are only reported, as sentences."""
        return tuple(str(check) for check in self.checks if not check.passed and check.severity == "warning")

    def raise_if_failed(self, hint: str = "") -> None:
        """Raise DataError naming each failing expectation with what it wanted and what it got."""
        if self.failed:
            raise DataError("the preferences cannot be used: " + "; ".join(map(str, self.failed)) + hint)


@dataclass(frozen=True)
class RowReport:
    """Which rows failed, and why."""

    reasons: "pd.Series[str]"
    """Index of a failing row -> the first reason, in the order of the suite."""
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
    # rejected_prompt is part of the key, so that a row whose two prompts differ is no duplicate of a valid one
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
    # a conversation is stored as JSON; the checks are about what its last message says
    messages = rows["prompt"].map(last_message, na_action="ignore").astype(object)
    table = rows.assign(chosen_prompt=rows["prompt"], prompt=messages)
    return _row_report(_run("rows", table, row_expectations(limits), complete=True))


def check_pairs(keys: pd.DataFrame) -> RowReport:
    """Judge each row beside all others: ``pair`` and ``judgement`` of :func:`row_keys`, for all rows of all files."""
    return _row_report(_run("pairs", keys[["pair", "judgement"]], pair_expectations(), complete=True))


def check_prompts(prompts: "pd.Series[Any]", limits: Validation) -> "pd.Series[str]":
    """Judge prompts that come without answers: the reason why each is refused, empty where it is not."""
    suite = [
        expectation for expectation in row_expectations(limits) if getattr(expectation, "column", None) == "prompt"
    ]
    messages = pd.DataFrame({"prompt": prompts.map(last_message, na_action="ignore").astype(object)})
    return _row_report(_run("prompts", messages, suite, complete=True)).reasons.reindex(prompts.index).fillna("")


def merge_results(results: Sequence[Any]) -> Any:
    """The validation results of the same suite on several parts of the rows as one, counts added up."""
    merged = results[0]
    for position, check in enumerate(merged.results):
        parts = [result.results[position].result for result in results]
        counts = {name: sum(part.get(name) or 0 for part in parts) for name in ("element_count", "unexpected_count")}
        counts["missing_count"] = sum(part.get("missing_count") or 0 for part in parts)
        share = 100 * counts["unexpected_count"] / max(counts["element_count"], 1)
        check.result = {**counts, "unexpected_percent": share, "partial_unexpected_list": []}
        check.success = counts["unexpected_count"] == 0
    passed, count = sum(check.success for check in merged.results), len(merged.results)
    merged.success = passed == count
    merged.statistics = {
        "evaluated_expectations": count,
        "successful_expectations": passed,
        "unsuccessful_expectations": count - passed,
        "success_percent": 100 * passed / max(count, 1),
    }
    return merged


def check_table(table: pd.DataFrame, summary: Mapping[str, Any], data: Data) -> tuple[TableReport, Any]:
    """Judge the accepted pairs as a whole: their :func:`row_keys` with pair_id and split.

    ``summary`` has the counts rows_in and quarantined and, by reason, ``reasons``: rows that were set aside for their
    annotators (kellet/data/annotators.py) do not count as bad. Returns the report and the validation result of Great
    Expectations, for the Data Docs.
    """
    result = _run("table", table, table_expectations(table, summary, data), complete=False)
    checks = [
        DataCheck(
            name=check.expectation_config.type,
            wanted=check.expectation_config.meta["wanted"],
            observed=_observed(check.result),
            passed=bool(check.success),
            severity=str(check.expectation_config.severity.value),
        )
        for check in _in_order(result)
    ]
    return TableReport(tuple(checks)), result


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
    for check in _in_order(result):
        for index in check.result.get("unexpected_index_list") or []:
            reasons.setdefault(index, check.expectation_config.meta["reason"])
    return RowReport(pd.Series(reasons, dtype=object).sort_index(), result)


def _in_order(result: Any) -> list[Any]:
    """The checks of a validation result in the order of their suite."""
    return sorted(result.results, key=lambda check: int(check.expectation_config.meta["rank"]))


def _run(name: str, table: pd.DataFrame, expectations: list[Any], complete: bool) -> Any:
    """Validate in a temporary context; an expectation that cannot be computed raises RuntimeError, it does not fail."""
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("preferences").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
    suite = gx.ExpectationSuite(name=name, expectations=expectations)
    # no example values: the pages would show them unescaped
    form = {"result_format": "COMPLETE", "partial_unexpected_count": 0} if complete else {"result_format": "SUMMARY"}
    result = batch.validate(suite, result_format=form)
    for check in result.results:
        if "'raised_exception': True" in str(check.exception_info):
            raise RuntimeError(f"{check.expectation_config.type} could not be computed: {check.exception_info}")
    return result


def _observed(result: Mapping[str, Any]) -> str:
    if result.get("observed_value") is not None:
        return str(result["observed_value"])
    missing = ", ".join(map(str, result.get("partial_missing_list") or ()))
    return f"{result.get('unexpected_count')} exceptions" + (f", none in {missing}" if missing else "")
