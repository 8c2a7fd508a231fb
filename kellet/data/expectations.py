"""The suites of kellet/data/suite.py as Great Expectations runs them, for the Data Docs; needs the extra ``train``.

The verdict is that of kellet/data/checks.py; a result here that differs from it is an error (:func:`require_same`).
Importing this module registers the expectations that the library does not have and takes seconds; import it where it
is needed. Row expectations are judged pair by pair; batch expectations judge the whole table and have an observed
value. No text from the data is ever part of a result: Great Expectations does not escape it in its pages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation, ColumnMapExpectation, ColumnPairMapExpectation
from great_expectations.expectations.metrics.map_metric_provider import (
    ColumnMapMetricProvider,
    ColumnPairMapMetricProvider,
    column_condition_partial,
    column_pair_condition_partial,
)
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.expectations.registry import get_expectation_impl

from kellet.data.checks import constant_labels, differ_when_stripped, longer_preferred, one_for_each, split_leaks
from kellet.data.suite import Expectation

PAIR_DOMAIN = ("batch_id", "table", "column_A", "column_B", "row_condition", "condition_parser", "ignore_row_if")


class _FirstOccurrence(ColumnMapMetricProvider):  # type: ignore[misc]
    condition_metric_name = "column_values.first_occurrence"

    @column_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column: Any, **kwargs: Any) -> Any:  # noqa: ARG002, N805
        return ~column.duplicated(keep="first")


class _Differ(ColumnPairMapMetricProvider):  # type: ignore[misc]
    condition_metric_name = "column_pair_values.differ_when_stripped"
    condition_domain_keys = PAIR_DOMAIN
    condition_value_keys = ()

    @column_pair_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_A: Any, column_B: Any, **kwargs: Any) -> Any:  # noqa: ARG002, N803, N805
        return differ_when_stripped(column_A, column_B)


class _OnlyOne(ColumnPairMapMetricProvider):  # type: ignore[misc]
    condition_metric_name = "column_pair_values.one_a_for_each_b"
    condition_domain_keys = PAIR_DOMAIN
    condition_value_keys = ()

    @column_pair_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_A: Any, column_B: Any, **kwargs: Any) -> Any:  # noqa: ARG002, N803, N805
        return one_for_each(column_A, column_B)


class ExpectFirstOccurrence(ColumnMapExpectation):  # type: ignore[misc]
    """Expect each value of a column once; of several, the first is kept."""

    map_metric = "column_values.first_occurrence"


class ExpectAnswersToDiffer(ColumnPairMapExpectation):  # type: ignore[misc]
    """Expect two text columns to differ when white space at their ends is left out."""

    ignore_row_if: str = "either_value_is_missing"
    map_metric = "column_pair_values.differ_when_stripped"
    success_keys = ("column_A", "column_B", "ignore_row_if", "mostly")


class ExpectOneJudgement(ColumnPairMapExpectation):  # type: ignore[misc]
    """Expect one value of column A (who won) for each value of column B (which two answers, judged by whom)."""

    ignore_row_if: str = "either_value_is_missing"
    map_metric = "column_pair_values.one_a_for_each_b"
    success_keys = ("column_A", "column_B", "ignore_row_if", "mostly")


class _TableMetric(TableMetricProvider):  # type: ignore[misc]
    """A function of the whole table as a metric."""

    metric_name = "table.constant_labels"

    @metric_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, execution_engine: Any, metric_domain_kwargs: Any, **kwargs: Any) -> Any:  # noqa: ARG002, N805
        return constant_labels(_domain(execution_engine, metric_domain_kwargs))


class _LongerPreferred(TableMetricProvider):  # type: ignore[misc]
    metric_name = "table.longer_preferred"

    @metric_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, execution_engine: Any, metric_domain_kwargs: Any, **kwargs: Any) -> Any:  # noqa: ARG002, N805
        return longer_preferred(_domain(execution_engine, metric_domain_kwargs))


class _SplitLeaks(TableMetricProvider):  # type: ignore[misc]
    metric_name = "table.split_leaks"

    @metric_value(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, execution_engine: Any, metric_domain_kwargs: Any, **kwargs: Any) -> Any:  # noqa: ARG002, N805
        return split_leaks(_domain(execution_engine, metric_domain_kwargs))


def _domain(engine: Any, domain: Any) -> pd.DataFrame:
    table: pd.DataFrame = engine.get_compute_domain(domain, domain_type=MetricDomainTypes.TABLE)[0]
    return table


class ExpectLabelsToVary(BatchExpectation):  # type: ignore[misc]
    """Expect that not all judgements are equal."""

    metric_dependencies = ("table.constant_labels",)

    def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:  # noqa: ARG002
        reasons = metrics["table.constant_labels"]
        return {"success": not reasons, "result": {"observed_value": "; ".join(reasons) or "labels vary"}}


class ExpectNoPromptInTwoSplits(BatchExpectation):  # type: ignore[misc]
    """Expect the splits to share no prompt."""

    metric_dependencies = ("table.split_leaks",)

    def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:  # noqa: ARG002
        leaks = metrics["table.split_leaks"]
        return {"success": leaks == 0, "result": {"observed_value": f"{leaks} prompts in more than one split"}}


class ExpectNoNearCopyInTwoSplits(BatchExpectation):  # type: ignore[misc]
    """Expect the splits to share no prompt but for case and white space; the count is given."""

    copies: int
    metric_dependencies = ()

    def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:  # noqa: ARG002
        return {"success": self.copies == 0, "result": {"observed_value": f"{self.copies} prompts"}}


class ExpectLongerPreferredBetween(BatchExpectation):  # type: ignore[misc]
    """Expect the share of pairs whose longer answer was chosen, among pairs of unequal length, within a band."""

    low: float
    high: float
    metric_dependencies = ("table.longer_preferred",)

    def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:  # noqa: ARG002
        more, fewer, _ = metrics["table.longer_preferred"]
        share = more / (more + fewer) if more + fewer else 0.5
        return {"success": self.low <= share <= self.high, "result": {"observed_value": round(share, 4)}}


class ExpectQuarantinedShareAtMost(BatchExpectation):  # type: ignore[misc]
    """Expect that few of the rows that came were quarantined; the two counts are given, the table has neither."""

    quarantined: int
    rows_in: int
    maximum: float
    metric_dependencies = ()

    def _validate(self, metrics: Any, runtime_configuration: Any = None, execution_engine: Any = None) -> Any:  # noqa: ARG002
        share = self.quarantined / self.rows_in
        observed = f"{share:.4f} ({self.quarantined} of {self.rows_in} rows)"
        return {"success": share <= self.maximum, "result": {"observed_value": observed}}


def run(name: str, table: pd.DataFrame, suite: Sequence[Expectation], meaning: str, complete: bool) -> Any:
    """Validate in a temporary context; an expectation that cannot be computed raises RuntimeError, it does not fail.

    ``meaning`` says before each line's own what it is; with ``complete`` the result names the rows that fail.
    """
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}
    asset = context.data_sources.add_pandas("preferences").add_dataframe_asset(name)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
    lines = [_translated(line, rank, meaning) for rank, line in enumerate(suite)]
    # no example values: the pages would show them unescaped
    form = {"result_format": "COMPLETE", "partial_unexpected_count": 0} if complete else {"result_format": "SUMMARY"}
    result = batch.validate(gx.ExpectationSuite(name=name, expectations=lines), result_format=form)
    for check in result.results:
        if "'raised_exception': True" in str(check.exception_info):
            raise RuntimeError(f"{check.expectation_config.type} could not be computed: {check.exception_info}")
    return result


def require_same(result: Any, failing: Mapping[int, Sequence[Any]], passed: Mapping[int, bool]) -> None:
    """Raise RuntimeError where Great Expectations found other rows (``failing``, by rank), or passes another check."""
    for check in result.results:
        rank = int(check.expectation_config.meta["rank"])
        rows = sorted(check.result.get("unexpected_index_list") or [])
        if rows != sorted(failing.get(rank, rows)) or bool(check.success) != passed.get(rank, bool(check.success)):
            raise RuntimeError(
                f"{check.expectation_config.type}: Great Expectations {gx.__version__} and kellet/data/checks.py "
                "disagree on this table; please report it"
            )


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


def _translated(line: Expectation, rank: int, meaning: str) -> Any:
    """A line of a suite as the library has it; a pair of values of which one is missing is not judged."""
    kind = get_expectation_impl(line.name)
    given = dict(line.given)
    if issubclass(kind, ColumnPairMapExpectation):
        given["ignore_row_if"] = "either_value_is_missing"
    description, meta = f"{meaning}: {line.meaning}", {"meaning": line.meaning, "rank": rank}
    return kind(**given, severity=line.severity, description=description, meta=meta)
