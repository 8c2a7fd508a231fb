r"""CSV files as records: RFC 4180 with a header, any of four separators, any line ends.

What is quoted correctly is one field, whatever it holds. An empty cell is an empty text. A row of another width than
the header is a record without values.

Stray quotes. The strict csv module refuses most: after the quote that closes a field, only a separator or the end of
the line may come. What it reads without complaint is a quote that opens a field and another, lines later, that ends
one: all between is one field then, and rows are lost. Such a row can be told by its lines: with the quotes taken for
letters, each is as wide as the header. So it is refused where

- the row is not as wide as the header: one of the two readings is impossible, and the other fits every line; or
- it is as wide and three lines or more, these are the only two quotes in it, it is the only such row, and nothing else
  in the whole file is quoted because it had to be: whoever wrote the file quotes nowhere else, not even a header.

Anything else, such as code or a table in an answer, is read as its quotes say; a note names such rows in a file without
any other quoting.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from kellet.data.csv_dialect import find_dialect
from kellet.data.limits import BoundedText, refuse_long, refuse_wide
from kellet.data.raw_text import MARK
from kellet.data.record import Record, repeated, shown
from kellet.errors import DataError

PIECE = 1 << 18
"""Characters by which the dialect is decided."""


def csv_records(path: Path, text: BoundedText, notes: list[str], short_rows: bool) -> Iterator[Record]:
    """Each row of the file, read piece by piece; ``notes`` gets what is not usual in it.

    ``short_rows``: a row with fewer fields than the header gets empty ones, as spreadsheet programs leave them out.
    Raises DataError for a header that names a column twice, for two dialects that fit, and for stray quotes.
    """
    head = text.read(PIECE).lstrip(MARK)
    head += text.readline()
    more = text.readline()
    dialect = find_dialect(path, head, not more, notes)
    lines = _Lines(path, chain(io.StringIO(head, newline=""), [more] if more else [], text))
    if dialect.hint:
        next(lines)
        lines.start_row()
    quoting = _Quoting(path, dialect.separator, notes)
    header: list[str] | None = None
    try:
        for fields in dialect.reader(lines):
            if header is None and fields:
                header = _header(path, fields)
                quoting.known = lines.row[0].startswith('"')
            elif header is not None and fields:
                if short_rows:
                    fields += [""] * (len(header) - len(fields))
                if len(header) == 1 and lines.ends_alone():
                    raise DataError(
                        f"{path}: line {lines.last} has a carriage return outside quotes, where lines end with line "
                        "feeds: one row or two? Quote such fields, or write all line ends alike"
                    )
                quoting.check(fields, lines, len(header))
                yield _record(header, fields, lines)
            lines.start_row()
    except csv.Error as error:
        raise _broken(path, lines, error) from error
    quoting.finish()


def _header(path: Path, names: list[str]) -> list[str]:
    refuse_wide(path, len(names), "the header")
    if names.count("") > 1:  # as spreadsheet programs write columns beside the table
        names = [name or f"column {number}" for number, name in enumerate(names, 1)]
    if (twice := repeated(names)) is not None:
        raise DataError(f"{path}: column {twice!r} appears twice in the header; remove one or rename it")
    return names


def _record(header: list[str], fields: list[str], lines: "_Lines") -> Record:
    if len(fields) != len(header):
        where = f" (lines {lines.first} to {lines.last})" if lines.last > lines.first else ""
        text = json.dumps(fields, ensure_ascii=False)
        return Record(lines.first, text, None, f"{len(fields)} fields, the header has {len(header)}{where}")
    values = dict(zip(header, fields, strict=True))
    if len(header) > 1 and [fields[0].lstrip(MARK), *fields[1:]] == header:
        return Record(lines.first, json.dumps(fields, ensure_ascii=False), None, "the header again, as in joined files")
    return Record(lines.first, json.dumps(values, ensure_ascii=False), values)


def _broken(path: Path, lines: "_Lines", error: csv.Error) -> DataError:
    why = f"{shown(str(error))}, noticed on line {lines.last}"
    where = f"{path}: the row that starts on line {lines.first} cannot be read ({why})"
    if any('\\"' in line for line in lines.row):
        return DataError(
            f'{where}; its quotes are escaped by backslashes (\\"), wanted doubled ones (""); write it so '
            '(in Spark: option("escape", "\\"")), or save it as .jsonl'
        )
    return DataError(
        f'{where}; a stray quote? Quotes inside a quoted field are doubled (""); or save the file as .jsonl'
    )


class _Quoting:
    """Whether quotes that join lines are meant; see above."""

    def __init__(self, path: Path, separator: str, notes: list[str]) -> None:
        self._path, self._separator, self._notes = path, separator, notes
        self._doubtful: list[tuple[int, str]] = []
        self.known = False
        """Something is quoted because it had to be, so that whoever wrote the file knows how to."""

    def check(self, fields: list[str], lines: "_Lines", width: int) -> None:
        """Look at one row. Raises DataError where it is surely several."""
        raw = "".join(lines.row)
        if '"' not in raw:
            return
        rows = [line for line in lines.row if line.strip()]
        several = len(rows) > 1 and all(line.count(self._separator) == width - 1 > 0 for line in rows)
        if several and len(fields) != width:
            raise DataError(self._stray(f"{lines.first} to {lines.last}"))
        if several and raw.count('"') == 2 and f"{self._separator} " not in raw:
            self._doubtful.append((len(rows), f"{lines.first} to {lines.last}"))
        elif len(fields) == width:
            self.known |= any(mark in field for field in fields for mark in (self._separator, "\n", "\r"))

    def finish(self) -> None:
        """At the end of the file: refuse a row that is doubtful, or note it."""
        if self.known or not self._doubtful:
            return
        count, where = self._doubtful[0]
        if count > 2 and len(self._doubtful) == 1:
            raise DataError(self._stray(where))
        more = f" (and {len(self._doubtful) - 1} more)" if len(self._doubtful) > 1 else ""
        self._notes.append(
            f"the row on lines {where}{more} is read as one, as its quotes say; if they are stray, it is several"
        )

    def _stray(self, where: str) -> str:
        return (
            f"{self._path}: the row on lines {where} looks like several rows joined by a stray quote (each line "
            'alone is as wide as the header); double the quotes inside quoted fields (""), or save it as .jsonl if it '
            "is one row"
        )


class _Lines:
    """Lines on their way to the csv module, with those of the row at hand and their numbers in the file."""

    def __init__(self, path: Path, lines: Iterable[str]) -> None:
        self._path, self._lines, self._old_mac, self._length = path, iter(lines), False, 0
        self.row: list[str] = []
        self.first = 1

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if self.first == 1 and not self.row:
            self._old_mac = line.endswith("\r")
        self.row.append(line)
        self._length += len(line)
        refuse_long(self._path, self._length, f"the row that starts on line {self.first}")
        return line

    def start_row(self) -> None:
        """What comes next is the next row."""
        self.first += sum(map(self._ends, self.row))
        self.row, self._length = [], 0

    @property
    def last(self) -> int:
        """The number of the row's last line."""
        return self.first + sum(map(self._ends, self.row[:-1]))

    def ends_alone(self) -> bool:
        """Whether the row ends with a carriage return although lines end otherwise."""
        return self.row[-1].endswith("\r") and not self._old_mac

    def _ends(self, line: str) -> bool:
        # A carriage return alone ends a line only in files that have no other line ends.
        return line.endswith("\n") or self._old_mac
