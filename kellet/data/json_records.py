"""JSON files as records; what a file holds is decided by its content, not its name.

- JSON lines: one object a line; blank lines do not count, and a line that cannot be read is a record without values.
  Blank is what JSON calls white space: a line of U+2028 or of a no-break space is a line that cannot be read.
- Objects one after the other that may take several lines, as pretty printers write them.
- One array of objects.
- One object: the only row; or it wraps the rows, in its single list of objects (``data``, ``rows``, ``log_history``);
  or it is a table: column by column, or row by row under its index, as pandas' ``to_json()`` writes it, or lists.

Lines, objects and arrays are read piece by piece; one object is held as a whole. A key twice in one object has no one
reading: the row is refused. NaN and Infinity are read as floats.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from kellet.data.json_stream import PIECE, SPACE, Decoder, JsonError, JsonStream, Value, why_not
from kellet.data.limits import BoundedText
from kellet.data.raw_text import MARK
from kellet.data.record import Record, repeated, shown
from kellet.errors import DataError

WRAPPERS = ("data", "rows", "log_history", "records", "examples", "instances")
"""Keys whose list is the rows also where the object has others, and whatever the file is called."""
INSIDE_A_ROW = ("annotations", "predictions", "responses", "messages", "conversation", "conversations", "tools")
"""Keys whose list of objects belongs to one row."""


_ARRAY = re.compile(r'[ \t\r\n]*\[[ \t\r\n]*[]{["0-9tfn-]')


def json_records(path: Path, text: BoundedText, notes: list[str]) -> Iterator[Record]:
    """Each row of the file; ``notes`` gets what was found beside the rows. Raises DataError for broken JSON."""
    head = text.read(PIECE).lstrip(MARK)
    try:
        if _ARRAY.match(head):
            yield from _array(JsonStream(head, text))
            return
        lines = [] if "\r" in head and "\n" not in head else _first_lines(head, text)
        head = "".join(lines) or head
        if _one_a_line([line for line in lines if line.strip(SPACE)][:2]):
            yield from _json_lines(chain(lines, text))
        else:
            yield from _values(path, JsonStream(head, text), notes)
    except JsonError as error:
        raise DataError(f"{path}: {error}; wanted JSON lines or one array of objects") from error


def _first_lines(head: str, text: BoundedText) -> list[str]:
    """The lines of ``head``, to the end of the last, and more until two are not blank."""
    lines = (head + text.readline()).split("\n")
    lines = [line + "\n" for line in lines[:-1]] + [line for line in lines[-1:] if line]
    while sum(1 for line in lines if line.strip(SPACE)) < 2 and (line := text.readline()):
        lines.append(line)
    return lines


def _one_a_line(lines: list[str]) -> bool:
    """Whether the first lines that are not blank are values of their own, or at least are no part of a longer one."""
    if not lines or not lines[0].lstrip(SPACE).startswith("{"):
        return bool(lines)
    whole = [_is_json(line) for line in lines]
    # One object alone may wrap the rows; a broken line before a sound one is a broken row.
    return len(whole) == 2 and (whole[0] or (whole[1] and lines[1].lstrip(SPACE).startswith("{")))


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _json_lines(lines: Iterable[str]) -> Iterator[Record]:
    decoder = Decoder()
    for number, whole in enumerate(lines, start=1):
        line = whole.removesuffix("\n").removesuffix("\r").removeprefix(MARK)
        if not line.strip(SPACE):
            continue
        try:
            yield decoder.decode(line, number).record()
        except (ValueError, RecursionError) as error:
            column = f" at character {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            yield Record(number, line, None, f"not valid JSON: {why_not(error)}{column}")


def _array(stream: JsonStream) -> Iterator[Record]:
    for value in stream.elements():
        yield value.record()
    if stream.next_character():
        raise JsonError(stream.line, "more follows the end of the array")


def _values(path: Path, stream: JsonStream, notes: list[str]) -> Iterator[Record]:
    if not stream.next_character():
        return
    value = stream.value()
    if not stream.next_character():
        yield from _single(path, value, notes)
        return
    yield value.record()
    while found := stream.next_character():
        if found == ",":
            raise JsonError(stream.line, "a comma after an object, without an array around them")
        yield stream.value().record()


def _single(path: Path, value: Value, notes: list[str]) -> Iterator[Record]:
    """The rows of a file that holds one value."""
    if not isinstance(value.value, dict) or (value.twice is not None and _own_key_twice(value)):
        yield value.record()
    elif (key := _wrapper(path, value.value)) is not None:
        left = ", ".join(shown(name) for name in value.value if name != key)
        notes.append(f"the rows are the list {key!r} of one object" + (f"; left out beside it: {left}" if left else ""))
        yield from _member(value, key)
    elif _are_lists(path, value.value):
        notes.append("the file holds one list for each column")
        yield from _lists(value)
    elif (rows := _table(path, value, notes)) is not None:
        yield from rows
    else:
        yield value.record()


def _own_key_twice(value: Value) -> bool:
    stream = JsonStream(value.text)
    return repeated([key for key in stream.members() if stream.value()]) is not None


def _wrapper(path: Path, whole: dict[str, Any]) -> str | None:
    """The key of the rows, if one object wraps them. Raises DataError where two lists may be the rows."""
    lists = [key for key, value in whole.items() if _are_rows(key, value)]
    known = [key for key in lists if key in WRAPPERS] or [key for key in WRAPPERS if whole.get(key) == []]
    if len(known) == 1:
        return known[0]
    if len(lists) == 1 and (_is_json_file(path) or len(whole) == 1):
        return lists[0]
    if len(lists) > 1 and _is_json_file(path):
        names = ", ".join(map(repr, lists))
        raise DataError(f"{path}: its lists {names} may each be the rows; save the one that you mean by itself")
    return None


def _is_json_file(path: Path) -> bool:
    """Whether it is called JSON, rather than JSON lines."""
    return path.name.lower().endswith((".json", ".json.gz"))


def _are_rows(key: str, value: Any) -> bool:
    """Whether it is a list of objects, and neither a conversation nor what belongs to one row."""
    if key in INSIDE_A_ROW or not isinstance(value, list) or not value:
        return False
    return all(isinstance(each, dict) and not ({"role", "from"} & set(each)) for each in value)


def _member(value: Value, wanted: str) -> Iterator[Record]:
    stream = JsonStream(value.text, line=value.line)
    for key in stream.members():
        if key != wanted:
            stream.value()
            continue
        for element in stream.elements():
            yield element.record()


def _are_lists(path: Path, whole: dict[str, Any]) -> bool:
    """Whether the values are lists of texts or numbers, all of one length, as ``datasets`` gives a table as a dict."""
    if not _is_json_file(path) or len(whole) < 2 or not all(isinstance(each, list) for each in whole.values()):
        return False
    cells = [cell for each in whole.values() for cell in each]
    same = len({len(each) for each in whole.values()}) == 1
    return bool(cells) and same and not any(isinstance(cell, dict | list) for cell in cells)


def _lists(value: Value) -> Iterator[Record]:
    """A row for each element of the first list, on whose line it starts."""
    stream = JsonStream(value.text, line=value.line)
    next(stream.members())
    for element, cells in zip(stream.elements(), zip(*value.value.values(), strict=True), strict=True):
        row = dict(zip(value.value, cells, strict=True))
        yield Record(element.line, json.dumps(row, ensure_ascii=False), row)


def _table(path: Path, value: Value, notes: list[str]) -> Iterator[Record] | None:
    """The rows of what pandas' ``to_json()`` writes: ``{column: {index: cell}}``, or by index ``{index: row}``."""
    whole = value.value
    if not whole or not all(isinstance(each, dict) and each for each in whole.values()):
        return None
    index, *others = [list(each) for each in whole.values()]
    by_column, by_row = (all(key.isdecimal() for key in keys) for keys in (index, whole))
    if by_row and not by_column:
        notes.append("the rows are one object, under their index")
        return _members(value)
    if any(keys != index for keys in others):
        return None
    if by_column and not by_row:
        if value.twice is not None:
            return None  # which its record says
        notes.append("the file holds one column after the other, as pandas' to_json() writes it")
        return _columns(value)
    if len(whole) == 1:
        return None
    raise DataError(f"{path}: objects in an object, which may be rows or columns; write it as one array of objects")


def _members(value: Value) -> Iterator[Record]:
    stream = JsonStream(value.text, line=value.line)
    for _ in stream.members():
        yield stream.value().record()


def _columns(value: Value) -> Iterator[Record]:
    """A row for each key of the first column, on whose line it starts."""
    columns = value.value
    stream = JsonStream(value.text, line=value.line)
    next(stream.members())
    for key in stream.members():
        stream.next_character()
        line = stream.value().line
        row = {name: column[key] for name, column in columns.items()}
        yield Record(line, json.dumps(row, ensure_ascii=False), row)
