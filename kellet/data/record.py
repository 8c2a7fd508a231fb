"""One row of a foreign file, as every reader gives it."""

from collections import Counter
from typing import Any, NamedTuple

MISSING = {"", "nan", "null", "n/a", "na", "#n/a", "<na>", "nat"}
"""What pandas, SQL, R and spreadsheets write for a value that is not there, in small letters."""


class Record(NamedTuple):
    """One row of a raw file."""

    line: int
    """1-based line of the user's own file on which the row starts; in Parquet the row's number."""
    text: str
    """The row as it came: its own text in JSON, in CSV and Parquet its values as JSON (a row of another width: a list).
    """
    values: dict[str, Any] | None
    """None: the row could not be read."""
    reason: str = ""
    """Why it could not be read."""


def shown(name: str) -> str:
    """A name of a foreign file for a message: as it is, quoted where it holds what a terminal would not show."""
    return name if name and name.isprintable() else repr(name)


def repeated(names: list[str]) -> str | None:
    """The first name that is there twice, or None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)
