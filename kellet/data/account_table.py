"""The account of a foreign file as lines of text, for a terminal."""

from collections.abc import Sequence

from kellet.data.account import Entry
from kellet.stats.format import aligned


def account_text(entries: Sequence[Entry]) -> list[str]:
    """The entries as lines of a table, used ones first; names are quoted, so that control characters do no harm."""
    rows = [
        [
            repr(entry.name),
            entry.taken_for or "left out",
            "" if entry.share is None else f"{100 * entry.share:.0f}% of rows",
            entry.why,
        ]
        for entry in sorted(entries, key=lambda entry: not entry.taken_for)
    ]
    return aligned([["in the file", "taken for", "usable", "why"], *rows])
