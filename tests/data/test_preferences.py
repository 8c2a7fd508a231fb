"""Reading preference files: each form, each refused row, each file that cannot be used."""

import csv
import gzip
import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kellet.data.preferences import pair_ids, read_file
from kellet.data.raw_files import read_records
from kellet.errors import DataError
from tests.helpers.project import ROOT
from tests.helpers.rows import row, write_jsonl

HH = ROOT / "data/raw/hh-rlhf/test.jsonl.gz"


def write_csv(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["prompt", "chosen", "rejected"], *rows])
    return path


def test_the_same_rows_are_read_from_every_kind_of_file(tmp_path: Path) -> None:
    rows = [row(n, annotator=f"a{n}", margin=0.5) for n in range(3)]
    frame = pd.DataFrame(rows)
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_parquet(tmp_path / "x.parquet")
    paths = [write_jsonl(tmp_path / f"x.jsonl{end}", rows) for end in ("", ".gz")]
    for path in [*paths, tmp_path / "x.csv", tmp_path / "x.parquet"]:
        read, refused = read_file(path)
        assert read[list(rows[0])].to_dict("records") == rows, path
        assert refused.empty
    assert read_file(tmp_path / "x.csv")[0]["line"].tolist() == [2, 3, 4]
    assert read_file(tmp_path / "x.jsonl", "given")[0]["file"].tolist() == ["given"] * 3


def test_an_implicit_prompt_is_what_precedes_the_last_answer(tmp_path: Path) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: When?\n\nAssistant:"
    path = write_jsonl(tmp_path / "x.jsonl", [{"chosen": start + " Now. ", "rejected": start + "\n\nLater"}])
    read, _ = read_file(path)
    assert read.loc[0, ["prompt", "chosen", "rejected", "rejected_prompt"]].tolist() == [start, "Now.", "Later", start]


def test_the_hh_rlhf_file_has_the_counts_of_its_source_note() -> None:
    """SOURCE.txt, computed apart: 2,354 pairs, 9 diverge, 4 with an empty side, 2 equal."""
    read, refused = read_file(HH)
    diverge = read["prompt"] != read["rejected_prompt"]
    empty = (read["chosen"] == "") | (read["rejected"] == "")
    equal = ~diverge & ~empty & (read["chosen"] == read["rejected"])
    assert (len(read), len(refused), diverge.sum(), empty.sum(), equal.sum()) == (2354, 0, 9, 4, 2)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"prompt": "p", "chosen": "c", "rej', "not valid JSON"),
        ('["p", "c", "r"]', "a JSON list, wanted an object"),
        ('{"prompt": 3, "chosen": "c", "rejected": "r"}', "prompt is a int, wanted a text"),
        ('{"prompt": "p", "chosen": ["c"], "rejected": "r"}', "chosen is a list, wanted a text"),
        ('{"prompt": "p", "chosen": "\\ud83d", "rejected": "r"}', "half of a surrogate pair"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "margin": "much"}', "margin is 'much'"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "margin": NaN}', "margin is nan"),
        ('{"prompt": "p", "chosen": "c", "rejected": "r", "annotator": 1.5}', "annotator is 1.5"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_row_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(row(0)) + "\n\n" + line + "\n")
    read, refused = read_file(path)
    assert len(read) == 1
    assert refused["line"].tolist() == [3]
    assert refused["row"].tolist() == [line]
    assert reason in refused.loc[0, "reason"]


def test_a_dialogue_without_an_answer_is_refused(tmp_path: Path) -> None:
    whole = "\n\nHuman: Hi\n\nAssistant: Yes"
    rows = [{"chosen": whole, "rejected": whole + "!"}, {"chosen": whole, "rejected": "\n\nHuman: Hi"}]
    read, refused = read_file(write_jsonl(tmp_path / "x.jsonl", rows))
    assert (len(read), len(refused)) == (1, 1)
    assert "rejected is not a dialogue" in refused.loc[0, "reason"]


def sound_csv(lines: int = 4) -> str:
    return "prompt,chosen,rejected\n" + "".join(f"p{n},c{n},r{n}\n" for n in range(lines))


PARQUET_START = b"PAR1 and no more"
BAD_FILES = {
    "missing column": ("x.jsonl", b'{"prompt": "p", "chosen": "c"}\n', "column 'rejected' is missing"),
    "unpaired": ("x.csv", b"prompt,completion,label\np,c,1\n", "columns 'chosen' and 'rejected' are missing"),
    "no prompt": ("x.jsonl", b'{"chosen": "c", "rejected": "r"}\n', "column 'prompt' is missing"),
    "empty": ("x.jsonl", b"", "is empty"),
    "empty gzip": ("x.jsonl.gz", gzip.compress(b"", mtime=0), "is empty"),
    "truncated gzip": ("x.jsonl.gz", gzip.compress(json.dumps(row(0)).encode() * 99, mtime=0)[:-20], "truncated gzip"),
    "no gzip": ("x.jsonl.gz", json.dumps(row(0)).encode(), "not a sound gzip"),
    "latin-1": ("x.jsonl", '{"prompt": "p"}\n{"prompt": "é"}\n'.encode("latin-1"), "byte 0xe9 on line 2"),
    "utf-16 without a mark": ("x.csv", sound_csv().encode("utf-16-le"), "iconv -f UTF-16LE"),
    "0 rows": ("x.csv", b"prompt,chosen,rejected\n", "has 0 rows"),
    "blank lines": ("x.jsonl", b"\n \n", "has 0 rows"),
    "unknown kind": ("x.xlsx", b"PK", "unknown kind of file"),
    "no row readable": ("x.jsonl", b"nonsense\nmore\n", "none of its 2 rows can be read; line 1"),
    "no parquet": ("x.parquet", PARQUET_START, "not a sound Parquet file"),
    "twice": ("x.csv", b"prompt,chosen,rejected,prompt\na,b,c,d\n", "column 'prompt' appears twice"),
    "quote to the end": ("x.csv", sound_csv().replace(",c1", ',"c1').encode(), "starts on line 3"),
    "quote before text": ("x.csv", sound_csv().replace(",c1", ',"c1').replace(",c3", ',"c3"').encode(), "on line 3"),
    "quote in first field": ("x.csv", sound_csv().replace("p1", '"p1').replace("r2", 'r2"').encode(), "lines 3 to 4"),
    "rows swallowed": ("x.csv", sound_csv().replace(",c1", ',"c1').replace("c3", 'c3"').encode(), "lines 3 to 5"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str) -> None:
    file, data, message = BAD_FILES[name]
    (tmp_path / file).write_bytes(data)
    with pytest.raises(DataError) as error:
        read_file(tmp_path / file)
    assert message in str(error.value)
    assert file in str(error.value)


def test_a_missing_file_and_a_folder_have_different_messages(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_file(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="is a folder"):
        read_file(tmp_path)


def test_a_wrong_number_of_fields_refuses_the_row_alone(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(sound_csv(2) + "p,c,r,extra\n")
    read, refused = read_file(tmp_path / "x.csv")
    assert (len(read), refused["line"].tolist(), refused["reason"].tolist()) == (2, [4], ["4 fields, the header has 3"])


def test_quotes_and_line_breaks_that_belong_to_a_csv_are_kept(tmp_path: Path) -> None:
    answer = 'First, look, "there".\nThen pay 10,000 euro.\n1. a, b, c\n2. d, e, f'
    twice = "10,000 now\n20,000 later"
    path = write_csv(tmp_path / "x.csv", [["p", answer, "no"], ["q", twice, answer], ['say "hi"', "a", "b"]])
    read, refused = read_file(path)
    assert read["chosen"].tolist() == [answer, twice, "a"]
    assert read["line"].tolist() == [2, 6, 11]
    assert refused.empty


@given(st.lists(st.lists(st.text("ab ,\n", max_size=12), min_size=3, max_size=3), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_a_written_csv_comes_back_whole_or_is_refused_aloud(
    tmp_path_factory: pytest.TempPathFactory, rows: list
) -> None:
    path = write_csv(tmp_path_factory.mktemp("csv") / "x.csv", rows)
    try:
        read = [list((record.values or {}).values()) for record in read_records(path)]
    except DataError as error:
        read = str(error)
    assert read == rows or "stray quote" in read


def test_the_pair_id_is_the_hash_of_the_content() -> None:
    """Computed with coreutils: printf '["p", "c", "r"]' | sha256sum."""
    frame = pd.DataFrame([{"prompt": "p", "chosen": "c", "rejected": "r", "annotator": who} for who in (None, "a")])
    assert pair_ids(frame)[0] == "e627a5b65f0c2071"
    assert pair_ids(frame)[1] != pair_ids(frame)[0]
