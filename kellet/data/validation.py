"""Judging preference tables: rows, which may go to quarantine, and the table as a whole.

The expectations stand in kellet/data/suite.py, what they compute in kellet/data/checks.py. Rows are judged some
thousands at a time. What takes all rows at once (duplicates, contradictions, the table) is judged on numbers that stand
for the texts (:func:`row_keys`).

With ``docs`` Great Expectations judges the same suites beside that, and has to find the same, for the Data Docs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.config.data import Data, Validation
from kellet.data.checks import ROWS, judge_table
from kellet.data.conversation import last_message
from kellet.data.suite import Expectation, pair_expectations, row_expectations, table_expectations
from kellet.errors import DataError
from kellet.stats.words import word_count


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
    """The validation result of Great Expectations, for the Data Docs; None without them."""


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
            f"{side}_words": [word_count(text) if isinstance(text, str) else 0 for text in rows[side]]
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


def check_rows(rows: pd.DataFrame, limits: Validation, docs: bool = False) -> RowReport:
    """Judge rows, each by itself, as :func:`kellet.data.preferences.read_preferences` gives them."""
    # a conversation is stored as JSON; the checks are about what its last message says
    messages = rows["prompt"].map(last_message, na_action="ignore").astype(object)
    table = rows.assign(chosen_prompt=rows["prompt"], prompt=messages)
    return _judge_rows("rows", table, row_expectations(limits), docs)


def check_pairs(keys: pd.DataFrame, docs: bool = False) -> RowReport:
    """Judge each row beside all others: ``pair`` and ``judgement`` of :func:`row_keys`, for all rows of all files."""
    return _judge_rows("pairs", keys[["pair", "judgement"]], pair_expectations(), docs)


def check_prompts(prompts: "pd.Series[Any]", limits: Validation) -> "pd.Series[str]":
    """Judge prompts that come without answers: the reason why each is refused, empty where it is not."""
    suite = [line for line in row_expectations(limits) if line.given.get("column") == "prompt"]
    messages = pd.DataFrame({"prompt": prompts.map(last_message, na_action="ignore").astype(object)})
    return _judge_rows("prompts", messages, suite, docs=False).reasons.reindex(prompts.index).fillna("")


def check_table(
    table: pd.DataFrame, summary: Mapping[str, Any], data: Data, docs: bool = False
) -> tuple[TableReport, Any]:
    """Judge the accepted pairs as a whole: their :func:`row_keys` with pair_id and split.

    ``summary`` has the counts rows_in and quarantined and, by reason, ``reasons``: rows that were set aside for their
    annotators (kellet/data/annotators.py) do not count as bad. Returns the report and the validation result of Great
    Expectations, for the Data Docs, which is None without ``docs``.
    """
    suite = table_expectations(table, summary, data)
    checks = []
    for line in suite:
        passed, observed = judge_table(line.name, table, dict(line.given))
        checks.append(DataCheck(line.name, line.meaning, observed, bool(passed), line.severity))
    result = None
    if docs:
        from kellet.data.expectations import require_same, run

        result = run("table", table, suite, "Wanted", complete=False)
        require_same(result, {}, {rank: check.passed for rank, check in enumerate(checks)})
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


def _judge_rows(name: str, table: pd.DataFrame, suite: Sequence[Expectation], docs: bool) -> RowReport:
    """Each failing row with the first reason in the order of the suite."""
    failing = {rank: list(table.index[ROWS[line.name](table, **line.given)]) for rank, line in enumerate(suite)}
    reasons: dict[Any, str] = {}
    for rank, line in enumerate(suite):
        for index in failing[rank]:
            reasons.setdefault(index, line.meaning)
    result = None
    if docs:
        from kellet.data.expectations import require_same, run

        result = run(name, table, suite, "Quarantine", complete=True)
        require_same(result, failing, {})
    return RowReport(pd.Series(reasons, dtype=object).sort_index(), result)
