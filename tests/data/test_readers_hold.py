"""Laws of the readers: what is written comes back from every form, order changes nothing, and no bytes break them."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kellet.data.raw_files import SUFFIXES, Record, read_records
from kellet.errors import DataError

Rows = list[dict[str, str]]
FEW = settings(max_examples=60, deadline=None, derandomize=True)
PIECES = (
    *('"', '""', ",", ", ", ";", "\t", "|", "\n", "\r", "\r\n", "\\", '\\"', "'", " ", "{", "[1]", "sep=;", "#"),
    *(
        "\u2028",
        "\u2029",
        "\x85",
        "\x0b",
        "\x0c",
        "\x1c",
        "\ufeff",
        "\u200b",
        "\u202e",
        "שלום",
        "👩‍👧",
        "e\u0301",
        "中文",
    ),
    *("a", "Where is it?", "1,5", "null", "NaN", "true", "x" * 140_000),
)
NAMES = ("prompt", "chosen", "rejected", "annotator")
# Surrogates are no text. NUL is left out: a file in which every second byte is zero is refused as UTF-16.
TEXTS = st.lists(st.sampled_from(PIECES), max_size=6).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20
)


def tables(narrowest: int = 1) -> st.SearchStrategy[Rows]:
    """Tables of texts with 1 to 6 rows."""
    return st.integers(narrowest, len(NAMES)).flatmap(
        lambda width: st.lists(
            st.tuples(*[TEXTS] * width).map(lambda cells: dict(zip(NAMES, cells, strict=False))), min_size=1, max_size=6
        )
    )


def as_csv(rows: Rows, separator: str = ",", line_end: str = "\n", quote_all: bool = False) -> str:
    """RFC 4180: quoted is what holds a separator, a quote or a line end (the csv module forgets lone ones)."""

    def cell(text: str) -> str:
        needed = quote_all or text == "" or any(mark in text for mark in (separator, '"', "\r", "\n"))
        return '"' + text.replace('"', '""') + '"' if needed else text

    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    return "".join(separator.join(map(cell, line)) + line_end for line in lines)


JSON: dict[str, Callable[[Rows], str]] = {
    "lines": lambda rows: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
    "ASCII lines, CR LF": lambda rows: "\r\n\r\n".join(json.dumps(row) for row in rows),
    "pretty objects": lambda rows: "\n".join(json.dumps(row, indent=2, ensure_ascii=False) for row in rows),
    "array": lambda rows: json.dumps(rows),
    "pretty array": lambda rows: json.dumps(rows, indent="\t", ensure_ascii=False),
    "wrapped": lambda rows: json.dumps({"version": {"n": 1}, "rows": rows, "end": "x"}, ensure_ascii=False),
    "by column": lambda rows: json.dumps({name: {str(n): row[name] for n, row in enumerate(rows)} for name in rows[0]}),
    "lists by column": lambda rows: json.dumps({name: [row[name] for row in rows] for name in rows[0]}),
    "by row": lambda rows: json.dumps({str(n): row for n, row in enumerate(rows)}, indent=0),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readers")


def outcome(path: Path, data: bytes) -> tuple[list[Record], str]:
    """The records, or the words of the refusal."""
    path.write_bytes(data)
    try:
        return list(read_records(path)), ""
    except DataError as error:
        return [], str(error)


def read(path: Path, data: bytes) -> list[Any]:
    path.write_bytes(data)
    return [record.values for record in read_records(path)]


@given(tables(), st.sampled_from(sorted(JSON)), st.sampled_from(ENCODINGS), st.booleans())
@FEW
def test_a_table_comes_back_from_every_form_of_json(
    folder: Path, rows: Rows, form: str, encoding: str, packed: bool
) -> None:
    data = JSON[form](rows).encode(encoding)
    ends = (".json", ".json.gz") if packed else (".json", ".ndjson")
    for end in ends:
        assert read(folder / f"x{end}", gzip.compress(data) if packed else data) == rows


@given(
    tables(narrowest=2),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.sampled_from(ENCODINGS),
    st.booleans(),
)
@settings(FEW, max_examples=150)
def test_a_table_comes_back_from_every_dialect_of_csv(
    folder: Path, rows: Rows, separator: str, line_end: str, quote_all: bool, encoding: str, packed: bool
) -> None:
    """An empty text and nothing are the same in CSV, so only texts are written here."""
    text = as_csv(rows, separator, line_end, quote_all)
    data = text.encode(encoding)
    back, error = outcome(folder / "x.csv", gzip.compress(data) if packed else data)
    if error:  # one cell of three lines or more, and no other that had to be quoted: see csv_records.py
        cells = [cell for row in rows for cell in row.values() if any(mark in cell for mark in (separator, "\n", "\r"))]
        assert ("stray quote" in error, len(cells)) == (True, 1)
    else:
        assert [record.values for record in back] == rows


@given(st.lists(TEXTS, min_size=1, max_size=6), st.sampled_from([(".csv", ","), (".tsv", "\t")]), st.booleans())
@FEW
def test_a_single_column_comes_back(folder: Path, texts: list[str], kind: tuple[str, str], quote_all: bool) -> None:
    rows = [{"text": text} for text in texts]
    assert read(folder / f"x{kind[0]}", as_csv(rows, kind[1], "\n", quote_all).encode()) == rows


@given(tables())
@settings(FEW, max_examples=30)
def test_a_table_comes_back_as_pandas_and_parquet_write_it(folder: Path, rows: Rows) -> None:
    frame = pd.DataFrame(rows)
    if len(frame.columns) > 1:
        text = frame.to_csv(index=False, quoting=csv.QUOTE_ALL)
        assert read(folder / "x.csv", text.encode()) == rows
    assert read(folder / "x.json", frame.to_json(orient="records", lines=True).encode()) == rows
    assert read(folder / "x.json", frame.to_json(orient="records", indent=1).encode()) == rows
    assert read(folder / "x.json", frame.to_json().encode()) == rows
    buffer = io.BytesIO()
    pq.write_table(pa.table(frame), buffer)
    assert read(folder / "x.pq", buffer.getvalue()) == rows


@given(tables(narrowest=2), st.randoms(use_true_random=False), st.sampled_from([*sorted(JSON), "CSV"]))
@FEW
def test_the_order_of_rows_and_columns_changes_nothing_else(folder: Path, rows: Rows, random: Any, form: str) -> None:
    order, names = list(range(len(rows))), list(rows[0])
    random.shuffle(order)
    random.shuffle(names)
    turned = [{name: rows[number][name] for name in names} for number in order]
    path = folder / ("x.csv" if form == "CSV" else "x.json")
    write = JSON.get(form, lambda rows: as_csv(rows, quote_all=True))
    straight = read(path, write(rows).encode())
    assert read(path, write(turned).encode()) == [straight[number] for number in order]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.fixed_dictionaries({"prompt": VALUES, "n": VALUES}), min_size=2, max_size=4), st.integers(0, 3))
@FEW
def test_values_of_every_kind_come_back_from_json_with_their_lines(folder: Path, rows: list[Any], gap: int) -> None:
    """st.text has lone surrogates too, which JSON can hold as escapes."""
    path = folder / "x.json"
    path.write_text("\n" * gap + ("\n" * (gap + 1)).join(map(json.dumps, rows)), encoding="utf-8")
    records = list(read_records(path))
    assert [record.values for record in records] == rows
    assert [record.line for record in records] == [gap + 1 + number * (gap + 1) for number in range(len(rows))]
    path.write_text("[" + "\n" * gap + (",\n" + "\n" * gap).join(json.dumps(row) for row in rows) + "]")
    assert [record.line for record in read_records(path)] == [gap + 1 + n * (gap + 1) for n in range(len(rows))]


SAMPLE = [{"prompt": "p, q\nr", "chosen": 'say "a"', "rejected": "é"}, {"prompt": "2", "chosen": "", "rejected": "b"}]
SEEDS = [
    *(write(SAMPLE).encode() for write in JSON.values()),
    *(as_csv(SAMPLE, separator).encode(encoding) for separator in ",;\t|" for encoding in ENCODINGS),
    gzip.compress(JSON["lines"](SAMPLE).encode(), mtime=0),
]
CHANGES = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 12), st.binary(max_size=4) | st.sampled_from([b'"', b"\n", b"{", b"]"])),
    max_size=5,
)


def changed(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, dropped, put in changes:
        start = int(place * len(data))
        data = data[:start] + put + data[start + dropped :]
    return data


@given(st.sampled_from(SEEDS) | st.binary(max_size=60), CHANGES, st.sampled_from(SUFFIXES))
@settings(FEW, max_examples=400)
def test_any_bytes_give_records_or_a_clear_error(
    folder: Path, seed: bytes, changes: list[tuple[float, int, bytes]], suffix: str
) -> None:
    path = folder / f"fuzz{suffix}"
    records, error = outcome(path, changed(seed, changes))
    assert bool(records) != bool(error)
    assert not error or (str(path) in error and error.isprintable())
    lines = [record.line for record in records]
    assert lines == sorted(lines)
    assert all((record.values is None) == bool(record.reason) for record in records)
