"""How a CSV file is written: what separates its columns, decided by its header and its first rows together."""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from kellet.errors import DataError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
FIRST_ROWS = 100
"""Rows that are looked at."""
LONGEST_FIELD = 2**31 - 1
"""Characters; what the csv module can hold on every system."""
_HINT = re.compile(r'"?sep=([,;\t|])"?\r?\n?')


@dataclass(frozen=True)
class Dialect:
    """How the csv module is to read a file."""

    separator: str
    after_space: bool = False
    """A space follows each separator and is no part of the field."""
    hint: bool = False
    """The first line is ``sep=;``, which spreadsheet programs write and read."""

    def reader(self, lines: Iterator[str]) -> Any:
        """The csv module's reader: RFC 4180, strict, with fields of any length."""
        # The limit is one for the whole process; it is only ever raised, so that no other reader gets a smaller one.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_FIELD))
        return csv.reader(lines, delimiter=self.separator, skipinitialspace=self.after_space, strict=True)


@dataclass(frozen=True)
class _Fit:
    """How a separator fits the beginning of a file."""

    separator: str
    header: list[str]
    share: float
    """Of the first rows, those as wide as the header."""


def find_dialect(path: Path, head: str, ends: bool, notes: list[str]) -> Dialect:
    """The dialect of a file that begins with the whole lines ``head`` (and ``ends`` with them).

    Every separator is tried: it has to split the header, and where several do, the rows have to be as wide as the
    header with one of them only. Raises DataError, naming both, where two fit.
    """
    if hint := _HINT.match(head):
        return Dialect(hint[1], hint=True)
    fits = [fit for separator in SEPARATORS if len((fit := _fit(separator, head, ends)).header) > 1]
    if not fits:
        return Dialect("\t" if _is_tsv(path) else ",")
    if len(fits) > 1:
        whole = [fit for fit in fits if fit.share == 1]
        fits = whole or [fit for fit in fits if fit.share > 0.5] or fits
        fits = [fit for fit in fits if fit.separator == "\t" and _is_tsv(path)] or fits
    if len(fits) > 1:
        tried = " or ".join(f"{SEPARATORS[fit.separator]} ({len(fit.header)} columns)" for fit in fits)
        raise DataError(
            f"{path}: the columns may be separated by {tried}, and the first rows do not tell which; write it with "
            "one separator that no column's name holds, or as .jsonl"
        )
    found = fits[0]
    after_space = all(name.startswith(" ") for name in found.header[1:])
    if found.separator != ("\t" if _is_tsv(path) else ","):
        notes.append(f"the columns are separated by {SEPARATORS[found.separator]}s")
    if after_space:
        notes.append("the space after each separator is left out")
    return Dialect(found.separator, after_space)


def _is_tsv(path: Path) -> bool:
    return path.name.lower().endswith((".tsv", ".tsv.gz"))


def _fit(separator: str, head: str, ends: bool) -> _Fit:
    rows: list[list[str]] = []
    broken = 0
    reader = filter(None, Dialect(separator).reader(io.StringIO(head, newline="")))
    try:
        rows.extend(islice(reader, FIRST_ROWS + 1))
    except csv.Error as error:
        broken = int(ends or "unexpected end" not in str(error))
    if not rows:
        return _Fit(separator, [], 0.0)
    header, *rest = rows
    fitting = sum(len(row) == len(header) for row in rest)
    return _Fit(separator, header, fitting / (len(rest) + broken) if rest or broken else 1.0)
