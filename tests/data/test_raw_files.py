"""Raw files as records: every kind and dialect, the line of each row, and what is refused with which words."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kellet.data.raw_files import Record, read_chunks, read_records
from kellet.errors import DataError
from tests.helpers.raw import read, refused

ROWS = [{"prompt": "p1", "chosen": "a, b", "rejected": "c"}, {"prompt": "p2", "chosen": "d", "rejected": "e"}]
CSV = 'prompt,chosen,rejected\np1,"a, b",c\np2,d,e\n'
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
FRAME = pd.DataFrame(ROWS)


def separated(mark: str) -> str:
    """The table with another separator; nothing but "a, b" has a comma that is not one."""
    return CSV.replace(",", mark).replace(f"a{mark} b", "a, b")


FORMS = {
    "JSON lines": ("x.jsonl", LINES, [1, 2]),
    "lines called json": ("x.json", LINES, [1, 2]),
    "ndjson": ("x.ndjson", LINES, [1, 2]),
    "blank lines, CR LF": ("x.jsonl", "\r\n" + LINES.replace("\n", "\r\n\r\n"), [2, 4]),
    "old Mac lines": ("x.jsonl", LINES.replace("\n", "\r"), [1, 2]),
    "an array": ("x.json", json.dumps(ROWS), [1, 1]),
    "an array called jsonl": ("x.jsonl", json.dumps(ROWS), [1, 1]),
    "a pretty array": ("x.json", json.dumps(ROWS, indent=2), [2, 7]),
    "pretty objects": ("x.jsonl", "\n".join(json.dumps(row, indent=1) for row in ROWS), [1, 6]),
    "objects on one line": ("x.jsonl", " ".join(map(json.dumps, ROWS)), [1, 1]),
    "wrapped": ("x.json", json.dumps({"version": 1, "data": ROWS}, indent=1), [4, 9]),
    "wrapped by any name": ("x.json", json.dumps({"mine": ROWS}), [1, 1]),
    "pandas to_json": ("x.json", FRAME.to_json(indent=1), [3, 4]),
    "pandas to_json by index": ("x.json", FRAME.to_json(orient="index", indent=1), [2, 7]),
    "lists by column": (
        "x.json",
        json.dumps({name: [row[name] for row in ROWS] for name in ROWS[0]}, indent=0),
        [3, 4],
    ),
    "pandas to_json as a table": ("x.json", FRAME.to_json(orient="table", index=False), [1, 1]),
    "comma": ("x.csv", CSV, [2, 3]),
    "capitals": ("X.CSV", CSV, [2, 3]),
    "semicolon": ("x.csv", separated(";"), [2, 3]),
    "tab": ("x.csv", separated("\t"), [2, 3]),
    "tsv": ("x.tsv", separated("\t"), [2, 3]),
    "pipe": ("x.csv", separated("|"), [2, 3]),
    "comma called tsv": ("x.tsv", CSV, [2, 3]),
    "CR LF": ("x.csv", CSV.replace("\n", "\r\n"), [2, 3]),
    "CR": ("x.csv", CSV.replace("\n", "\r"), [2, 3]),
    "blank lines": ("x.csv", "\n" + CSV.replace("\n", "\n\n"), [4, 6]),
    "sep=": ("x.csv", "sep=;\r\n" + separated(";"), [3, 4]),
    "comma and space": ("x.csv", 'prompt, chosen, rejected\np1, "a, b", c\np2, d, e\n', [2, 3]),
    "JSON called csv": ("x.csv", LINES, [1, 2]),
}
PACKINGS = {
    "plain": lambda data: data.encode(),
    "mark": lambda data: data.encode("utf-8-sig"),
    "UTF-16": lambda data: data.encode("utf-16"),
    "UTF-16BE": lambda data: b"\xfe\xff" + data.encode("utf-16-be"),
    "UTF-32": lambda data: data.encode("utf-32"),
    "gzip": lambda data: gzip.compress(data.encode()),
    "gzip of UTF-16": lambda data: gzip.compress(data.encode("utf-16")),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_rows_and_their_lines(tmp_path: Path, form: str) -> None:
    name, data, lines = FORMS[form]
    records = read(tmp_path / name, data)
    assert [record.values for record in records] == ROWS
    assert [record.line for record in records] == lines


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("form", ["JSON lines", "a pretty array", "semicolon", "CR"])
def test_text_is_unpacked_and_decoded_whatever_the_name_says(tmp_path: Path, form: str, packing: str) -> None:
    name, data, lines = FORMS[form]
    ends = (".gz", "") if packing.startswith("gzip") else ("",)
    for end in ends:
        records = read(tmp_path / (name + end), PACKINGS[packing](data))
        assert [(record.line, record.values) for record in records] == list(zip(lines, ROWS, strict=True))


def test_parquet_is_known_by_its_content_too(tmp_path: Path) -> None:
    for name in ("x.parquet", "x.pq", "x.csv"):
        FRAME.to_parquet(tmp_path / name)
        assert [(row.line, row.values) for row in read_records(tmp_path / name)] == [(1, ROWS[0]), (2, ROWS[1])]


def test_what_str_splitlines_takes_for_a_line_end_stays_in_its_row(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg"
    assert read(tmp_path / "x.csv", f"prompt,n\n{odd},1\n")[0].values == {"prompt": odd, "n": "1"}
    text = json.dumps({"prompt": odd.replace("\x0b", "").replace("\x0c", "").replace("\x1c", "")}, ensure_ascii=False)
    assert read(tmp_path / "x.jsonl", f"{text}\n{text}\n")[1] == Record(2, text, json.loads(text))


def test_a_long_field_and_a_file_of_many_pieces_are_read(tmp_path: Path) -> None:
    """131,072 characters are the csv module's limit; 65,536 are read at a time from a JSON array."""
    long, rows = "x" * 200_000, [{"prompt": "q" * 999, "n": n} for n in range(300)]
    before = csv.field_size_limit()
    assert read(tmp_path / "x.csv", f"prompt,n\n{long},1\n")[0].values == {"prompt": long, "n": "1"}
    assert csv.field_size_limit() >= before
    records = read(tmp_path / "x.json", json.dumps([*rows, {"prompt": long, "n": 300}], indent=0))
    assert [record.values["n"] for record in records if record.values] == list(range(301))
    assert [record.line for record in records] == list(range(2, 4 * 301, 4))
    numbers = json.dumps([10**n for n in range(900)])
    assert [row.text for row in read(tmp_path / "x.json", numbers)] == [str(10**n) for n in range(900)]


def test_what_is_not_usual_is_noted(tmp_path: Path) -> None:
    for form, note in {
        "comma": [],
        "JSON lines": [],
        "an array": [],
        "tsv": [],
        "semicolon": ["the columns are separated by semicolons"],
        "comma and space": ["the space after each separator is left out"],
        "wrapped": ["the rows are the list 'data' of one object; left out beside it: version"],
        "pandas to_json": ["the file holds one column after the other, as pandas' to_json() writes it"],
        "JSON called csv": ["the file holds JSON, although it is called .csv"],
    }.items():
        notes: list[str] = []
        read(tmp_path / FORMS[form][0], FORMS[form][1], notes=notes)
        assert notes == note, form


def test_one_object_is_a_row_unless_it_wraps_rows(tmp_path: Path) -> None:
    talk = [{"role": "user", "content": "Hi"}]
    for name, row in (
        ("x.jsonl", {"prompt": talk, "chosen": "a"}),
        ("x.json", {"prompt": talk, "chosen": "a"}),
        ("x.jsonl", {"prompt": "p", "scores": [{"helpful": 1}]}),
        ("x.json", {"id": 1, "data": {"prompt": "p"}, "annotations": [{"id": 2}]}),
        ("x.jsonl", {"prompt": {"text": "p"}}),
    ):
        assert [record.values for record in read(tmp_path / name, json.dumps(row))] == [row]
    state = {"global_step": 2, "log_history": [{"loss": 1.5}, {"loss": float("nan")}], "stateful_callbacks": {"a": {}}}
    records = read(tmp_path / "trainer_state.json", json.dumps(state, indent=2))
    assert [record.line for record in records] == [4, 7]
    assert str(records[1].values) == "{'loss': nan}"  # as a float, for the caller to judge
    assert "'train', 'test' may each be the rows" in refused(
        tmp_path / "x.json", json.dumps({"train": ROWS, "test": ROWS})
    )
    assert "rows or columns" in refused(tmp_path / "x.json", json.dumps({"x": {"a": "b"}, "y": {"a": "c"}}))


def test_a_key_or_a_column_that_is_there_twice_is_refused_by_name(tmp_path: Path) -> None:
    twice = '{"prompt": "a", "x": {"role": 1, "role": 2}}'
    for data in (twice + '\n{"prompt": "b"}\n', f'[{twice}, {{"prompt": "b"}}]'):
        first, second = read(tmp_path / "x.json", data)
        assert (first.values, first.reason, first.text) == (None, "key 'role' appears twice in one object", twice)
        assert second.values == {"prompt": "b"}
    (record,) = read(tmp_path / "x.json", '{"data": [{"a": 1}], "data": [{"a": 2}]}')
    assert record.reason == "key 'data' appears twice in one object"
    (record,) = read(tmp_path / "x.json", '{"a": {"0": 1, "0": 2}}')
    assert record.reason == "key '0' appears twice in one object"
    assert "column 'prompt' appears twice" in refused(tmp_path / "x.csv", "prompt,x,prompt\na,b,c\n")
    unnamed = read(tmp_path / "x.csv", "prompt;x;;\na;b;;\n")[0].values
    assert unnamed == {"prompt": "a", "x": "b", "column 3": "", "column 4": ""}
    pq.write_table(pa.table([["a"], ["b"]], names=["prompt", "prompt"]), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"x\.parquet: column 'prompt' appears twice"):
        list(read_records(tmp_path / "x.parquet"))


@pytest.mark.parametrize(
    ("data", "reasons"),
    [
        ('{"a": 1}\n{"a": 1\n{"a": 1}\n', [(2, "not valid JSON: Expecting ',' delimiter at character 8")]),
        ('{"a": 1\n{"a": 1}\n', [(1, "not valid JSON: Expecting ',' delimiter at character 8")]),
        ('[{"a": 1}, 2]', [(1, "a JSON int, wanted an object")]),
        ('{"a": 1}\n{"a": "b\0"}', [(2, "not valid JSON: Invalid control character at character 9")]),
        ('{"a": 1}\n{"a": ' + "9" * 5000 + "}", [(2, "not valid JSON: a number has too many digits")]),
        ('{"a": 1}\n' + "[" * 100_000, [(2, "not valid JSON: it is nested too deeply")]),
    ],
)
def test_a_broken_row_is_a_record_with_line_and_reason(tmp_path: Path, data: str, reasons: list[Any]) -> None:
    records = read(tmp_path / "x.jsonl", data)
    assert [(record.line, record.reason) for record in records if record.values is None] == reasons
    assert len(records) > len(reasons)


BROKEN = {
    "truncated array": ("x.json", json.dumps(ROWS, indent=1)[:-20], "line 7 is not valid JSON"),
    "comma before the end": ("x.json", '[{"a": 1},\n]', "line 2 is not valid JSON: a comma before the end"),
    "no comma": ("x.json", '[{"a": 1}\n{"a": 2}]', "line 2 is not valid JSON: wanted ',', found '{'"),
    "arrays": ("x.jsonl", '[{"a": 1}]\n[{"a": 2}]\n', "line 2 is not valid JSON: more follows the end of the array"),
    "commas": ("x.jsonl", '{"a": 1},\n{"a": 2},\n{"a": 3}\n', "line 1 is not valid JSON: a comma after an object"),
    "one broken object": ("x.json", '{"a": 1,\n"b": }', "line 1 is not valid JSON: Expecting value on line 2"),
    "an empty array": ("x.json", " []", "has 0 rows"),
    "an empty list": ("x.json", '{"data": []}', "has 0 rows"),
    "a mark alone": ("x.json", b"\xef\xbb\xbf", "has 0 rows"),
    "UTF-16 without a mark": ("x.json", json.dumps(ROWS).encode("utf-16-le"), "iconv -f UTF-16LE"),
    "UTF-16BE without a mark": ("x.csv", CSV.encode("utf-16-be"), "iconv -f UTF-16BE"),
    "half of UTF-16": ("x.csv", CSV.encode("utf-16")[:-1], "is not sound UTF-16"),
    "Windows": ("x.csv.gz", gzip.compress(b"a,b\n1,2\n\xe9,3\n", mtime=0), "byte 0xe9 on line 3"),
    "cut in a letter": ("x.csv", b"a,b\n1,\xc3", "byte 0xc3 on line 2"),
    "a name without gzip": ("x.csv.gz", CSV, "rename it to 'x.csv'"),
    "gzip with a fault": ("x.csv", gzip.compress(CSV.encode() * 99, mtime=0)[:-9], "truncated gzip"),
    "Parquet in gzip": ("x.csv.gz", gzip.compress(b"PAR1", mtime=0), "a Parquet file packed with gzip"),
    "a workbook": ("x.csv", b"PK\x03\x04", "a ZIP archive or a workbook"),
    "a bare carriage return": ("x.csv", "text\na\rb\n", "line 2 has a carriage return outside quotes"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_not_sound_says_where(tmp_path: Path, name: str) -> None:
    file, data, message = BROKEN[name]
    assert message in refused(tmp_path / file, data)


@pytest.mark.parametrize("odd", ["\u2028", "\u00a0", "\x0b", "\u3000 "])
def test_a_line_of_what_json_does_not_call_white_space_is_a_row_that_cannot_be_read(tmp_path: Path, odd: str) -> None:
    """RFC 8259 knows space, tab, line feed and carriage return; ``str.strip()`` knows more."""
    for lines in ([odd, *LINES.splitlines()], [LINES.splitlines()[0], odd], [*LINES.splitlines(), " ", odd]):
        records = read(tmp_path / "x.jsonl", "\n".join(lines))
        sound = [line.startswith("{") for line in lines if line != " "]
        assert [record.values is not None for record in records] == sound
        assert [record.text for record in records if record.values is None] == [odd]


def test_files_that_were_joined_are_read_to_their_end(tmp_path: Path) -> None:
    """``cat`` of files with byte order marks and headers of their own."""
    mark = "\ufeff"
    assert [record.values for record in read(tmp_path / "x.jsonl", mark + mark + LINES + mark + LINES)] == ROWS * 2
    records = read(tmp_path / "x.csv", mark + mark + CSV + mark + CSV)
    assert [record.values for record in records] == [*ROWS, None, *ROWS]
    assert (records[2].line, records[2].reason) == (4, "the header again, as in joined files")


def test_a_reader_that_stops_early_leaves_nothing_open(tmp_path: Path) -> None:
    """Warnings of what is not closed are errors in the tests."""
    for name in ("JSON lines", "semicolon", "a pretty array"):
        path = tmp_path / FORMS[name][0]
        read(path, FORMS[name][1])
        assert next(read_records(path)).values == ROWS[0]
        chunk, share = next(read_chunks(path, 1))
        assert (len(chunk), 0 < share <= 1) == (1, True)
