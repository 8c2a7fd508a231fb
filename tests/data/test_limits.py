"""Files that are small on disk and large in memory are refused in one line, in bounded memory."""

import gzip
import resource
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kellet.data import limits
from kellet.data.raw_files import read_records
from kellet.diagnosis.log_files import open_log
from kellet.errors import DataError, InputError
from kellet.live.tail import Tail


def test_a_gzip_of_one_endless_line_is_refused_in_bounded_memory(tmp_path):
    with gzip.open(tmp_path / "bomb.jsonl.gz", "wb", compresslevel=1) as file:
        file.write(b'{"prompt": "')
        for _ in range(320):
            file.write(b"a" * 2**20)
    bound = 1_500 * 2**20  # five times what the line alone would be
    for verb in ("validate", "import-logs"):
        done = subprocess.run(
            [sys.executable, "-m", "kellet", verb, str(tmp_path / "bomb.jsonl.gz")],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (bound, bound)),
        )
        assert done.returncode == 2
        assert done.stderr.count("error: ") == 1
        assert "Traceback" not in done.stderr
        assert "the most that is read" in done.stderr


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", '{"a": "' + "b" * 900_000, "a line has more than 100,000"),
        ("b.json", '[{"a": "' + "b" * 900_000, "more than 100,000"),
        ("c.csv", 'a,b\n"' + "b\n" * 500_000, "the row that starts on line 2 has more than 100,000"),
        ("d.csv", ",".join(f"c{n}" for n in range(10_001)) + "\n1\n", "10,001 columns"),
        (
            "f.jsonl",
            '{"a": {"b": ["' + "c" * 60_001 + '"]}}\n',
            "'a' of the row on line 1 has 60,001 characters, more than 60,000",
        ),
        ("g.csv", "a,b\n1," + "c" * 60_001 + "\n", "'b' of the row on line 2 has 60,001 characters"),
        ("e.jsonl", "{" + ",".join(f'"c{n}": 1' for n in range(10_001)) + "}\n", "10,001 columns"),
    ],
    ids=["line", "array", "quote", "header", "field", "cell", "object"],
)
def test_what_is_too_long_or_too_wide_is_told(name, text, told, tmp_path, monkeypatch):
    monkeypatch.setenv("KELLET_MAX_RECORD", "100000")
    monkeypatch.setenv("KELLET_MAX_FIELD", "60000")
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        list(read_records(tmp_path / name))


def test_a_dictionary_that_repeats_a_cell_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE", 1_000_000)
    cells = pa.array(["x" * 10_000] * 5_000)
    pq.write_table(pa.table({"prompt": cells}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="200 times as many"):
        list(read_records(tmp_path / "x.parquet"))


def test_a_limit_is_raised_by_the_variable_that_its_error_names(tmp_path, monkeypatch):
    names = [f"c{n}" for n in range(10_001)]
    (tmp_path / "wide.csv").write_text(",".join(names) + "\n" + ",".join("1" for _ in names) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match="KELLET_MAX_COLUMNS"):
        list(read_records(tmp_path / "wide.csv"))
    monkeypatch.setenv("KELLET_MAX_COLUMNS", "10001")
    assert [len(record.values) for record in read_records(tmp_path / "wide.csv")] == [10_001]


@pytest.mark.parametrize("text", ["0", "-1", "1e9", "many", "٣", "9" * 5_000])
def test_a_limit_that_is_no_number_is_refused_by_name(text, tmp_path, monkeypatch):
    monkeypatch.setenv("KELLET_MAX_RECORD", text)
    (tmp_path / "a.csv").write_text("a\n1\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"KELLET_MAX_RECORD is .*whole number above 0 such as 100000000"):
        list(read_records(tmp_path / "a.csv"))


def test_a_followed_log_whose_line_does_not_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("KELLET_MAX_RECORD", "1000")
    (tmp_path / "log.jsonl").write_bytes(b'{"step": 1}\n{"step": 2}\n' + b"x" * 1_001)
    with Tail(tmp_path / "log.jsonl") as tail, pytest.raises(DataError, match="line 3 has more than 1,000 characters"):
        tail.lines()


def test_lines_of_a_followed_log_are_whole_however_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("kellet.live.tail.PIECE", 3)
    (tmp_path / "log.jsonl").write_bytes(b"one\ntwo\n\nfour and more\nfi")
    with Tail(tmp_path / "log.jsonl") as tail:
        assert tail.lines() == [(1, "one"), (2, "two"), (3, ""), (4, "four and more")]
        assert tail.lines(last=True) == [(5, "fi")]


def test_a_log_over_its_limit_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("KELLET_MAX_LOG", "100")
    (tmp_path / "log.jsonl").write_text('{"step": 1, "kl": 0.5}\n' * 10, encoding="utf-8")
    with pytest.raises(DataError, match=r"more than 100 bytes, the most that is read .KELLET_MAX_LOG"):
        open_log(tmp_path / "log.jsonl")
