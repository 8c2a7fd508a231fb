"""kellet gate --programme: what is printed, exit codes, and what is written."""

import json
from pathlib import Path

import pytest

from tests.helpers.command import kellet
from tests.helpers.evaluations import evaluation

FAST = ("--set", "gate.resamples=200")


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A good and a bad evaluation in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name, gain in (("good", 1.0), ("bad", -1.0)):
        evaluation(128, gain=gain, seed=len(name), champion_gain=0.1).to_parquet(f"{name}.parquet")
    return tmp_path


def test_looks_are_counted_and_told(files):
    bad = kellet("gate", "bad.parquet", "--programme", "state.json", *FAST)
    assert bad.exit_code == 3
    assert "Look 1 of this programme, level 0.022 (0.022 spent), candidate unnamed-" in bad.output
    good = kellet("gate", "good.parquet", "--programme", "state.json", "--candidate", "week-2", *FAST)
    assert good.exit_code == 0, good.output
    assert (
        "programme          Look 2 of this programme, level 0.0072 (0.029 spent), candidate week-2 judged on "
        "256 answers, 128 of 128 prompts have decided before (at most once)." in good.output
    )
    assert "pass anchor             Mean reward gain over the anchor (the champion) " in good.output
    state = Path("state.json").read_bytes()
    again = kellet("gate", "good.parquet", "--programme", "state.json", "--candidate", "week-2", *FAST)
    assert (again.exit_code, again.output) == (0, good.output)
    assert Path("state.json").read_bytes() == state


def test_the_json_has_the_look(files):
    shown = json.loads(kellet("gate", "good.parquet", "--programme", "state.json", "--json", *FAST).stdout)
    assert shown["programme"].items() >= {"active": True, "look": 1, "promoted_before": 0, "judged_before": 0}.items()
    assert shown["config"]["alpha"] == shown["programme"]["alpha"] == shown["programme"]["level"]
    assert shown["becomes_anchor"] is True
    assert shown["comparison_with_anchor"]["system"] == "champion"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ((), "no programme was given"),
        (("--set", "gate.programme=false"), "gate.programme is false"),
        (("--set", "gate.programme=false", "--programme", "state.json"), "gate.programme is false"),
    ],
)
def test_a_verdict_that_stands_alone_says_so(files, options, why):
    result = kellet("gate", "good.parquet", *options, *FAST)
    assert result.exit_code == 0
    assert f"This look stands alone ({why}): repeated looks are not accounted for" in result.output
    assert not Path("state.json").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--candidate", "x"), "--candidate x names a candidate of a programme; give --programme STATE.json too"),
        (("--programme", "good.parquet"), "good.parquet is not a programme's state"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(files, options, message):
    before = {file: file.read_bytes() for file in files.rglob("*") if file.suffix != ".lock"}
    result = kellet("gate", "bad.parquet", *options, *FAST)
    assert result.exit_code == 2
    assert message in result.stderr
    assert {file: file.read_bytes() for file in files.rglob("*") if file.suffix != ".lock"} == before


def test_evaluate_refuses_a_state_that_is_none(files):
    Path("preferences.parquet").write_text("")
    for folder in ("reward_model", "policy", "base"):
        Path("run", folder).mkdir(parents=True)
    result = kellet(
        *("evaluate", "--run", "run", "--preferences", "preferences.parquet", "--programme", "good.parquet"),
        *("--params", str(Path(__file__).parents[2] / "params.yaml")),
    )
    assert result.exit_code == 2
    assert "good.parquet is not a programme's state" in result.stderr
