"""Several judgements of the same answers, settled by hand."""

import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kellet.config.data import Data, Split, Validation
from kellet.data.annotators import DISAGREE, DIVIDED, OUTVOTED, SAME, TIE
from kellet.data.prepare import examine
from tests.helpers.rows import write_jsonl

LOOSE = Validation(min_pairs=1, max_quarantined=0.0)
VOTES = {"clear": "aab", "even": "ab", "agreed": "bb", "tied": "a=", "alone": "a", "equal": "="}
"""For each prompt the votes of annotators 0, 1, 2 on its two answers; = is a tie."""


def settled(tmp_path: Path, how: Any, shuffled: bool = False) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    rows = [
        {"prompt": p, "answer_a": "one", "answer_b": "two words", "annotator": n, "preferred": "tie" if v == "=" else v}
        for p, votes in VOTES.items()
        for n, v in enumerate(votes)
    ]
    if shuffled:
        random.Random(1).shuffle(rows)  # noqa: S311
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    data = Data(validation=LOOSE, split=Split(validation=0, test=0), disagreement=how)
    result = examine([("x", path)], data, tmp_path)
    assert result.report.failed == ()
    return *(pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("preferences", "quarantine")), result.summary


def accepted(table: pd.DataFrame) -> list[tuple[str, str]]:
    return sorted(zip(table["prompt"], table["chosen"], strict=True))


def test_keep_leaves_each_judgement_and_sets_ties_aside(tmp_path: Path) -> None:
    table, quarantine, summary = settled(tmp_path, "keep")
    assert len(table) == 9
    assert quarantine["reason"].tolist() == [TIE, TIE]
    assert "weight" not in table
    assert summary["rows_in"] == 11


def test_majority_leaves_one_row_where_one_side_has_more_votes(tmp_path: Path) -> None:
    table, _, summary = settled(tmp_path, "majority")
    assert accepted(table) == [("agreed", "two words"), ("alone", "one"), ("clear", "one"), ("tied", "one")]
    assert summary["reasons"] == {DIVIDED: 2, SAME: 2, OUTVOTED: 1, TIE: 2}


def test_drop_leaves_one_row_where_all_agree(tmp_path: Path) -> None:
    table, _, summary = settled(tmp_path, "drop")
    assert accepted(table) == [("agreed", "two words"), ("alone", "one")]
    assert summary["reasons"] == {DISAGREE: 6, SAME: 1, TIE: 2}


def test_weights_let_every_pair_count_once_less_its_ties(tmp_path: Path) -> None:
    table, _, _ = settled(tmp_path, "weights")
    total = table.groupby("prompt")["weight"].sum().to_dict()
    assert total == pytest.approx({"clear": 1, "even": 1, "agreed": 1, "tied": 0.5, "alone": 1})
    assert table.loc[table["prompt"] == "clear", "weight"].tolist() == pytest.approx([1 / 3] * 3)


@pytest.mark.parametrize("how", ["majority", "weights"])
def test_the_order_of_the_rows_decides_nothing(tmp_path: Path, how: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    settled(tmp_path / "a", how)
    settled(tmp_path / "b", how, shuffled=True)
    assert (tmp_path / "a/preferences.parquet").read_bytes() == (tmp_path / "b/preferences.parquet").read_bytes()
