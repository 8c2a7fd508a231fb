"""How much of a foreign file is read before it is refused, so that a small file cannot take all memory.

A gzip of 1.9 MB can hold one line of 2 GB. The limits lie far above what files of preferences, answers and logs hold.
"""

from typing import TextIO

from kellet.errors import DataError

LONGEST_RECORD = 100_000_000
"""Characters of one line, of one row, and of a JSON object that wraps all rows: about 100 MB."""
MOST_FIELDS = 10_000
"""Columns of a table, or keys of one object: wandb logs some thousands."""
MOST_EXPANSION = 200
"""Unpacked bytes for each byte on disk: JSON packs to a tenth or a fiftieth, made-up files to a thousandth."""
FREE = 64 * 2**20
"""Bytes unpacked, up to which the expansion is not looked at: a short file of equal rows packs very well."""
MOST_HELD = 2 * 2**30
"""Unpacked bytes of a log, which is held in memory as a whole."""
_ANEW = "is it damaged or made up? If it is sound, split it"


def refuse_long(path: object, length: int, what: str) -> None:
    """Raise DataError where ``what`` has more than LONGEST_RECORD characters."""
    if length > LONGEST_RECORD:
        raise DataError(f"{path}: {what} has more than {LONGEST_RECORD:,} characters, the most that is read; {_ANEW}")


def refuse_expanded(path: object, size: int, unpacked: int) -> None:
    """Raise DataError where ``unpacked`` bytes came out of ``size`` and that is more than MOST_EXPANSION allows."""
    if unpacked > max(FREE, MOST_EXPANSION * size):
        raise DataError(
            f"{path}: its {size:,} bytes unpack to more than {unpacked - 1:,}, over {MOST_EXPANSION} times as many, "
            f"the most that is read; {_ANEW} or unpack it"
        )


def refuse_wide(path: object, fields: int, where: str) -> None:
    """Raise DataError where a row has more than MOST_FIELDS columns or keys."""
    if fields > MOST_FIELDS:
        raise DataError(f"{path}: {where} has {fields:,} columns, at most {MOST_FIELDS:,} are read; write fewer")


class BoundedText:
    """A text of which no line longer than LONGEST_RECORD is read."""

    def __init__(self, path: object, text: TextIO) -> None:
        self._path, self._text = path, text

    def read(self, size: int) -> str:
        """Up to ``size`` characters."""
        return self._text.read(size)

    def readline(self) -> str:
        """The next line; empty at the end."""
        line = self._text.readline(LONGEST_RECORD + 1)
        refuse_long(self._path, len(line), "a line")
        return line

    def __iter__(self) -> "BoundedText":
        return self

    def __next__(self) -> str:
        if not (line := self.readline()):
            raise StopIteration
        return line
