"""JSON values one after the other out of a text, each with its own text and the line on which it starts.

NaN, Infinity and -Infinity, which Python and many trainers write, are read as floats; whoever uses a value decides.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from kellet.data.limits import RECORD, BoundedText, limit, most_read
from kellet.data.record import Record, repeated

PIECE = 1 << 16
"""Characters read at a time."""
SPACE = " \t\r\n"
"""White space in JSON (RFC 8259); Python's ``strip()`` knows more, such as U+2028."""
_SPACE = re.compile(f"[{SPACE}]*")


class JsonError(ValueError):
    """What is not valid JSON, with the line on which the value starts and the one on which it was noticed."""

    def __init__(self, line: int, why: str, noticed: int | None = None) -> None:
        noticed = line if noticed is None else noticed
        super().__init__(f"line {line} is not valid JSON: {why}" + (f" on line {noticed}" if noticed > line else ""))


def why_not(error: Exception) -> str:
    """Why a text is not valid JSON, without the line that the json module counts from the text's beginning."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg.removesuffix(" at")
    return "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"


class Value(NamedTuple):
    """A decoded value."""

    value: Any
    text: str
    line: int
    twice: str | None
    """A key that one of its objects, at any depth, has twice: it has no one reading."""

    def record(self) -> Record:
        """It as a row."""
        if not isinstance(self.value, dict):
            return Record(self.line, self.text, None, f"a JSON {type(self.value).__name__}, wanted an object")
        if self.twice is not None:
            return Record(self.line, self.text, None, f"key {self.twice!r} appears twice in one object")
        return Record(self.line, self.text, self.value)


class Decoder:
    """json.JSONDecoder that remembers a key which an object has twice."""

    def __init__(self) -> None:
        self._json = json.JSONDecoder(object_pairs_hook=self._object)
        self._twice: str | None = None

    def decode(self, text: str, line: int) -> Value:
        """The one value that ``text`` is. Raises ValueError or RecursionError where it is not valid JSON."""
        self._twice = None
        value = self._json.decode(text)
        return Value(value, text, line, self._twice)

    def decode_at(self, text: str, start: int, line: int) -> tuple[Value, int]:
        """The value that starts at ``start``, and where it ends; raises as :meth:`decode`."""
        self._twice = None
        value, end = self._json.raw_decode(text, start)
        return Value(value, text[start:end], line, self._twice), end

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            self._twice = repeated([key for key, _ in pairs])
        return values


class JsonStream:
    """Values out of a text that is read piece by piece: no more than a piece and one value are in memory."""

    def __init__(self, head: str, rest: BoundedText | None = None, line: int = 1) -> None:
        """``head`` is the beginning of the text and starts on ``line``; ``rest`` gives what follows."""
        self._buffer, self._rest, self._at = head, rest, 0
        self._decoder = Decoder()
        self._newline = "\r" if "\r" in head and "\n" not in head else "\n"
        self.line = line

    def next_character(self) -> str:
        """The next character that is no white space; empty at the end."""
        while True:
            self._go(_SPACE.match(self._buffer, self._at).end())  # type: ignore[union-attr]
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if not self._read():
                return ""

    def take(self, wanted: str) -> None:
        """Go past the character ``wanted``, which must come next."""
        found = self.next_character()
        if found != wanted:
            raise JsonError(self.line, f"wanted {wanted!r}, found {found!r}" if found else "it ends too early")
        self._go(self._at + 1)

    def value(self) -> Value:
        """The next value."""
        self.next_character()
        while True:
            try:
                value, end = self._decoder.decode_at(self._buffer, self._at, self.line)
            except json.JSONDecodeError as error:
                if self._read():
                    continue
                noticed = self.line + self._buffer.count(self._newline, self._at, error.pos)
                raise JsonError(self.line, why_not(error), noticed) from error
            except (ValueError, RecursionError) as error:
                raise JsonError(self.line, why_not(error)) from error
            if end == len(self._buffer) and self._read():
                continue  # a number may go on
            self._go(end)
            return value

    def elements(self) -> Iterator[Value]:
        """The elements of the array that comes next."""
        self.take("[")
        while self.next_character() != "]":
            yield self.value()
            if self.next_character() != "]":
                self.take(",")
                if self.next_character() == "]":
                    raise JsonError(self.line, "a comma before the end of the array")
        self.take("]")

    def members(self) -> Iterator[str]:
        """The keys of the object that comes next; after each the caller takes its value."""
        self.take("{")
        while self.next_character() != "}":
            key = str(self.value().value)
            self.take(":")
            yield key
            if self.next_character() != "}":
                self.take(",")
        self.take("}")

    def _go(self, to: int) -> None:
        self.line += self._buffer.count(self._newline, self._at, to)
        self._at = to

    def _read(self) -> bool:
        """Read on, at least as much as is not used yet, so that a long value is not decoded many times."""
        left = self._buffer[self._at :]
        if len(left) > (most := limit(RECORD)):
            raise JsonError(self.line, f"a value has more than {most:,} characters, {most_read(RECORD)}")
        piece = self._rest.read(max(PIECE, len(left))) if self._rest else ""
        self._buffer, self._at = left + piece, 0
        return bool(piece)
