"""Where the work is: plain lines in a file, one line written over on a terminal."""

import itertools
import sys

import pytest

from kellet import progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by 10 seconds at each look."""
    ticks = itertools.count(0, 10)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(ticks)))


def test_plain_lines_with_samples_per_second_and_time_left(clock, capsys):
    report = progress.lines("policy", ("objective/kl",))
    for done in (11, 12, 13):  # goes on from a checkpoint of 10
        report(done, 20, {"objective/kl": 1.5, "episodes": 64 * done})
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == 3
    # two iterations of 64 in 20 s, and seven more to go at 10 s each
    assert shown[-1] == "policy: 13/20  objective/kl 1.500  6.4 samples/s  70 s left"


def test_on_a_terminal_one_line_is_written_over(clock, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    report = progress.lines("x")
    for done in (1, 2):
        report(done, 2, {})
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert shown.count("\r") == 2


def test_steps_in_quick_succession_are_not_all_printed(monkeypatch, capsys):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 5.0)
    report = progress.lines("x")
    for done in range(1, 101):
        report(done, 100, {})
    assert len(capsys.readouterr().err.splitlines()) == 2  # the first and the last
