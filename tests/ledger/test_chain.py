"""What rows of the ledger say, by rows written by hand; and each way of changing one is found."""

import hashlib
import json

import pytest

from kellet.ledger import chain
from kellet.ledger.chain import BrokenLedger
from kellet.ledger.entry import GENESIS, Change, Entry, entry_after, entry_hash

FIELDS = {"model": "m", "reason": "r", "evidence": {"gate.json": "0f"}}


def written(*changes):
    """Rows of (action, version, before, after, anchor), one after the other."""
    entries = []
    for action, version, before, after, anchor in changes:
        change = Change(action=action, version=version, before=before, after=after, anchor=anchor, **FIELDS)
        entries.append(entry_after(entries[-1] if entries else None, change, "anna@host"))
    return entries


THREE = written(
    ("verdict", "1", "none", "promote", "1"), ("promote", "1", "none", "1", "1"), ("verdict", "2", "1", "block", "none")
)


def test_the_hash_of_a_row_is_sha256_of_its_fields_in_order_of_their_names():
    row = THREE[1]
    fields = {name: value for name, value in row.model_dump().items() if name != "hash"}
    assert row.hash == hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    assert [entry.previous for entry in THREE] == [GENESIS, THREE[0].hash, THREE[1].hash]
    chain.require_whole(THREE)
    chain.require_whole([])


@pytest.mark.parametrize("field", [name for name in Entry.model_fields if name not in ("number", "previous", "hash")])
@pytest.mark.parametrize("place", range(3))
def test_a_row_that_was_changed_is_named(field, place):
    value = {"other": "x"} if field == "evidence" else "roll back" if field == "action" else "changed"
    changed = [*THREE]
    changed[place] = THREE[place].model_copy(update={field: value})
    with pytest.raises(BrokenLedger, match=rf"row {place + 1} was changed"):
        chain.require_whole(changed)


@pytest.mark.parametrize("rows", [(1, 2), (0, 2), (0, 2, 1), (0, 0, 1, 2)])
def test_a_row_that_is_missing_or_out_of_place_is_named(rows):
    with pytest.raises(BrokenLedger, match="does not follow row"):
        chain.require_whole([THREE[row] for row in rows])


def test_a_row_that_was_changed_with_its_hash_does_not_fit_the_next_one():
    forged = THREE[1].model_copy(update={"after": "9"})
    forged = forged.model_copy(update={"hash": entry_hash(forged.model_dump())})
    with pytest.raises(BrokenLedger, match="row 3 does not follow row 2"):
        chain.require_whole([THREE[0], forged, THREE[2]])


def moved(*moves):
    """Promotions (``2``) and rollbacks (``-1``) to versions, as rows."""
    rows, now = [], "none"
    for move in moves:
        action, version = ("roll back", str(-move)) if move < 0 else ("promote", str(move))
        rows.append((action, version, now, version, "1"))
        now = version
    return written(*rows)


@pytest.mark.parametrize(
    ("moves", "champion", "previous"),
    [
        ((), "none", "none"),
        ((1,), "1", "none"),
        ((1, 2), "2", "1"),
        ((1, 2, -1), "1", "none"),
        ((1, 2, 3, -2), "2", "1"),
        ((1, 2, 3, -2, -1), "1", "none"),
        ((1, 2, 3, -2, 4), "4", "2"),
        ((1, 2, 3, -1, 4, -1), "1", "none"),
        ((1, 2, -7), "7", "1"),  # by force to a version that never was champion: it stands in the place of 2
        ((1, 2, -1, -2), "2", "none"),  # back again: 1 was the one taken back
    ],
)
def test_champion_and_the_one_before_it(moves, champion, previous):
    entries = moved(*moves)
    assert chain.champion(entries, "m") == champion
    assert chain.previous(entries, "m") == previous
    assert chain.champion(entries, "another model") == chain.previous(entries, "another model") == "none"


def test_the_champion_before_the_first_row_is_one_to_go_back_to():
    entries = written(("promote", "5", "4", "5", "4"))
    assert chain.previous(entries, "m") == "4"
    assert chain.anchor(entries, "m") == "4"


def test_the_last_verdict_counts():
    entries = [*THREE]
    change = Change(action="verdict", version="2", before="1", after="promote", **FIELDS)
    entries.append(entry_after(entries[-1], change, "ben@host"))
    assert chain.last_verdict(entries, "m", "2").after == "promote"
    assert chain.last_verdict(THREE, "m", "2").after == "block"
    assert chain.last_verdict(entries, "m", "3") is None
    assert chain.last_time_champion(entries, "m", "1").number == 2
    assert chain.last_time_champion(entries, "m", "2") is None
