"""Atomic writes leave the old or the new, never something between; hashes see names and bytes."""

import contextlib
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from kellet import files
from kellet.errors import InputError
from kellet.files import atomic_file, atomic_folder, content_hash, value_hash, write_json, write_json_lines


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_all_went_well(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("old", "new"):
        with atomic_file(path) as temporary:
            temporary.write_text(text)
        assert path.read_text() == text
    assert names(path.parent) == ["a.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_while_a_file_is_written_the_old_one_stays(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"


def fail_inside(context, write):
    with context as temporary:
        write(temporary)
        raise KeyboardInterrupt


def test_an_exception_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        fail_inside(atomic_file(path), lambda temporary: temporary.write_text("half"))
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "out"
    with atomic_folder(path) as folder:
        (folder / "first").write_text("1")
    with atomic_folder(path) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "second").write_text("2")
        assert names(path) == ["first"]
    assert names(path) == ["inner"]
    assert (path / "inner" / "second").read_text() == "2"
    assert names(tmp_path) == ["out"]
    assert path.stat().st_mode & 0o777 == 0o755


def test_an_exception_leaves_the_old_folder(tmp_path):
    path = tmp_path / "out"
    with atomic_folder(path) as folder:
        (folder / "first").write_text("1")
    with pytest.raises(KeyboardInterrupt):
        fail_inside(atomic_folder(path), lambda folder: (folder / "second").write_text("2"))
    assert names(path) == ["first"]
    assert names(tmp_path) == ["out"]


def test_an_exception_leaves_nothing_where_nothing_was(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fail_inside(atomic_folder(tmp_path / "out"), lambda folder: (folder / "a").write_text("1"))
    assert names(tmp_path) == []


@pytest.mark.parametrize("exchange", [True, False])
def test_an_interrupt_at_any_rename_leaves_the_old_folder_or_the_new(tmp_path, monkeypatch, exchange):
    """Each call that renames something is interrupted in turn, before and after it acts."""
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    path, seen = tmp_path / "out", set()
    for when in ("before", "after"):
        for number in range(4):
            with atomic_folder(path) as folder:
                (folder / "old").write_text("1")
            calls = iter(range(99))

            def cut(act, *arguments, calls=calls, number=number, when=when):
                mine = next(calls) == number
                if mine and when == "before":
                    raise KeyboardInterrupt
                done = act(*arguments)
                if mine:
                    raise KeyboardInterrupt
                return done

            with monkeypatch.context() as patched:
                replace, swap = Path.replace, files._exchange
                patched.setattr(Path, "replace", lambda self, to, replace=replace, cut=cut: cut(replace, self, to))
                if exchange:
                    patched.setattr(files, "_exchange", lambda one, to, swap=swap, cut=cut: cut(swap, one, to))
                with contextlib.suppress(KeyboardInterrupt), atomic_folder(path) as folder:
                    (folder / "new").write_text("2")
            seen.add(tuple(names(path)))
    assert seen == {("old",), ("new",)}


def test_a_kill_between_two_folders_never_leaves_none(tmp_path):
    """A reader beside a writer that replaces the folder again and again always finds it whole."""
    path = tmp_path / "out"
    script = (
        "from pathlib import Path; from kellet.files import atomic_folder\n"
        f"for n in range(300):\n    with atomic_folder(Path({str(path)!r})) as f: (f / 'a').write_text(str(n))"
    )
    with atomic_folder(path) as folder:
        (folder / "a").write_text("-1")
    with subprocess.Popen([sys.executable, "-c", script]) as writer:
        found = 0
        while writer.poll() is None:
            looks = [(path / "a").is_file() for _ in range(2)]  # the folder may be exchanged in the middle of one look
            assert any(looks) or not sys.platform.startswith("linux")
            found += 1
    assert writer.returncode == 0
    assert found > 10
    assert (path / "a").read_text() == "299"


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_where_nothing_can_be_written_the_path_is_named(tmp_path, writer):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(InputError, match=r"cannot write .*file/out.*choose a folder") as caught,
        writer(tmp_path / "file" / "out"),
    ):
        pytest.fail("nothing can be written below a file")
    assert caught.value.exit_code == 2


def test_json_lines_have_no_nan(tmp_path):
    write_json_lines(tmp_path / "a.jsonl", [{"a": float("nan"), "b": "ü\u2028"}, {"a": 1}])
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line, parse_constant=pytest.fail) for line in lines[:-1]] == [
        {"a": None, "b": "ü\u2028"},
        {"a": 1},
    ]
    assert lines[-1] == ""


def test_json_has_no_nan(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": [1.5, float("nan")], "y": {"z": (float("-inf"), None, "NaN")}, 3: True})
    assert (
        path.read_text() == json.dumps({"x": [1.5, None], "y": {"z": [None, None, "NaN"]}, "3": True}, indent=2) + "\n"
    )


def folder_of(path, **files):
    path.mkdir()
    for name, text in files.items():
        (path / name).write_text(text)
    return path


def test_a_hash_changes_with_content_and_with_names(tmp_path):
    same = [folder_of(tmp_path / name, a="1", b="2") for name in ("one", "two")]
    others = [
        folder_of(tmp_path / "content", a="1", b="3"),
        folder_of(tmp_path / "name", a="1", c="2"),
        folder_of(tmp_path / "swapped", a="2", b="1"),
        folder_of(tmp_path / "fewer", a="1"),
        folder_of(tmp_path / "more", a="1", b="2", c=""),
    ]
    assert content_hash(same[0]) == content_hash(same[1])
    hashes = {content_hash(folder) for folder in [same[0], *others]}
    assert len(hashes) == 6


def test_a_files_hash_does_not_hold_its_name(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("same")
    (tmp_path / "c").write_text("other")
    assert content_hash(tmp_path / "a") == content_hash(tmp_path / "b") != content_hash(tmp_path / "c")


def test_a_folder_within_counts_by_its_place(tmp_path):
    for name, inner in (("one", "x"), ("two", "y")):
        folder = tmp_path / name / inner
        folder.mkdir(parents=True)
        (folder / "a").write_text("1")
    assert content_hash(tmp_path / "one") != content_hash(tmp_path / "two")


def test_a_values_hash_forgets_the_order_of_keys():
    assert value_hash({"a": 1, "b": 2}) == value_hash({"b": 2, "a": 1}) != value_hash({"a": 2, "b": 1})
    assert value_hash([1, 2]) != value_hash([2, 1])
    assert value_hash(None) == hashlib.sha256(b"null").hexdigest()
