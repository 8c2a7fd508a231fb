"""Reading a history: what is malformed is refused, and a training that diverged is read with gaps."""

from pathlib import Path

import pytest

from kellet.diagnosis.history import read_history
from kellet.errors import DataError


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (('{"iteration": 1', "x"), "line 1 is not valid JSON"),
        (('{"iteration": 1}', "x"), "line 2 is not JSON"),
        (('{"iteration": 1}', "[1]"), "line 2: a JSON list, wanted an object"),
        (('{"iteration": 1, "iteration": 2}',), "line 1: key 'iteration' appears twice"),
        (('{"iteration": 1, "objective/kl": NaN}',), "line 1, key 'objective/kl': nan is not finite"),
        (('{"iteration": 1, "objective/kl": Infinity}',), "inf is not finite"),
        (('{"iteration": 2}', "", '{"iteration": 2}'), "line 3, key 'iteration': 2 does not rise above 2"),
        (('{"iteration": 2}', "{}", '{"iteration": 1}'), "line 3, key 'iteration': 1 does not rise above 2"),
        ((), "is empty"),
    ],
)
def test_a_malformed_history_is_refused_with_line_and_key(tmp_path, lines, message):
    with pytest.raises(DataError, match=message.replace("[", r"\[")):
        read_history(write(tmp_path / "history.jsonl", *lines))


def test_a_training_that_diverged_is_read_with_gaps(tmp_path):
    path = write(tmp_path / "history.jsonl", '{"iteration": 1, "ppo/policy/loss": NaN, "objective/kl": 2}')
    assert read_history(path, gaps=True) == [{"iteration": 1.0, "ppo/policy/loss": None, "objective/kl": 2.0}]


def test_a_line_ends_at_a_line_feed_only_and_a_csv_is_no_history(tmp_path):
    """U+2028, U+0085 and a vertical tab are letters of a JSON text; str.splitlines() cuts there."""
    path = write(tmp_path / "history.jsonl", '{"iteration": 1, "note": "a\u2028b\x85c"}', '{"iteration": 2}')
    assert read_history(path) == [{"iteration": 1.0}, {"iteration": 2.0}]
    assert read_history(path.rename(tmp_path / "metrics.log")) == [{"iteration": 1.0}, {"iteration": 2.0}]
    with pytest.raises(DataError, match="wanted JSON lines: kellet import-logs"):
        read_history(write(tmp_path / "history.csv", "iteration,objective/kl", "1,2.0"))
