"""Preparing: counts add up, bytes are the same, and a refused table changes nothing."""

import collections
import functools
import hashlib
import json
import random
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kellet.config.data import Data, Split, Validation
from kellet.data import prepare as stage
from kellet.data.preferences import read_preferences
from kellet.data.prepare import examine, prepare, split_of
from kellet.data.prompts import prompt_key
from kellet.errors import DataError
from tests.helpers.rows import row, write_jsonl

HALVES = Split(validation=0.3, test=0.3)
LOOSE = Validation(min_pairs=1, max_quarantined=1)


def data(*files: str, **other: Any) -> Data:
    return Data(files=files or ("raw.jsonl",), **({"validation": Validation(min_pairs=10), "split": HALVES} | other))


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_rows_are_accepted_or_quarantined_with_their_origin(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", [row(n, annotator="x") for n in range(40)] + [row(41, chosen="")])
    (tmp_path / "b.jsonl").write_text("broken\n" + json.dumps(row(50)) + "\n" + json.dumps(row(51, prompt=None)))
    summary = prepare(data("a.jsonl", "b.jsonl"), tmp_path, tmp_path / "out")
    table, quarantine = (pd.read_parquet(tmp_path / f"out/{name}.parquet") for name in ("preferences", "quarantine"))
    columns = ["pair_id", "prompt", "chosen", "rejected", "annotator", "source", "split"]
    assert table.columns.tolist() == columns
    assert table["source"].value_counts().to_dict() == {"a.jsonl": 40, "b.jsonl": 1}
    assert table["annotator"].isna().sum() == 1
    assert quarantine[["file", "line"]].to_numpy().tolist() == [["a.jsonl", 41], ["b.jsonl", 1], ["b.jsonl", 3]]
    assert quarantine["row"].tolist() == [json.dumps(row(41, chosen="")), "broken", json.dumps(row(51, prompt=None))]
    assert summary == json.loads((tmp_path / "out/summary.json").read_text())
    counts = [summary[key] for key in ("rows_in", "accepted", "quarantined")]
    assert counts == [44, 41, 3]
    assert sum(summary["reasons"].values()) == 3
    assert sum(summary["splits"].values()) == 41
    assert table.groupby("prompt")["split"].nunique().max() == 1


def test_what_is_odd_about_a_file_is_told_and_folders_take_any_capitals(tmp_path: Path) -> None:
    folder = tmp_path / "batches"
    folder.mkdir()
    lines = [
        "prompt;chosen;rejected",
        *(";".join(row(n)[key] for key in ("prompt", "chosen", "rejected")) for n in range(60)),
    ]
    (folder / "A.CSV").write_text("\n".join(lines), encoding="utf-8")
    summary = prepare(data("batches"), tmp_path, tmp_path / "out")
    assert summary["accepted"] == 60
    assert summary["notes"] == ["batches/A.CSV: the columns are separated by semicolons"]


TEXT = st.sampled_from(["", " ", "a", "b", "a b", "Ã©", "\ud83d", None, 3])
LINES = st.one_of(
    st.sampled_from(["{", "[]", "", '"x"', "\u2028"]),
    st.fixed_dictionaries({}, optional={"prompt": TEXT, "chosen": TEXT, "rejected": TEXT, "annotator": TEXT}).map(
        json.dumps
    ),
)


@given(st.lists(LINES, max_size=12))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_rows_in_are_always_accepted_plus_quarantined(tmp_path_factory: pytest.TempPathFactory, lines: list) -> None:
    """Whatever the lines are; each line that is not blank (to JSON: RFC 8259) comes out once, by its number."""
    folder = tmp_path_factory.mktemp("rows")
    path = folder / "x.jsonl"
    path.write_text("\n".join([json.dumps(row(0)), *lines]), encoding="utf-8")
    summary = examine([("x", path)], Data(validation=LOOSE), folder).summary
    table, quarantine = (pd.read_parquet(folder / f"{name}.parquet") for name in ("preferences", "quarantine"))
    came = [n for n, line in enumerate(["first", *lines], start=1) if line.strip(" \t\r\n")]
    assert summary["rows_in"] == len(came) == len(table) + len(quarantine)
    assert [summary["accepted"], summary["quarantined"]] == [len(table), len(quarantine)]
    left = set(came) - set(quarantine["line"])
    assert len(left) == len(table)
    assert all(text.strip() for column in ("prompt", "chosen", "rejected") for text in table[column])


def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    rows = [row(n, margin=n / 7, created_at="2026-01-31") for n in range(60)]
    write_jsonl(tmp_path / "raw.jsonl", rows)
    prepare(data(), tmp_path, tmp_path / "one")
    prepare(data(), tmp_path, tmp_path / "two", tmp_path / "docs")
    random.Random(0).shuffle(rows)  # noqa: S311
    write_jsonl(tmp_path / "raw.jsonl", rows)
    prepare(data(), tmp_path, tmp_path / "three")
    assert content(tmp_path / "one") == content(tmp_path / "two") == content(tmp_path / "three")
    assert sorted(content(tmp_path / "one")) == ["preferences.parquet", "quarantine.parquet", "summary.json"]


def test_a_prompt_keeps_its_split_when_data_are_added() -> None:
    """A law of the split, and its shares over many prompts (binomial: 4 standard deviations of 0.3 at 5,000)."""
    prompts = [f"prompt {n}" for n in range(5000)]
    shares = {name: n / 5000 for name, n in collections.Counter(split_of(p, HALVES) for p in prompts).items()}
    assert shares["test"] == pytest.approx(0.3, abs=0.026)
    assert shares["validation"] == pytest.approx(0.3, abs=0.026)
    more = Split(validation=0.3, test=0.4)
    assert all(split_of(p, more) == "test" for p in prompts if split_of(p, HALVES) == "test")


def test_the_split_follows_from_sha256() -> None:
    """By coreutils sha256sum: hello begins 2cf2 (u = 0.1756), a begins ca97 (0.791), abc begins ba78 (0.728)."""
    assert split_of("hello", Split(test=0.17, validation=0.01)) == "validation"
    assert split_of("hello", Split(test=0.18, validation=0.0)) == "test"
    assert split_of("a", Split(test=0.5, validation=0.23)) == "train"
    assert split_of("abc", Split(test=0.5, validation=0.23)) == "validation"


def test_longer_preferred_is_a_share_of_pairs_of_unequal_length(tmp_path: Path) -> None:
    """81 of 263 longer ones chosen, 37 of equal length."""
    rows = [row(n, chosen=f"a b c {n}", rejected="d") for n in range(81)]
    rows += [row(n, chosen=f"d {n}", rejected="a b c") for n in range(81, 263)]
    rows += [row(n, chosen=f"d {n}", rejected="a b") for n in range(263, 300)]
    write_jsonl(tmp_path / "raw.jsonl", rows)
    found = prepare(data(), tmp_path, tmp_path / "out")["longer_preferred"]
    assert found["share"] == pytest.approx(81 / 263, abs=1e-6)
    assert found["interval"] == pytest.approx([0.2553, 0.3662], abs=5e-5)
    assert (found["pairs"], found["equal_length"]) == (263, 37)


def test_a_refused_table_names_what_failed_and_leaves_the_old_folder(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "raw.jsonl", [row(n) for n in range(40)])
    prepare(data(), tmp_path, tmp_path / "out")
    before = content(tmp_path / "out")
    write_jsonl(tmp_path / "raw.jsonl", [row(n) for n in range(40)] + [row(n, chosen="") for n in range(40, 60)])
    with pytest.raises(DataError) as error:
        prepare(data(), tmp_path, tmp_path / "out", tmp_path / "docs")
    message = str(error.value)
    assert "expect_quarantined_share_at_most: wanted at most 0.2" in message
    assert "got 0.3333 (20 of 60 rows)" in message
    assert "20 × chosen is empty (first: raw.jsonl line 41)" in message
    assert "cannot be used" in (tmp_path / "docs/index.html").read_text()
    assert content(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["docs", "out", "raw.jsonl"]


def test_files_of_different_columns_are_joined(tmp_path: Path) -> None:
    whole = "\n\nHuman: Hi {}\n\nAssistant: {}"
    dialogues = [{"chosen": whole.format(n, f"Yes {n}"), "rejected": whole.format(n, "No")} for n in range(20)]
    write_jsonl(tmp_path / "hh.jsonl.gz", dialogues)
    pd.DataFrame([row(n, margin=1) for n in range(20)]).to_csv(tmp_path / "x.csv", index=False)
    summary = prepare(data("hh.jsonl.gz", "x.csv", validation=LOOSE), tmp_path, tmp_path / "out")
    assert (summary["accepted"], summary["quarantined"]) == (40, 0)
    assert pd.read_parquet(tmp_path / "out/preferences.parquet")["margin"].sum() == 20


def test_rows_in_many_small_parts_are_prepared_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Duplicates, contradictions and quarantined rows are far apart; the tables hold the same rows in one order."""
    rows = [row(n, annotator="a", margin=n / 7) for n in range(60)] + [row(3, annotator="a"), row(70, chosen="")]
    rows += [row(5, chosen=row(5)["rejected"], rejected=row(5)["chosen"], annotator="a"), row(71, prompt=3), row(72)]
    write_jsonl(tmp_path / "raw.jsonl", rows)
    whole = prepare(data(), tmp_path, tmp_path / "whole", tmp_path / "docs/whole")
    monkeypatch.setattr(stage, "read_preferences", functools.partial(read_preferences, size=7))
    monkeypatch.setattr("kellet.data.spill.GROUP", 16)
    percents: list[float] = []
    parts = prepare(
        data(), tmp_path, tmp_path / "parts", tmp_path / "docs/parts", lambda *step: percents.append(step[0])
    )
    assert whole == parts
    assert whole["reasons"] == {
        "chosen is empty": 1,
        "exact duplicate": 1,
        "prompt is a int, wanted a text": 1,
        "the same answers are judged both ways": 2,
    }
    for name in ("preferences", "quarantine"):
        one, other = (pd.read_parquet(tmp_path / f"{folder}/{name}.parquet") for folder in ("whole", "parts"))
        pd.testing.assert_frame_equal(one, other)
    assert pq.ParquetFile(tmp_path / "parts/preferences.parquet").num_row_groups == 4
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert len(percents) == 10
    for page in ("rows", "pairs", "table"):
        texts = [(tmp_path / f"docs/{folder}/{page}.html").read_text() for folder in ("whole", "parts")]
        assert "unexpected" in texts[0] or page != "rows"
        numbers = [re.findall(r"≈?\d+(?:\.\d+)?%", text) for text in texts]
        assert numbers[0] == numbers[1]


def test_columns_that_are_left_out_are_named_in_the_summary(tmp_path: Path) -> None:
    rows = [row(n, id=n, source="web") for n in range(40)]
    write_jsonl(tmp_path / "raw.jsonl", rows)
    summary = prepare(data(), tmp_path, tmp_path / "out")
    left = {"id": "numbers, codes or names", "source": "the same text in every row"}
    assert summary["left_out"] == {"raw.jsonl": left}
    write_jsonl(tmp_path / "raw.jsonl", [dict(reversed(each.items())) for each in reversed(rows)])
    prepare(data(), tmp_path, tmp_path / "two")
    assert content(tmp_path / "out") == content(tmp_path / "two")


def test_what_was_told_of_a_file_is_used_when_it_is_prepared(tmp_path: Path) -> None:
    """Label 1 says that the second answer is better; a passage is no part of the prompt."""
    rows = [
        {"prompt": each["prompt"], "answer_a": each["rejected"], "answer_b": each["chosen"], "label": 1}
        | {"passage": f"This passage is about parcel number {n}."}
        for n in range(40)
        for each in [row(n)]
    ]
    rows[0] = rows[0] | {"answer_a": row(0)["chosen"], "answer_b": row(0)["rejected"], "label": 0}
    write_jsonl(tmp_path / "raw.jsonl", rows)
    with pytest.raises(DataError, match="2 readings"):
        prepare(data(), tmp_path, tmp_path / "out")
    told = {"preferred_values": {0: "a", True: "tie", "1": "b"}, "ignored": ("passage",)}
    prepare(data(**told), tmp_path, tmp_path / "out")
    table = pd.read_parquet(tmp_path / "out/preferences.parquet")
    assert set(zip(table["chosen"], table["rejected"], strict=True)) == {
        (row(n)["chosen"], row(n)["rejected"]) for n in range(40)
    }


def test_a_folder_stands_for_its_preference_files(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    write_jsonl(tmp_path / "raw/b.jsonl", [row(n) for n in range(20)])
    write_jsonl(tmp_path / "raw/a.jsonl.gz", [row(n) for n in range(20, 40)])
    for other in ("README.md", ".hidden.jsonl", "a.jsonl.gz.dvc"):
        (tmp_path / "raw" / other).write_text("no rows")
    prepare(data("raw"), tmp_path, tmp_path / "out")
    assert set(pd.read_parquet(tmp_path / "out/preferences.parquet")["source"]) == {"raw/a.jsonl.gz", "raw/b.jsonl"}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="without preference files"):
        prepare(data("empty"), tmp_path, tmp_path / "out")


def test_near_copies_share_a_split_by_setting_and_give_a_warning_without(tmp_path: Path) -> None:
    variants = [("Where is parcel {}?", 0), ("where is  PARCEL {}?\n", 40)]
    rows = [row(n + more, prompt=text.format(n)) for n in range(40) for text, more in variants]
    write_jsonl(tmp_path / "raw.jsonl", rows)
    warnings = prepare(data(), tmp_path, tmp_path / "out")["warnings"]
    assert any("expect_no_near_copy_in_two_splits" in warning for warning in warnings)
    together = data(split=Split(validation=0.3, test=0.3, normalise=True))
    assert prepare(together, tmp_path, tmp_path / "out")["warnings"] == []
    table = pd.read_parquet(tmp_path / "out/preferences.parquet")
    assert table.groupby(table["prompt"].map(prompt_key))["split"].nunique().max() == 1
    assert len(table) == 80
