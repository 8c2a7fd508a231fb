"""The file that grows by lines, and the reader of one that another process writes."""

import contextlib
import json
import os

import pytest

from kellet.errors import DataError, InputError
from kellet.live.lines_file import LinesFile
from kellet.live.tail import Tail


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_appended_and_taken_up_again(tmp_path):
    path = tmp_path / "new" / "history.jsonl"
    file = LinesFile(path)
    for number in range(3):
        file.add({"iteration": number})
        file.write()
    assert rows_of(path) == [{"iteration": 0}, {"iteration": 1}, {"iteration": 2}]
    again = LinesFile(path)
    assert again.load() == rows_of(path)
    again.add({"iteration": 3})
    again.write()
    assert [row["iteration"] for row in rows_of(path)] == [0, 1, 2, 3]


def test_a_line_that_a_kill_cut_off_is_dropped(tmp_path):
    path = tmp_path / "history.jsonl"
    path.write_text('{"iteration": 1}\n{"iterat')
    file = LinesFile(path)
    assert file.load() == [{"iteration": 1}]
    file.add({"iteration": 2})
    file.write()
    assert rows_of(path) == [{"iteration": 1}, {"iteration": 2}]


@pytest.mark.parametrize("line", ["not json", "[1, 2]"])
def test_a_file_of_something_else_is_refused(tmp_path, line):
    path = tmp_path / "history.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=r"history\.jsonl"):
        LinesFile(path).load()


def test_what_could_not_be_written_is_written_later(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    file = LinesFile(tmp_path / "out" / "history.jsonl")
    file.add({"iteration": 1})
    with pytest.raises((OSError, InputError)):
        file.write()
    (tmp_path / "out").unlink()
    file.add({"iteration": 2})
    file.write()
    assert rows_of(file.path) == [{"iteration": 1}, {"iteration": 2}]


def test_a_file_that_somebody_removed_is_whole_again(tmp_path):
    file = LinesFile(tmp_path / "history.jsonl")
    file.add({"iteration": 1})
    file.write()
    file.path.unlink()
    file.add({"iteration": 2})
    file.write()
    assert rows_of(file.path) == [{"iteration": 1}, {"iteration": 2}]


def test_an_older_file_is_set_aside_under_a_free_name(tmp_path):
    for expected in ("history.1.jsonl", "history.2.jsonl"):
        (tmp_path / "history.jsonl").write_text('{"iteration": 1}\n')
        assert LinesFile(tmp_path / "history.jsonl").set_aside() == tmp_path / expected
    assert LinesFile(tmp_path / "history.jsonl").set_aside() is None


@pytest.fixture
def follow():
    """``follow(path)`` is a Tail that is closed at the end."""
    with contextlib.ExitStack() as stack:
        yield lambda path: stack.enter_context(Tail(path))


def texts(tail, last=False):
    return [text for _, text in tail.lines(last)]


def test_a_partial_line_waits_for_its_end(tmp_path, follow):
    path = tmp_path / "log"
    tail = follow(path)
    assert texts(tail) == []
    with path.open("a") as log:
        log.write("one\ntw")
        log.flush()
        assert texts(tail) == ["one"]
        assert texts(tail) == []
        log.write("o\nthree")
        log.flush()
        assert texts(tail) == ["two"]
    assert texts(tail, last=True) == ["three"]


def test_characters_are_not_cut_where_a_write_ends(tmp_path, follow):
    path = tmp_path / "log"
    whole = "β\u2028 = 0.1\n".encode()
    path.write_bytes(whole[:1])
    tail = follow(path)
    assert texts(tail) == []
    with path.open("ab") as log:
        log.write(whole[1:])
    assert texts(tail) == ["β\u2028 = 0.1"]


def test_a_rotated_log_is_read_to_its_end_and_then_the_new_one(tmp_path, follow):
    path = tmp_path / "log"
    path.write_text("one\n")
    tail = follow(path)
    assert texts(tail) == ["one"]
    with path.open("a") as log:
        log.write("two\n")
    path.rename(tmp_path / "log.1")
    path.write_text("three\n")
    assert tail.lines() == [(2, "two"), (1, "three")]
    assert "replaced" in tail.notes[0]


def test_a_log_that_became_shorter_is_read_again(tmp_path, follow):
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    tail = follow(path)
    tail.lines()
    os.truncate(path, 0)
    with path.open("a") as log:
        log.write("new\n")
    assert tail.lines() == [(1, "new")]
    assert "shorter" in tail.notes[0]


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"folder.*import-logs"):
        Tail(tmp_path).lines()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PAR1....", "Parquet"),
        (b"\x18\0\0\0", "a binary"),
        (b'{\n  "log_history": []', "one JSON"),
    ],
)
def test_a_file_that_does_not_grow_by_lines_is_refused(tmp_path, head, kind):
    (tmp_path / "log").write_bytes(head)
    with pytest.raises(DataError, match=f"is {kind}.*import-logs"):
        Tail(tmp_path / "log").lines()


def test_the_end_of_a_file_is_returned_before_the_next_is_refused(tmp_path, follow):
    path = tmp_path / "log"
    path.write_text("1\n")
    log = follow(path)
    assert log.lines() == [(1, "1")]
    with path.open("a") as file:
        file.write("2\n")
    path.rename(tmp_path / "old")
    path.write_bytes(b"\x1f\x8b packed")
    assert log.lines() == [(2, "2")]
    with pytest.raises(DataError, match="is gzip"):
        log.lines()
