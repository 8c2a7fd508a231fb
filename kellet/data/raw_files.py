"""Reading raw files as records: one per row, with the line it came from and the text it came as.

JSON (json_records.py), CSV (csv_records.py) and Parquet; text may be packed with gzip. The name says whether a
text is CSV or JSON; the content decides the rest: gzip, Parquet, JSON lines or an array, separator, encoding.
A row that cannot be read is a record without values; a file that cannot be used raises DataError.
"""

import json
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from kellet.data.csv_records import csv_records
from kellet.data.json_records import json_records
from kellet.data.limits import RECORD, limit, refuse_expanded, refuse_long, refuse_long_fields, refuse_wide
from kellet.data.raw_text import PARQUET, first_bytes, open_text
from kellet.data.record import Record, repeated, shown
from kellet.errors import DataError

__all__ = ["SUFFIXES", "Record", "read_chunks", "read_records", "suffix_of"]

JSON, CSV = (".jsonl", ".ndjson", ".json"), (".csv", ".tsv")
SUFFIXES = (*JSON, *CSV, *(f"{suffix}.gz" for suffix in (*JSON, *CSV)), ".parquet", ".pq")


def suffix_of(name: str) -> str:
    """The one of SUFFIXES with which a file's name ends, in capitals or not; empty for other files."""
    return next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")


def read_chunks(
    path: Path, rows: int, notes: list[str] | None = None, short_rows: bool = False, suffix: str = ""
) -> Generator[tuple[list[Record], float], None, None]:
    """Yield up to ``rows`` rows at a time, and the share of the file's bytes read so far; holds no more in memory.

    Only a JSON object that wraps its rows is held as a whole. ``notes`` gets, while it is read, a sentence for whatever
    is not usual about the file, such as semicolons between columns. ``short_rows``: a CSV row with fewer fields than
    the header gets empty ones at its end. ``suffix``: one of SUFFIXES, as which a file with another name is read.

    Raises DataError, with what was got and what to do, when the file does not exist, is a folder, is empty, is of an
    unknown kind, is a broken gzip, JSON, CSV or Parquet file, is not UTF-8 (or UTF-16 with a byte order mark), names a
    column twice, goes beyond limits.py, or has no rows; a fault inside the file is raised when reading reaches it.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; give a file ({', '.join(SUFFIXES)})")
    if not (suffix := suffix_of(path.name) or suffix):
        raise DataError(f"{path}: unknown kind of file; give one of {', '.join(SUFFIXES)}")
    try:
        file = path.open("rb")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the file's name") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}; check its permissions") from error
    with file, closing(_records(path, file, suffix, [] if notes is None else notes, short_rows)) as records:
        size = os.fstat(file.fileno()).st_size
        any_rows = False
        while chunk := list(islice(records, rows)):
            any_rows = True
            yield chunk, min(file.tell() / size, 1.0)
        if not any_rows:
            raise DataError(f"{path} has 0 rows; wanted at least one")


def read_records(
    path: Path, notes: list[str] | None = None, short_rows: bool = False, suffix: str = ""
) -> Iterator[Record]:
    """Every row of ``path``, one after the other; as :func:`read_chunks`."""
    with closing(read_chunks(path, 10_000, notes, short_rows, suffix)) as chunks:
        for records, _ in chunks:
            yield from records


def _records(
    path: Path, file: BinaryIO, suffix: str, notes: list[str], short_rows: bool
) -> Generator[Record, None, None]:
    packed, head = first_bytes(path)
    if not head:
        raise DataError(f"{path} is empty; wanted rows")
    if packed.startswith(PARQUET) or suffix in (".parquet", ".pq"):
        yield from _parquet(path, file)
        return
    if head.startswith(PARQUET):
        raise DataError(f"{path} is a Parquet file packed with gzip; unpack it (Parquet is packed already)")
    as_json = suffix.removesuffix(".gz") in JSON
    if not as_json and head.lstrip().startswith((b'{"', b'[{"')):
        as_json = True
        notes.append(f"the file holds JSON, although it is called {suffix}")
    with open_text(path, file, head, "\n" if as_json else "") as text:
        records = json_records(path, text, notes) if as_json else csv_records(path, text, notes, short_rows)
        for record in records:
            refuse_wide(path, len(record.values or ()), where := f"the row on line {record.line}")
            refuse_long_fields(path, record.text, record.values, where)
            yield record


def _parquet(path: Path, file: BinaryIO) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = unpacked = 0
    try:
        table = pq.ParquetFile(file)
        if (twice := repeated(table.schema_arrow.names)) is not None:
            raise DataError(f"{path}: column {twice!r} appears twice; remove one or rename it")
        size = os.fstat(file.fileno()).st_size
        for batch in table.iter_batches(batch_size=_batch(path, table.metadata, size)):
            for values in batch.to_pylist():
                number += 1
                refuse_wide(path, len(values), "the table")
                text = json.dumps(values, ensure_ascii=False, default=str)
                unpacked += len(text)
                refuse_long(path, len(text), f"row {number}")
                refuse_long_fields(path, text, values, f"row {number}")
                refuse_expanded(path, size, unpacked)
                yield Record(number, text, values)
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is not a sound Parquet file: {shown(str(error))}; write it again") from error


def _batch(path: Path, metadata: Any, size: int) -> int:
    """Rows to be read at a time. Raises DataError where the file says that it expands beyond the limits.

    A dictionary holds a cell once for many rows, so that a batch may be as long as its rows times a column's bytes.
    """
    refuse_wide(path, metadata.num_columns, "the table")
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(number) for group in groups for number in range(group.num_columns)]
    refuse_expanded(path, size, sum(chunk.total_uncompressed_size for chunk in chunks))
    repeating = [int(chunk.total_uncompressed_size) for chunk in chunks if chunk.has_dictionary_page]
    return max(1, min(10_000, 10 * limit(RECORD) // max([1, *repeating])))
