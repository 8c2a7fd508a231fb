"""A dead process is told from a live one that has its number."""

import pytest

from adapters.owner import is_gone, me


def test_a_process_is_gone_when_its_number_belongs_to_another(monkeypatch):
    mine = me()
    assert not is_gone(mine)
    head, start = mine.rsplit(":", 1)
    assert is_gone(f"{head}:{int(start) - 100}")
    assert not is_gone(mine.replace(mine.split(":")[1], "another-host"))


@pytest.mark.parametrize(
    "owner", ["alice", "owner:alice", "team:risk:4:x", "owner:host:12:", "owner:h:١:٢", "", "a:b:c:d"]
)
def test_a_name_that_kellet_did_not_give_belongs_to_no_dead_process(owner):
    assert not is_gone(owner)
