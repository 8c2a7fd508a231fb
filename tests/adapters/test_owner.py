"""A dead process is told from a live one that has its number."""

from adapters.owner import is_gone, me


def test_a_process_is_gone_when_its_number_belongs_to_another(monkeypatch):
    mine = me()
    assert not is_gone(mine)
    head, start = mine.rsplit(":", 1)
    assert is_gone(f"{head}:{int(start) - 100}")
    assert not is_gone(mine.replace(mine.split(":")[1], "another-host"))
