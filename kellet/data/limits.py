"""How much of a foreign file is read before it is refused, so that a small file cannot take all memory.

A gzip of 1.9 MB can hold one line of 2 GB. The limits lie far above what files of preferences, answers and logs hold;
each is set by the environment variable that DEFAULTS and the error name, so that verbs, flows and the library obey it.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from typing import TextIO

from kellet.errors import DataError, InputError

RECORD = "KELLET_MAX_RECORD"
"""Characters of one line, of one row, and of a JSON object that wraps all rows: about 100 MB."""
FIELD = "KELLET_MAX_FIELD"
"""Characters of one cell or one text in an object: more than any model can read."""
COLUMNS = "KELLET_MAX_COLUMNS"
"""Columns of a table, or keys of one object: wandb logs some thousands."""
EXPANSION = "KELLET_MAX_EXPANSION"
"""Unpacked bytes for each byte on disk: JSON packs to a tenth or a fiftieth, made-up files to a thousandth."""
LOG = "KELLET_MAX_LOG"
"""Unpacked bytes of a log, which is held in memory as a whole."""
DEFAULTS = {RECORD: 100_000_000, FIELD: 10_000_000, COLUMNS: 10_000, EXPANSION: 200, LOG: 2 * 2**30}
FREE = 64 * 2**20
"""Bytes unpacked, up to which the expansion is not looked at: a short file of equal rows packs very well."""
_ANEW = "is it damaged or made up? If it is sound, split it"


def limit(name: str) -> int:
    """The limit ``name``, one of DEFAULTS. Raises InputError where its variable is no whole number above 0."""
    return _number(name, os.environ.get(name, ""))


@lru_cache
def _number(name: str, text: str) -> int:
    if not text:
        return DEFAULTS[name]
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text)):
        raise InputError(
            f"the environment variable {name} is {text[:40]!r}; wanted a whole number above 0 such as {DEFAULTS[name]}"
        )
    return int(text)


def most_read(name: str) -> str:
    """What an error says of the limit ``name``."""
    return f"the most that is read ({name} in the environment sets it)"


def refuse_long(path: object, length: int, what: str) -> None:
    """Raise DataError where ``what`` has more characters than a record may have."""
    if length > (most := limit(RECORD)):
        raise DataError(f"{path}: {what} has more than {most:,} characters, {most_read(RECORD)}; {_ANEW}")


def refuse_long_fields(path: object, text: str, values: object, where: str) -> None:
    """Raise DataError where a text inside ``values``, read from ``text``, has more characters than a field may have."""
    if len(text) <= (most := limit(FIELD)):
        return
    for name, length in _texts(values, ""):
        if length > most:
            raise DataError(
                f"{path}: {name[:80]!r} of {where} has {length:,} characters, more than {most:,}, {most_read(FIELD)}"
            )


def _texts(value: object, name: str) -> Iterator[tuple[str, int]]:
    """(name of the column, characters) of every text inside ``value``, keys included."""
    if isinstance(value, str):
        yield name, len(value)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield name or str(key), len(str(key))
            yield from _texts(inner, name or str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, name)


def refuse_expanded(path: object, size: int, unpacked: int) -> None:
    """Raise DataError where ``unpacked`` bytes came out of ``size`` and that is more than is allowed."""
    if unpacked > max(FREE, (most := limit(EXPANSION)) * size):
        raise DataError(
            f"{path}: its {size:,} bytes unpack to more than {unpacked - 1:,}, over {most} times as many, "
            f"{most_read(EXPANSION)}; {_ANEW} or unpack it"
        )


def refuse_wide(path: object, fields: int, where: str) -> None:
    """Raise DataError where a row has more columns or keys than a table may have."""
    if fields > (most := limit(COLUMNS)):
        raise DataError(
            f"{path}: {where} has {fields:,} columns, more than {most:,}, {most_read(COLUMNS)}; write fewer"
        )


class BoundedText:
    """A text of which no line is read that is longer than a record may be."""

    def __init__(self, path: object, text: TextIO) -> None:
        self._path, self._text = path, text

    def read(self, size: int) -> str:
        """Up to ``size`` characters."""
        return self._text.read(size)

    def readline(self) -> str:
        """The next line; empty at the end."""
        line = self._text.readline(limit(RECORD) + 1)
        refuse_long(self._path, len(line), "a line")
        return line

    def __iter__(self) -> "BoundedText":
        return self

    def __next__(self) -> str:
        if not (line := self.readline()):
            raise StopIteration
        return line
