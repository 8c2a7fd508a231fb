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
from kellet.errors import DataError


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
        ("e.jsonl", "{" + ",".join(f'"c{n}": 1' for n in range(10_001)) + "}\n", "10,001 columns"),
    ],
    ids=["line", "array", "quote", "header", "object"],
)
def test_what_is_too_long_or_too_wide_is_told(name, text, told, tmp_path, monkeypatch):
    for module in ("limits", "json_stream"):
        monkeypatch.setattr(f"kellet.data.{module}.LONGEST_RECORD", 100_000)
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=told):
        list(read_records(tmp_path / name))


def test_a_dictionary_that_repeats_a_cell_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "FREE", 1_000_000)
    cells = pa.array(["x" * 10_000] * 5_000)
    pq.write_table(pa.table({"prompt": cells}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match="200 times as many"):
        list(read_records(tmp_path / "x.parquet"))
