"""What a shape of foreign files is: how its files are written, and the command that reads them.

docs/shapes.py writes each into an empty folder, runs its command there, and makes docs/reference/shapes.md of it.
"""

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from tests.helpers.foreign_files import Pair

Rows = list[dict[str, Any]]


class Shape(NamedTuple):
    """Files of one shape, and a command."""

    name: str
    """In words, for the table."""
    write: Callable[[Path], object]
    """Writes the files into a folder."""
    command: str
    """The arguments of ``kellet``, run in that folder."""
    source: str = ""
    """Where the shape is public: an address, or a repository and a place in it."""


def pairs(count: int = 240) -> list[Pair]:
    """Judged pairs of which the better answer is the longer one in 60%, and stood first in every second."""
    return [
        Pair(
            f"Where is my parcel number {i}?",
            f"It is on its way and arrives on day {i}." + " You can follow it in the app." * (i % 5 < 3),
            f"Nobody here knows about parcel {i}." + " Please write to somebody else about it." * (i % 5 > 2),
            i % 2 == 0,
        )
        for i in range(count)
    ]


LONGER = 0.6
"""The share of these pairs whose better answer is the longer one; read the other way round it would be 0.4."""


def standard(count: int = 240) -> Rows:
    """The pairs in TRL's standard form."""
    return [{"prompt": pair.prompt, "chosen": pair.better, "rejected": pair.worse} for pair in pairs(count)]


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """The rows as the file's ending says; in CSV a list is JSON, and null is empty."""
    rows, kind = list(rows), path.name.removesuffix(".gz")
    if kind.endswith((".parquet", ".pq")):
        pd.DataFrame(rows).to_parquet(path, index=False)
        return path
    if kind.endswith(".jsonl"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif kind.endswith(".json"):
        text = json.dumps(rows, indent=1)
    else:
        text = separated(rows, "\t" if kind.endswith(".tsv") else ",")
    path.write_bytes(gzip.compress(text.encode()) if path.name.endswith(".gz") else text.encode())
    return path


def separated(rows: Rows, mark: str = ",", end: str = "\r\n") -> str:
    """The rows as CSV; lists and objects are JSON."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=mark, lineterminator=end)
    writer.writerow(rows[0])
    for row in rows:
        cells = (row[name] for name in rows[0])
        writer.writerow([json.dumps(cell) if isinstance(cell, list | dict) else cell for cell in cells])
    return out.getvalue()


def rows_as(name: str, rows: Rows) -> Callable[[Path], object]:
    """Writes the rows as one file."""
    return lambda folder: write_rows(folder / name, rows)


def text_as(name: str, text: str, encoding: str = "utf-8") -> Callable[[Path], object]:
    """Writes a text as one file."""
    return lambda folder: (folder / name).write_bytes(text.encode(encoding))


def both(*writers: Callable[[Path], object]) -> Callable[[Path], object]:
    """Writes all of them."""

    def write(folder: Path) -> None:
        for each in writers:
            each(folder)

    return write
