"""The text of a raw file: unpacked and decoded, whatever its name says; what is neither is named.

gzip is known by its first two bytes. UTF-8 with or without a byte order mark; UTF-16 and UTF-32 with one.
"""

import gzip
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kellet.data.limits import BoundedText, refuse_expanded
from kellet.errors import DataError

GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"
MARK = "\ufeff"
"""The byte order mark, decoded; joined files have one at each beginning."""
MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""Byte order marks; UTF-32's comes before UTF-16's, which it begins with."""
FOREIGN = {
    b"PK\x03\x04": "a ZIP archive or a workbook; unpack it, or save the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "a workbook of Excel; save the sheet as CSV",
    b"BZh": "packed with bzip2; unpack it, or pack it with gzip",
    b"\xfd7zXZ": "packed with xz; unpack it, or pack it with gzip",
    b"\x28\xb5\x2f\xfd": "packed with zstd; unpack it, or pack it with gzip",
    b"ARROW1": "an Arrow file; write it as Parquet",
    b"\x93NUMPY": "a NumPy array; write it as Parquet",
}
"""First bytes of what people rename by mistake."""


def first_bytes(path: Path, size: int = 4096) -> tuple[bytes, bytes]:
    """The first bytes as they are on disk, and unpacked; no bytes unpacked where the gzip is broken."""
    with path.open("rb") as file:
        packed = file.read(size)
    if not packed.startswith(GZIP):
        return packed, packed
    with gzip.open(path) as unpacked:
        try:
            return packed, unpacked.read(size)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return packed, b"?"  # reading the file raises the error


def encoding_of(path: Path, head: bytes) -> str:
    """The encoding by the byte order mark, else UTF-8; raises DataError for what is no text that can be read."""
    for start, what in FOREIGN.items():
        if head.startswith(start):
            raise DataError(f"{path} is {what}")
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    # In UTF-16 every second byte of Latin text is zero: the first of each two where the order is big-endian.
    zeros = [head[parity::2].count(0) for parity in (0, 1)]
    if max(zeros) > len(head) / 10 and min(zeros) < max(zeros) / 4:
        name = "UTF-16BE" if zeros[0] > zeros[1] else "UTF-16LE"
        raise DataError(
            f"{path} looks like UTF-16 without a byte order mark (every second byte is zero); "
            f"convert it: iconv -f {name} -t UTF-8"
        )
    return "utf-8"


class Unpacked(io.RawIOBase):
    """The bytes that a gzip holds. Raises DataError where they are too many for those on disk."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._gzip, self._unpacked = path, gzip.GzipFile(fileobj=file), 0
        self._size = os.fstat(file.fileno()).st_size

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill ``buffer`` with what comes next; 0 at the end."""
        count = self._gzip.readinto(buffer)
        self._unpacked += count
        refuse_expanded(self._path, self._size, self._unpacked)
        return count


@contextmanager
def open_text(path: Path, file: BinaryIO, head: bytes, newline: str) -> Iterator[BoundedText]:
    r"""The decoded text of ``file``, whose first unpacked bytes are ``head``.

    ``newline`` is ``"\n"`` (only it ends a line) or ``""`` (as the csv module wants it); neither changes the text.
    Raises DataError when, while it is read, the gzip turns out broken or expands too much, a line is too long
    (limits.py) or the text is not in its encoding.
    """
    packed = file.read(2) == GZIP
    file.seek(0)
    encoding = encoding_of(path, head)
    if path.name.lower().endswith(".gz") and not packed:
        raise DataError(f"{path} is not a sound gzip file: it is not packed; rename it to {path.name[:-3]!r}")
    binary: Any = io.BufferedReader(Unpacked(path, file)) if packed else file
    text = io.TextIOWrapper(binary, encoding=encoding, newline=newline)
    try:
        yield BoundedText(path, text)
    except UnicodeDecodeError as error:
        raise _not_decoded(path, packed, encoding, error) from error
    except EOFError as error:
        size = os.fstat(file.fileno()).st_size
        raise DataError(f"{path} is a truncated gzip file ({size} bytes, no end); copy it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a sound gzip file: {error}; copy it again") from error
    finally:
        text.detach()


def _not_decoded(path: Path, packed: bool, encoding: str, error: UnicodeDecodeError) -> DataError:
    """The error, in UTF-8 with the number of the line; a line ends with a line feed."""
    if not encoding.startswith("utf-8"):
        return DataError(f"{path} is not sound {encoding.upper()}: {error.reason}; save it as UTF-8")
    number = 1
    with gzip.open(path) if packed else path.open("rb") as lines:
        try:
            for line in lines:
                line.decode()
                number += 1
        except UnicodeDecodeError as wrong:
            return DataError(
                f"{path} is not UTF-8: byte 0x{wrong.object[wrong.start]:02x} on line {number}; "
                "if it is WINDOWS-1252, convert it: iconv -f WINDOWS-1252 -t UTF-8"
            )
        except (EOFError, gzip.BadGzipFile, zlib.error) as broken:
            return DataError(f"{path} is not a sound gzip file: {broken}; copy it again")
    return DataError(f"{path} is not UTF-8; save it as UTF-8")
