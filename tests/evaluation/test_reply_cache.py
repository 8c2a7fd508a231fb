"""Replies are only added, each is on the disk at once, and what a kill cut short is asked for again."""

import pytest

from kellet.errors import InputError, KelletError
from kellet.evaluation.reply_cache import Reply, ReplyCache, opened

REPLY = Reply("Because.\nVERDICT: A", False, 120, 7, "m")


def body(number):
    return {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}


def test_a_reply_is_found_by_its_whole_request(tmp_path):
    path = tmp_path / "deep/replies.jsonl"
    with opened(path) as cache:
        cache.add(body(1), REPLY)
        assert cache.get(body(1)) == REPLY
    with opened(path) as cache:
        assert cache.get(dict(reversed(body(1).items()))) == REPLY
        for other in ({**body(1), "temperature": 1.0}, {**body(1), "model": "n"}, body(2)):
            assert cache.get(other) is None


def test_a_line_that_a_kill_cut_short_is_no_reply_and_harms_no_other(tmp_path):
    path = tmp_path / "replies.jsonl"
    with opened(path) as cache:
        cache.add(body(1), REPLY)
        cache.add(body(2), REPLY)
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    for end in range(second, len(whole)):
        path.write_bytes(whole[:end])
        with opened(path) as cache:
            assert cache.get(body(1)) == REPLY
            complete = end == len(whole) - 1  # only the line's end is missing
            assert (cache.get(body(2)) == REPLY) == complete
            assert cache.damaged == int(second < end and not complete)
            cache.add(body(3), REPLY)
        assert path.read_bytes().startswith(whole[:end])
        again = ReplyCache(path)
        assert again.get(body(3)) == again.get(body(1)) == REPLY


def test_two_judgings_do_not_share_a_file(tmp_path):
    with (
        opened(tmp_path / "r.jsonl"),
        pytest.raises(InputError, match="in use by another"),
        opened(tmp_path / "r.jsonl"),
    ):
        pass
    with opened(tmp_path / "r.jsonl"):
        pass


def test_another_kind_of_file_is_left_alone(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("dear diary\nnothing\n")
    with pytest.raises(InputError, match="holds no replies"):
        ReplyCache(path)
    assert path.read_text() == "dear diary\nnothing\n"


def test_a_disk_that_takes_no_more_is_an_error_that_keeps_what_was_there(tmp_path, monkeypatch):
    cache = ReplyCache(tmp_path / "r.jsonl")
    cache.add(body(1), REPLY)
    cache.path = tmp_path / "none/r.jsonl"
    with pytest.raises(KelletError, match=r"cannot write .* replies so far are kept"):
        cache.add(body(2), REPLY)
    assert ReplyCache(tmp_path / "r.jsonl").get(body(1)) == REPLY
