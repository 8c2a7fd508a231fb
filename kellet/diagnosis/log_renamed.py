"""Metrics that change their name in the middle of a log, as where a trainer was upgraded before the run was resumed."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kellet.data.account import Entry
from kellet.diagnosis.log_lines import number
from kellet.diagnosis.log_names import slot
from kellet.diagnosis.trainers import Name, Trainer

Row = Mapping[str, Any]


def renamed(rows: Sequence[Row], source: Trainer, mapped: Collection[str]) -> dict[str, str]:
    """Older or newer name -> the name that the trainer's table prefers, where both are one metric and no row has both.

    One metric: the same of Kellet's, in the same unit, of a KL by the same estimator. ``mapped``: names that the user
    has settled.
    """
    found: dict[str, str] = {}
    names = [name for name in source.names if name.ours and name.theirs not in mapped]
    where = {name.theirs: {place for place, row in enumerate(rows) if _has(row, name.theirs)} for name in names}
    for place, name in enumerate(names):
        for other in names[place + 1 :]:
            same = (name.ours, name.estimator, name.fixed) == (other.ours, other.estimator, other.fixed)
            one, two = where[name.theirs], where[other.theirs]
            if same and one and two and (max(one) < min(two) or max(two) < min(one)):
                found.setdefault(other.theirs, name.theirs)
    return {other: name for other, name in found.items() if name not in found}


def joined(rows: Sequence[Row], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """Rows with the value of each older or newer name under the one that is read."""
    return [{**row, **{names[key]: row[key] for key in names if _has(row, key)}} for row in rows]


def notes_on(rows: Sequence[Row], names: Mapping[str, str]) -> list[str]:
    """A sentence for each metric that changed its name, and from which iteration on."""
    notes = []
    for other, name in names.items():
        first = next(place for place, row in enumerate(rows, 1) if _has(row, name))
        former, later = (other, name) if first > 1 and not _has(rows[0], name) else (name, other)
        change = next(place for place, row in enumerate(rows, 1) if _has(row, later))
        notes.append(f"{former!r} is called {later!r} from row {change} on: both are read as one metric")
    return notes


def accounted(account: Sequence[Entry], names: Mapping[str, str], used: Sequence[Name]) -> list[Entry]:
    """The account with the other names as what they were read for."""
    taken = {name.theirs: name for name in used}
    return [
        Entry(entry.name, taken[names[entry.name]].metric, f"{names[entry.name]!r} in other rows", entry.share)
        if names.get(entry.name) in taken
        else entry
        for entry in account
    ]


def instead(row: Row, used: Name, source: Trainer) -> Name | None:
    """The name under which this row has the metric that ``used`` no longer names; None where it has none."""
    if used.theirs in row:
        return None
    return next(
        (
            name
            for name in source.names
            if slot(name.ours) == slot(used.ours) and name.ours == used.ours and name.theirs in row
            if (source.name(used.theirs) or used).estimator == name.estimator and name.fixed == used.fixed
        ),
        None,
    )


def _has(row: Row, key: str) -> bool:
    value = number(row.get(key))
    return value is not None and not math.isinf(value)
