"""The account of a foreign file: what each of its columns, fields and metrics was taken for, or why it was left out.

Every reader of files from elsewhere (preferences, evaluations, samples, training logs) gives one entry for each name
that the file holds, so that nothing of it is dropped in silence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kellet.stats.format import aligned


@dataclass(frozen=True)
class Entry:
    """What became of one column, field or metric of a file."""

    name: str
    """Its name in the file."""
    taken_for: str
    """The name of the contract that it was read as, such as ``prompt`` or ``objective/kl_k1``; empty: left out."""
    why: str = ""
    """How it was recognised, or why it was left out."""
    share: float | None = None
    """Share of the rows whose value could be used; None where that was not counted."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"name": self.name, "taken_for": self.taken_for or None, "why": self.why, "share": self.share}


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
