"""What the columns of a foreign file hold: a first pass over all of its rows, before any of them is read as a pair.

A code such as 1 means something by the values that its whole column has, so the whole column is seen first. Nested
objects are seen as columns of their own, named with a dot: ``{"info": {"post": …}}`` is the column ``info.post``.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kellet.data.conversation import as_messages
from kellet.data.exports import unfolded, votes
from kellet.data.raw_files import Record, read_chunks
from kellet.data.record import MISSING

CODES = 64
"""Distinct values of a column that are kept, each with its count and first line."""
DISTINCT = 1000
COUNTED = 2000
"""Values whose words are counted."""
SAMPLE = 1000
"""Rows that are kept, to see whether one column repeats another."""
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True)
class Code:
    """One value of a column."""

    value: Any
    line: int
    """Of its first row."""
    count: int


@dataclass
class Column:
    """What one column holds in all rows of a file."""

    name: str
    filled: int = 0
    """Rows with a value; an empty text or list is none."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Rows by kind: text, messages, list, object, number, bool, other."""
    codes: dict[str, Code] = field(default_factory=dict)
    """Its values by :func:`code_of`, those of lists one by one; incomplete where ``many``."""
    many: bool = False
    numbers: tuple[float, float] | None = None
    """The smallest and the largest number."""
    all_numbers: bool = True
    words: int = 0
    """In the first COUNTED values."""
    counted: int = 0
    distinct: set[int] = field(default_factory=set)

    def add(self, value: Any, line: int) -> None:
        """Take one more value into account."""
        if value is None or value in ("", []) or value != value:
            return
        self.filled += 1
        kind = kind_of(value)
        self.kinds[kind] += 1
        if kind in ("text", "messages", "list") and self.counted < COUNTED:
            self.words, self.counted = self.words + count_words(value), self.counted + 1
        if len(self.distinct) < DISTINCT:
            self.distinct.add(hash(str(value)))
        if not (self.many and not self.all_numbers):
            for vote in votes(value):
                self._add_code(vote, line)

    def _add_code(self, value: Any, line: int) -> None:
        if is_missing(value):
            return
        code = code_of(value)
        number = number_of(value)
        self.all_numbers = self.all_numbers and number is not None
        if number is not None:
            low, high = self.numbers or (number, number)
            self.numbers = min(low, number), max(high, number)
        known = self.codes.get(code)
        if known is None and len(self.codes) >= CODES:
            self.many = True
            return
        self.codes[code] = Code(value, line, 1) if known is None else Code(known.value, known.line, known.count + 1)

    @property
    def textual(self) -> bool:
        """Whether it holds texts, messages or lists, rather than numbers."""
        return sum(self.kinds[kind] for kind in ("text", "messages", "list")) * 2 > self.filled

    @property
    def prose(self) -> bool:
        """Whether it holds varied text that people read, rather than codes, names or numbers.

        Five words and more on average and two values, or three words and more than twenty values.
        """
        if not self.textual:
            return False
        mean = self.words / max(self.counted, 1)
        return (mean >= 5 and len(self.distinct) > 1) or (mean >= 3 and len(self.distinct) > 20)


@dataclass
class Survey:
    """The columns of a file, and its first rows."""

    path: Path
    rows: int = 0
    """Rows that could be read."""
    columns: dict[str, Column] = field(default_factory=dict)
    sample: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """(line, values) of the first rows."""
    notes: list[str] = field(default_factory=list)
    """What is not usual about the file, such as semicolons between columns."""

    def names(self) -> str:
        """Its columns for a message, in the order of their names."""
        return ", ".join(map(escaped, sorted(self.columns)))

    def share(self, name: str) -> float:
        """Share of the rows in which a column has a value."""
        return self.columns[name].filled / max(self.rows, 1)

    def repeats(self, name: str, inside: Sequence[str], equal: Sequence[str] = ()) -> bool:
        """Whether all texts of a column stand in those of ``inside``, or are texts of ``equal``, in the first rows."""
        filled = [values for _, values in self.sample if values.get(name)]
        return bool(filled) and all(
            _found(values[name], [values.get(other) for other in inside], [values.get(other) for other in equal])
            for values in filled
        )


def _found(value: Any, inside: list[Any], equal: list[Any]) -> bool:
    where, same = " ".join(_texts(inside)), set(_texts(equal))
    return all(text in where or text in same for text in _texts([value]))


def _texts(values: list[Any]) -> list[str]:
    """All texts, with single spaces; of conversations what is said."""
    found: list[str] = []
    for value in values:
        try:
            messages = as_messages(value)
        except ValueError:
            messages = None
        said = strings(value) if messages is None else [str(message["content"]) for message in messages]
        found += [" ".join(text.split()) for text in said]
    return found


def survey(path: Path, size: int) -> Survey:
    """Read all rows, ``size`` at a time. Raises DataError as the reader does."""
    seen = Survey(path)
    for record, values in read_values(path, size, seen.notes):
        if values is None:
            continue
        seen.rows += 1
        if len(seen.sample) < SAMPLE:
            seen.sample.append((record.line, values))
        for name, value in values.items():
            column = seen.columns.get(name)
            if column is None:
                column = seen.columns[name] = Column(name)
            column.add(value, record.line)
    return seen


def read_values(
    path: Path, size: int, notes: list[str] | None = None
) -> Iterator[tuple[Record, dict[str, Any] | None]]:
    """Each row of a file with its values, nested ones under a name with a dot; ``notes`` as of read_chunks."""
    for records, _ in read_chunks(path, size, notes):
        for record in records:
            yield record, None if record.values is None else unfolded(record.values)


def kind_of(value: Any) -> str:
    """``text``, ``messages``, ``list``, ``object``, ``number``, ``bool`` or ``other``."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    plain = isinstance(value, str) and value[:64].lstrip()[:1] not in ("[", "{", "")
    if not plain and is_messages(value):
        return "messages"
    if isinstance(value, str):
        return "text" if number_of(value) is None else "number"
    return "list" if isinstance(value, list) else "object" if isinstance(value, dict) else "other"


def is_messages(value: Any) -> bool:
    """Whether a value is a conversation, sound or not."""
    try:
        return as_messages(value) is not None
    except ValueError:
        return True


def is_missing(value: Any) -> bool:
    """Whether a cell says that nothing is there: null, NaN, or a text that programs write for them."""
    return value is None or value != value or (isinstance(value, str) and value.strip().casefold() in MISSING)


def number_of(value: Any) -> float | None:
    """The finite number that a value is or, in a text, spells; None for any other."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (len(value) > 24 or not re.fullmatch(r"\s*[-+]?\d[\d.]*(e[-+]?\d+)?\s*", value)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < 1e300 else None


def escaped(text: str) -> str:
    """A name or value of the file for a message: control characters as escapes."""
    return text if text.isprintable() else repr(text)[1:-1]


def code_of(value: Any) -> str:
    """A value as ``data.preferred_values`` and --map-values name it: 1 for 1.0, true for True, small letters."""
    if isinstance(value, bool):
        return "true" if value else "false"
    number = number_of(value)
    if number is not None:
        return f"{number:g}"
    return " ".join(str(value).split()).casefold()


def count_words(value: Any) -> int:
    """Words made of letters; where a script sets no spaces, two characters count as one."""
    text = " ".join(strings(value))
    spaced = sum(word.strip(".,;:!?()[]\"'“”¿¡").isalpha() and len(word) > 1 for word in text.split())
    return max(spaced, len(_UNSPACED.findall(text)) // 2)


def strings(value: Any) -> list[str]:
    """All texts in a value, those of lists and objects too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in strings(item)]
    return [text for item in value for text in strings(item)] if isinstance(value, list) else []
