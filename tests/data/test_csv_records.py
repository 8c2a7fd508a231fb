"""CSV: what is quoted correctly is read, stray quotes are refused, header and rows decide what separates columns."""

import csv
import json
from pathlib import Path

import pytest

from kellet.data.raw_files import read_records
from tests.helpers.raw import read, refused

CSV = 'prompt,chosen,rejected\np1,"a, b",c\np2,d,e\n'


@pytest.mark.parametrize(
    "answer",
    [
        "name,price\nvoucher,5",
        "a,b\nc,d,e\nf,g",
        "import os,sys\nprint(os,sys)\n\nx,y = 1,2",
        "2026,01,31\n2026,02,28\n2026,03,31",
        '"yes",\n"no",',
        "one\r\ntwo\rthree",
    ],
)
def test_what_is_quoted_correctly_is_one_field(tmp_path: Path, answer: str) -> None:
    path = tmp_path / "x.csv"
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = [["prompt", "chosen", "rejected"], ["p, q", "c", "r"], ["p", answer, "r"]]
            csv.writer(file, quoting=quoting).writerows(rows)
        assert [list((record.values or {}).values()) for record in read_records(path)] == rows[1:]


def test_a_quoted_header_says_that_quotes_are_meant(tmp_path: Path) -> None:
    """R's write.csv quotes names and texts, and no numbers."""
    (record,) = read(tmp_path / "x.csv", '"n","text","m"\n1,"a,x\nb,c,d\ne,f",2\n')
    assert record.values == {"n": "1", "text": "a,x\nb,c,d\ne,f", "m": "2"}


NAIVE = "prompt,chosen,rejected\n" + "".join(f"p{n},c{n},r{n}\n" for n in range(6))
STRAY = {
    "to the end of the file": (NAIVE.replace(",c1", ',"c1'), "starts on line 3"),
    "before text": (NAIVE.replace(",c1", ',"c1').replace(",c3", ',"c3"'), "line 3 cannot be read"),
    "over columns": (NAIVE.replace("p1", '"p1').replace("r2", 'r2"'), "lines 3 to 4 looks like several rows"),
    "within a column": (NAIVE.replace(",c1", ',"c1').replace("c3", 'c3"'), "lines 3 to 5 looks like several rows"),
    "escaped by a backslash": (NAIVE.replace("c1", r'"he said \"no\", then"'), "escaped by backslashes"),
}


@pytest.mark.parametrize("name", STRAY)
def test_a_stray_quote_is_refused_with_its_lines(tmp_path: Path, name: str) -> None:
    data, message = STRAY[name]
    assert message in refused(tmp_path / "x.csv", data)


def test_two_rows_that_a_quote_may_join_are_one_with_a_note(tmp_path: Path) -> None:
    notes: list[str] = []
    records = read(tmp_path / "x.csv", NAIVE.replace(",c1", ',"c1').replace("c2", 'c2"'), notes=notes)
    assert records[1].values == {"prompt": "p1", "chosen": "c1,r1\np2,c2", "rejected": "r2"}
    assert [record.line for record in records] == [2, 3, 5, 6, 7]
    assert ["lines 3 to 4 is read as one" in note for note in notes] == [True]


def test_rows_that_are_all_joined_alike_are_answers(tmp_path: Path) -> None:
    """Nothing but code is quoted, and all of it has the commas of rows."""
    notes: list[str] = []
    answers = [f"import a,b\nx,y,z\nprint(x,y{n})" for n in range(3)]
    data = "prompt,chosen,rejected\n" + "".join(f'p,"{answer}",r\n' for answer in answers)
    records = read(tmp_path / "x.csv", data, notes=notes)
    assert [(record.values or {})["chosen"] for record in records] == answers
    assert ["lines 2 to 4 (and 2 more) is read as one" in note for note in notes] == [True]


def test_a_row_of_another_width_is_a_record_with_its_lines(tmp_path: Path) -> None:
    records = read(tmp_path / "x.csv", CSV + 'p3,"one\ntwo"\np4,x,y,z\n')
    assert [record.reason for record in records[2:]] == [
        "2 fields, the header has 3 (lines 4 to 5)",
        "4 fields, the header has 3",
    ]
    assert [(record.line, json.loads(record.text)) for record in records[2:]] == [
        (4, ["p3", "one\ntwo"]),
        (6, ["p4", "x", "y", "z"]),
    ]
    short = read(tmp_path / "x.csv", CSV + "p3,f\n", short_rows=True)
    assert short[2].values == {"prompt": "p3", "chosen": "f", "rejected": ""}


def test_the_rows_decide_where_two_separators_split_the_header(tmp_path: Path) -> None:
    """The rows have three cells by commas, one by semicolons."""
    records = read(tmp_path / "x.csv", "prompt,chosen;v2,rejected\np,c,r\nq,d,s\n")
    assert records[1].values == {"prompt": "q", "chosen;v2": "d", "rejected": "s"}
    quoted = read(tmp_path / "x.csv", '"prompt, or question";"better"\n"a, b";"x"\n')
    assert quoted[0].values == {"prompt, or question": "a, b", "better": "x"}
    one_broken = "prompt,chosen;v2,rejected\np,c,r\nq,d\nq,d,s\n"
    assert [record.values is None for record in read(tmp_path / "x.csv", one_broken)] == [False, True, False]
    assert read(tmp_path / "x.tsv", "a\tb,c\nx\ty,z\n")[0].values == {"a": "x", "b,c": "y,z"}
    message = refused(tmp_path / "x.csv", "a,b;c\nx,y;z\n")
    assert "comma (2 columns) or semicolon (2 columns)" in message
