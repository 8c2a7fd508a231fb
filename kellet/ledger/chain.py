"""What rows of the ledger say: whether they hang together, who is champion, and what was said of a version."""

from collections.abc import Sequence

from kellet.errors import KelletError
from kellet.ledger.entry import GENESIS, NONE, Entry, entry_hash

MOVES = ("promote", "roll back")
"""What changes the champion."""

RESTORE = "nothing was changed; restore the ledger from a backup"


class BrokenLedger(KelletError):
    """A row of the ledger was changed, taken out or put in between."""


def require_whole(entries: Sequence[Entry]) -> None:
    """Raise BrokenLedger that names the first row which does not follow from the one before, or is not as written.

    Rows that are missing at the end leave a whole chain: what names a later row has to say so.
    """
    previous = GENESIS
    for number, entry in enumerate(entries, 1):
        if entry.number != number or entry.previous != previous:
            raise BrokenLedger(f"the ledger is broken: row {entry.number} does not follow row {number - 1}; {RESTORE}")
        if entry_hash(entry.model_dump()) != entry.hash:
            raise BrokenLedger(f"the ledger is broken: row {number} was changed; {RESTORE}")
        previous = entry.hash


def moves(entries: Sequence[Entry], model: str) -> list[Entry]:
    """The rows that changed the champion of ``model``, the oldest first."""
    return [entry for entry in entries if entry.model == model and entry.action in MOVES]


def champion(entries: Sequence[Entry], model: str) -> str:
    """The version that is champion, or ``none``."""
    moved = moves(entries, model)
    return moved[-1].after if moved else NONE


def anchor(entries: Sequence[Entry], model: str) -> str:
    """The version that is anchor, or ``none``."""
    moved = moves(entries, model)
    return moved[-1].anchor if moved else NONE


def previous(entries: Sequence[Entry], model: str) -> str:
    """The version that a rollback goes to: the champion before this one that was not itself taken back, or ``none``.

    A rollback does not push: after 1, 2, 3 and a rollback to 2 it is 1.
    """
    moved = moves(entries, model)
    stack = [move.before for move in moved[:1] if move.before != NONE]  # was champion before there was a ledger
    for move in moved:
        if move.action == "roll back" and move.after in stack:
            del stack[stack.index(move.after) + 1 :]
        elif move.action == "roll back" and stack:
            stack[-1] = move.after
        else:
            stack.append(move.after)
    return stack[-2] if len(stack) > 1 else NONE


def last_verdict(entries: Sequence[Entry], model: str, version: str) -> Entry | None:
    """What the gate said last of a version."""
    said = [entry for entry in entries if (entry.model, entry.version, entry.action) == (model, version, "verdict")]
    return said[-1] if said else None


def last_time_champion(entries: Sequence[Entry], model: str, version: str) -> Entry | None:
    """The last row that made a version champion."""
    made = [entry for entry in moves(entries, model) if entry.after == version]
    return made[-1] if made else None
