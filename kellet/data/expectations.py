"""Great Expectations that the library does not have: metrics of preference tables and the expectations on them.

Importing this module registers them with Great Expectations and takes seconds; import it where it is needed.
Row expectations are judged pair by pair; batch expectations judge the whole table and have an observed value.
"""

from typing import Any

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
        return column_A.str.strip() != column_B.str.strip()


class _OnlyOne(ColumnPairMapMetricProvider):  # type: ignore[misc]
    condition_metric_name = "column_pair_values.one_a_for_each_b"
    condition_domain_keys = PAIR_DOMAIN
    condition_value_keys = ()

    @column_pair_condition_partial(engine=PandasExecutionEngine)  # type: ignore[untyped-decorator]
    def _pandas(cls, column_A: Any, column_B: Any, **kwargs: Any) -> Any:  # noqa: ARG002, N803, N805
        return column_A.groupby(column_B).transform("nunique") == 1


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


def longer_preferred(table: pd.DataFrame) -> tuple[int, int, int]:
    """Pairs whose chosen answer has (more, fewer, equally many) words than the rejected one.

    Like all table metrics it reads :func:`kellet.data.validation.row_keys`, not texts.
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
