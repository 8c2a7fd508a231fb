"""Reading raw files as records: one per row, with the line it came from and the text it came as.

.jsonl and .jsonl.gz (one JSON object a line; blank lines do not count), .csv (UTF-8, comma, header) and .parquet.
A row that cannot be read is a record without values; a file that cannot be used raises DataError.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kellet.errors import DataError

SUFFIXES = (".jsonl", ".jsonl.gz", ".csv", ".parquet")
_SEPARATOR = re.compile(r",(?! )(?!(?<=\d,)\d)")


class Record(NamedTuple):
    """One row of a raw file."""

    line: int
    """1-based line on which the row starts; in Parquet the row's number."""
    text: str
    """The row as it came: its line in JSON Lines, otherwise its values as JSON."""
    values: dict[str, Any] | None
    """None: the row could not be read."""
    reason: str = ""
    """Why it could not be read."""


def read_records(path: Path) -> list[Record]:
    """Every row of ``path``.

    Raises DataError, with what was got and what to do, when the file does not exist, is a folder, is empty, is of an
    unknown kind, is a broken gzip, CSV or Parquet file, is not UTF-8, or has no rows.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a preference file ({', '.join(SUFFIXES)})")
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: unknown kind of file; give one of {', '.join(SUFFIXES)}")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check data.files or the file's name") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error
    if path.name.endswith(".gz") and data:
        data = _unzip(path, data)
    if not data:
        raise DataError(f"{path} is empty; wanted rows with chosen and rejected answers")
    if path.suffix == ".parquet":
        records = list(_parquet(path, data))
    else:
        text = _decode(path, data)
        records = list(_csv(path, text) if path.suffix == ".csv" else _jsonl(text))
    if not records:
        raise DataError(f"{path} has 0 rows; wanted at least one preference pair")
    return records


def _unzip(path: Path, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except EOFError as error:
        raise DataError(f"{path} is a truncated gzip file ({len(data)} bytes, no end); copy it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a sound gzip file: {error}; copy it again, or rename it to .jsonl") from error


def _decode(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        guess = "UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        raise DataError(
            f"{path} is not UTF-8: byte 0x{data[error.start]:02x} on line {line}; "
            f"if it is {guess}, convert it: iconv -f {guess} -t UTF-8"
        ) from error


def _jsonl(text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield Record(number, line.rstrip("\r"), None, f"not valid JSON: {error}")
            continue
        if isinstance(value, dict):
            yield Record(number, line.rstrip("\r"), value)
        else:
            yield Record(number, line.rstrip("\r"), None, f"a JSON {type(value).__name__}, wanted an object")


def _parquet(path: Path, data: bytes) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.ParquetFile(pa.BufferReader(data)).read().to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a sound Parquet file: {error}; write it again") from error
    for number, values in enumerate(rows, start=1):
        yield Record(number, json.dumps(values, ensure_ascii=False, default=str), values)


def _csv(path: Path, text: str) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    start = 1
    try:
        for fields in reader:
            line, start = start, reader.line_num + 1
            if header is None:
                header = _header(path, fields)
            elif fields:
                yield _csv_record(path, header, fields, line, reader.line_num)
    except csv.Error as error:
        raise DataError(
            f"{path}: the row that starts on line {start} cannot be read ({error}, noticed on line {reader.line_num}); "
            'a stray quote? Quotes inside a quoted field are doubled (""); or save the file as .jsonl'
        ) from error


def _header(path: Path, fields: list[str]) -> list[str]:
    twice = sorted({name for name in fields if fields.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} appears twice in the header; remove one")
    return fields


def _csv_record(path: Path, header: list[str], fields: list[str], first: int, last: int) -> Record:
    """One CSV row; raises DataError where a stray quote has swallowed the rows that follow it."""
    swallowed = [n for n, field in enumerate(fields) if _swallows(field, n, len(fields))]
    if swallowed or (last > first and len(fields) != len(header)):
        where = f"field {header[swallowed[0]]!r} holds" if swallowed else f"{len(fields)} of {len(header)} fields hold"
        raise DataError(
            f"{path}: the row on lines {first} to {last} looks like several rows joined by a stray quote ({where} "
            'them all); double the quotes inside quoted fields (""), or save it as .jsonl if this is one answer'
        )
    if len(fields) != len(header):
        text = json.dumps(fields, ensure_ascii=False)
        return Record(first, text, None, f"{len(fields)} fields, the header has {len(header)}")
    values = dict(zip(header, fields, strict=True))
    return Record(first, json.dumps(values, ensure_ascii=False), values)


def _swallows(field: str, index: int, width: int) -> bool:
    """Whether a field with line breaks has exactly the commas that a stray quote would have swallowed.

    A quote that opens before field ``index`` and closes some rows later leaves the rest of its own row first, whole
    rows between, and the first ``index + 1`` fields of the last row at the end. A comma before a space or between
    digits is prose.
    """
    lines = field.replace("\r\n", "\n").split("\n")
    if len(lines) < 2 or width < 2:
        return False
    commas = [len(_SEPARATOR.findall(line)) for line in lines]
    return commas == [width - 1 - index, *[width - 1] * (len(lines) - 2), index]
