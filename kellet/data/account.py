"""The account of a foreign file: what each of its columns, fields and metrics was taken for, or why it was left out.

Every reader of files from elsewhere (preferences, evaluations, samples, training logs) gives one entry for each name
that the file holds, so that nothing of it is dropped in silence.
"""

from dataclasses import dataclass
from typing import Any


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
