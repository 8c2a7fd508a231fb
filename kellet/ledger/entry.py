"""One row of the ledger.

The hash of a row is that of its own fields and of the row before it, so that a row which is changed, taken out or put
in between breaks the chain from there on (Haber and Stornetta 1991, 'How to time-stamp a digital document').
"""

from datetime import UTC, datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict

from kellet.files import value_hash

Action = Literal["verdict", "promote", "roll back"]
NONE = "none"
"""No version: where there is no champion, or none was compared with."""
GENESIS = "0" * 64
"""What stands for the hash of the row before the first one."""


class Change(BaseModel):
    """What is to be written down. ``before`` and ``after`` are versions, but for a verdict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Action
    model: str
    """Name of the registered model."""
    version: str
    """Number of the version that it is about."""
    before: str
    """The champion before; of a verdict, the champion that the version was compared with."""
    after: str
    """The champion after; of a verdict: promote, block or inconclusive."""
    anchor: str = NONE
    """The anchor after; of a verdict the version where it becomes the anchor by being promoted."""
    reason: str
    evidence: dict[str, str] = {}
    """File or part -> its hash: what the change rests on."""


class Entry(Change):
    """A row that was written."""

    number: int
    """1, 2, 3, … without a gap."""
    time: str
    """UTC, by the clock of the host that wrote it."""
    actor: str
    """Whose login it was, as LOGIN@HOST."""
    previous: str
    """Hash of the row before, or GENESIS."""
    hash: str
    """sha256 of all other fields."""


def entry_hash(fields: dict[str, object]) -> str:
    """The hash of a row by its other fields."""
    return value_hash({name: value for name, value in fields.items() if name != "hash"})


def entry_after(last: Entry | None, change: Change, actor: str) -> Entry:
    """The row for ``change`` that follows ``last``."""
    fields = change.model_dump() | {
        "number": last.number + 1 if last else 1,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "actor": actor,
        "previous": last.hash if last else GENESIS,
    }
    return Entry.model_validate(fields | {"hash": entry_hash(fields)})
