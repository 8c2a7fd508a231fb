"""A file that another process appends to: the lines that are new, whole ones only."""

import os
from pathlib import Path
from typing import BinaryIO

from kellet.data.limits import refuse_long
from kellet.errors import DataError

PACKED = {b"\x1f\x8b": "gzip", b"PAR1": "Parquet", b"PK": "a zip file", b"(\xb5/\xfd": "zstd"}
"""First bytes of files that do not grow by lines."""
PIECE = 2**24
"""Bytes that are read at a time."""


class Tail:
    """Lines of ``path`` as they are completed. A line that has no end yet waits for it.

    A file that was replaced is read to its end, then the new one from its beginning; one that became shorter is read
    from its beginning again. ``notes`` gathers what has to be said of this, until it is taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.notes: list[str] = []
        self.line = 0
        """Number of the last line that was returned."""
        self._file: BinaryIO | None = None
        self._rest = b""
        self._gone = False

    def __enter__(self) -> "Tail":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def lines(self, last: bool = False) -> list[tuple[int, str]]:
        """(number, text) of each new line; with ``last`` also of one without an end."""
        if self._file is None and not self._open():
            return []
        found = self._read()
        if self._replaced():
            found += self._flush()
            self.notes.append(f"{self.path} was replaced by another file: that one is read from its beginning")
            self._close()
            try:
                found += self._read() if self._open() else []
            except DataError:
                if last or not found:
                    raise
                return found  # the end of the old file first; the next call opens the new one again and raises
        if last:
            found += self._flush()
        return found

    def _open(self) -> bool:
        try:
            self._file = self.path.open("rb")
        except FileNotFoundError:
            if self.line and not self._gone:
                self._gone = True
                self.notes.append(f"{self.path} is gone; waiting for it to come back")
            return False
        except IsADirectoryError as error:
            raise DataError(f"{self.path} is a folder; use kellet import-logs {self.path}") from error
        self._gone = False
        self.line, self._rest = 0, b""
        head = self._file.read(64)
        self._file.seek(0)
        kind = next((name for magic, name in PACKED.items() if head.startswith(magic)), None)
        kind = kind or ("a binary file" if b"\0" in head else None)
        kind = kind or ("one JSON text" if head.split(b"\n")[0].strip() in (b"{", b"[") and b"\n" in head else None)
        if kind:
            self._close()
            raise DataError(f"{self.path} is {kind}, which does not grow by lines; use kellet import-logs {self.path}")
        return True

    def _read(self) -> list[tuple[int, str]]:
        if self._file is None:
            return []
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            self.notes.append(f"{self.path} became shorter: it is read from its beginning again")
            self._file.seek(0)
            self.line, self._rest = 0, b""
        found: list[tuple[int, str]] = []
        while piece := self._file.read(PIECE):
            *whole, rest = piece.split(b"\n")
            if whole:
                found += [self._numbered(line) for line in (self._rest + whole[0], *whole[1:])]
                self._rest = b""
            self._rest += rest
            refuse_long(self.path, len(self._rest), f"line {self.line + 1}")
        return found

    def _flush(self) -> list[tuple[int, str]]:
        rest, self._rest = self._rest, b""
        return [self._numbered(rest)] if rest.strip() else []

    def _numbered(self, line: bytes) -> tuple[int, str]:
        self.line += 1
        return self.line, line.decode("utf-8-sig" if self.line == 1 else "utf-8", errors="replace").rstrip("\r")

    def _replaced(self) -> bool:
        """Whether the path leads to another file than the one that is open."""
        if self._file is None:
            return False
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        here = os.fstat(self._file.fileno())
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
