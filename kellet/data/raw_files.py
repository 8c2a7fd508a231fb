"""Reading raw files as records: one per row, with the line it came from and the text it came as.

.jsonl and .jsonl.gz (one JSON object a line; blank lines do not count), .csv (UTF-8, comma, header) and .parquet.
A row that cannot be read is a record without values; a file that cannot be used raises DataError.
"""

import csv
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

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


def read_chunks(path: Path, rows: int) -> Iterator[tuple[list[Record], float]]:
    """Yield up to ``rows`` rows at a time, and the share of the file's bytes read so far; holds no more in memory.

    Raises DataError, with what was got and what to do, when the file does not exist, is a folder, is empty, is of an
    unknown kind, is a broken gzip, CSV or Parquet file, is not UTF-8, or has no rows; a fault inside the file is raised
    when reading reaches it.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a preference file ({', '.join(SUFFIXES)})")
    if not path.name.endswith(SUFFIXES):
        raise DataError(f"{path}: unknown kind of file; give one of {', '.join(SUFFIXES)}")
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check data.files or the file's name") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error
    with file:
        size = os.fstat(file.fileno()).st_size
        if _is_empty(path, file):
            raise DataError(f"{path} is empty; wanted rows with chosen and rejected answers")
        records = _parquet(path, file) if path.suffix == ".parquet" else _text_records(path, file)
        any_rows = False
        while chunk := list(islice(records, rows)):
            any_rows = True
            yield chunk, min(file.tell() / size, 1.0)
        if not any_rows:
            raise DataError(f"{path} has 0 rows; wanted at least one preference pair")


def read_records(path: Path) -> Iterator[Record]:
    """Every row of ``path``, one after the other; raises as :func:`read_chunks`."""
    for records, _ in read_chunks(path, 10_000):
        yield from records


def _is_empty(path: Path, file: BinaryIO) -> bool:
    if not path.name.endswith(".gz"):
        return os.fstat(file.fileno()).st_size == 0
    with gzip.open(path) as unzipped:
        try:
            return not unzipped.read(1)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return False  # reading it raises the error


def _text_records(path: Path, file: BinaryIO) -> Iterator[Record]:
    binary: Any = gzip.GzipFile(fileobj=file) if path.name.endswith(".gz") else file
    csv_file = path.suffix == ".csv"
    # newline="" leaves line ends as they are for the csv module; a JSON line ends with \n and nothing else.
    text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="" if csv_file else "\n")
    try:
        yield from _csv(path, text) if csv_file else _jsonl(text)
    except UnicodeDecodeError as error:
        raise _not_utf8(path) from error
    except EOFError as error:
        size = os.fstat(file.fileno()).st_size
        raise DataError(f"{path} is a truncated gzip file ({size} bytes, no end); copy it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a sound gzip file: {error}; copy it again, or rename it to .jsonl") from error
    finally:
        text.detach()


def _not_utf8(path: Path) -> DataError:
    """The error, with the number of the line; a line ends with a line feed."""
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as lines:
        start = b""
        for number, line in enumerate(lines, start=1):
            start = start or line[:2]
            try:
                line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                guess = "UTF-16" if start in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
                return DataError(
                    f"{path} is not UTF-8: byte 0x{line[error.start]:02x} on line {number}; "
                    f"if it is {guess}, convert it: iconv -f {guess} -t UTF-8"
                )
    return DataError(f"{path} is not UTF-8: it ends in the middle of a character; copy it again")


def _jsonl(lines: Iterable[str]) -> Iterator[Record]:
    for number, whole in enumerate(lines, start=1):
        line = whole.removesuffix("\n")
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


def _parquet(path: Path, file: BinaryIO) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=10_000):
            for values in batch.to_pylist():
                number += 1
                yield Record(number, json.dumps(values, ensure_ascii=False, default=str), values)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a sound Parquet file: {error}; write it again") from error


def _csv(path: Path, lines: Iterable[str]) -> Iterator[Record]:
    reader = csv.reader(lines, strict=True)
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
