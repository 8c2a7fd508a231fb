"""A programme in a file: looks are counted once and whole, answers are added, and a damaged state is refused."""

import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from filelock import FileLock

from kellet.config.judgement import Gate
from kellet.errors import InputError
from kellet.evaluation.file import check_evaluation
from kellet.gate import programme_file
from kellet.gate.programme import lord_level
from kellet.gate.programme_file import judge, read
from tests.helpers.evaluations import evaluation
from tests.helpers.project import ROOT

GATE = Gate(resamples=200, degeneration_tolerance=0.2)


def drawn(seed=0, prompts=110, gain=1.0, **settings):
    rows = evaluation(prompts, gain=gain, seed=seed, **settings)
    return check_evaluation(rows.assign(response=rows["response"] + f" ({seed})"))


def contents(folder):
    """Name -> bytes of every file but the lock."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state.json"


def test_each_candidate_is_a_look_at_the_level_that_is_left(state):
    first = judge(state, drawn(0), GATE, candidate="a")
    second = judge(state, drawn(1, gain=0.0), GATE, candidate="b")
    assert (first.verdict, second.verdict) == ("promote", "inconclusive")
    programme = read(state, 0.1)
    assert [past.look.level for past in programme.looks] == [
        lord_level(1, (), 0.1, 0.05),
        lord_level(2, (1,), 0.1, 0.05),
    ]
    assert second.programme["look"] == 2
    assert second.config.alpha == programme.looks[1].look.level  # that level was tested at
    assert second.programme["prompts"] == {"asked": 110, "decided_before": 110, "most_often": 1}


def test_the_level_of_the_look_decides():
    """A gain that is shown at level 0.05 is not shown at that of the tenth look of a programme without a promotion."""
    from kellet.gate.programme import Look
    from kellet.gate.verdict import decide

    rows = evaluation(64, gain=0.45, seed=2)
    level = lord_level(10, (), 0.1, 0.05)
    counts = {"spent": 0.04, "rate": 0.1, "promoted_before": 0, "judged_before": 0}
    look = Look(
        number=10, candidate="x", level=level, answers=128, prompts=64, decided_before=0, most_often=0, **counts
    )
    assert decide(rows, Gate()).verdict == "promote"
    late = decide(rows, Gate(), look=look)
    assert late.verdict == "inconclusive"
    gain = late.criterion("reward_gain").checks[0].estimate
    assert gain.low < decide(rows, Gate()).criterion("reward_gain").checks[0].estimate.low


def test_the_same_rows_are_the_same_look(state, tmp_path):
    first = judge(state, drawn(), GATE, candidate="a")
    judge(state, drawn(1), GATE, candidate="b")
    before = contents(tmp_path)
    again = judge(state, drawn().sample(frac=1, random_state=0), GATE)
    assert again.to_dict() == first.to_dict()
    assert contents(tmp_path) == before


def test_other_settings_or_another_card_are_another_look(state):
    judge(state, drawn(), GATE, candidate="a")
    judge(state, drawn(), GATE.model_copy(update={"kl_budget": 9.0}), candidate="a")
    card = {"lift": {"value": 0.1, "interval": [0.05, 0.2], "prompts": 100}}
    third = judge(state, drawn(), GATE, card, candidate="a")
    assert (third.programme["look"], third.programme["judged_before"]) == (3, 2)
    assert third.programme["answers"] == 220  # the same ones, once


def test_judging_again_adds_answers_and_never_draws_anew(state):
    """Nine bad samples and a lucky tenth: the tenth look sees all ten."""
    for seed in range(3):
        judge(state, drawn(seed, gain=-0.5), GATE, candidate="a")
    lucky = drawn(99, gain=1.0)
    last = judge(state, lucky, GATE, candidate="a")
    assert last.programme["answers"] == 4 * 220
    assert last.inputs["rows"] == 4 * len(lucky)
    assert last.inputs["prompts"] == 110
    gain = last.criterion("reward_gain").checks[0].estimate
    assert gain.value == pytest.approx((3 * -0.5 + 1.0) / 4, abs=0.15)
    assert gain.clusters == 110  # prompts, not answers, are what is independent
    other = judge(state, lucky.assign(reward=lucky["reward"] + 1), GATE, candidate="b")
    assert other.programme["answers"] == 220
    assert "judged for the 4th time on 880 answers" in last.programme["sentence"]


def test_the_same_answers_beside_other_reference_answers_are_no_more_answers(state):
    first, second = drawn(0, gain=0.0), drawn(1, gain=0.0)
    judge(state, first, GATE, candidate="a")
    mixed = pd.concat([first[first["system"] == "candidate"], second[second["system"] == "reference"]])
    again = judge(state, mixed, GATE, candidate="a")
    assert again.programme["answers"] == 220
    assert again.inputs["rows"] == 2 * len(first)


def test_without_a_name_every_file_is_a_candidate_of_its_own(state):
    names = [judge(state, drawn(seed), GATE).programme["candidate"] for seed in (0, 1)]
    assert len(set(names)) == 2
    assert judge(state, drawn(1), GATE).programme["judged_before"] == 0


def test_the_same_rows_under_another_name_are_refused(state, tmp_path):
    judge(state, drawn(), GATE, candidate="a")
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"as those of 'a' \(look 1 of .*--candidate says 'b'"):
        judge(state, drawn(), GATE, candidate="b")
    assert contents(tmp_path) == before


def test_after_a_promotion_the_earlier_champion_is_not_compared_with(state):
    judge(state, drawn(0, champion_gain=0.5, gain=0.0), GATE, candidate="a")
    judge(state, drawn(1, champion_gain=0.5, gain=0.0), GATE, candidate="a")
    both = judge(state, drawn(2, champion_gain=0.5, gain=0.0, prompts=40), GATE, candidate="a")
    assert both.comparison_with_anchor.not_behind.estimate.clusters == 110
    assert judge(state, drawn(3, gain=2.0, champion_gain=0.5), GATE, candidate="new").promote
    after = judge(state, drawn(4, champion_gain=2.0, gain=0.0, prompts=40), GATE, candidate="a")
    assert after.comparison_with_anchor.not_behind.estimate.clusters == 40  # only those with the champion of now
    assert after.criterion("reward_gain").checks[0].estimate.clusters == 110
    assert after.verdict == "block"
    promoted = judge(state, drawn(3, gain=2.0, champion_gain=0.5), GATE, candidate="new")
    assert promoted.comparison_with_champion is not None  # its own promotion does not change its look


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:-20], "is not a programme's state .*JSONDecodeError"),
        (lambda _: "[]", "is not a programme's state"),
        (lambda text: text.replace('"block"', '"promote"'), "was edited or damaged"),
        (lambda text: text.replace('"rate": 0.1', '"rate": 0.2'), "was edited or damaged"),
        (lambda text: text.replace('"looks"', '"look"'), "is not a programme's state .*ValidationError"),
        (lambda _: json.dumps({"looks": []}), "is not a programme's state .*KeyError: 'sha256'"),
    ],
)
def test_a_damaged_or_edited_state_is_refused_and_left_alone(state, tmp_path, damage, message):
    judge(state, drawn(gain=-2.0), GATE, candidate="a")
    state.write_text(damage(state.read_text()))
    before = contents(tmp_path)
    with pytest.raises(InputError, match=message) as told:
        judge(state, drawn(1), GATE, candidate="b")
    assert "put back a copy" in str(told.value)
    assert contents(tmp_path) == before


def test_a_state_of_another_rate_is_refused(state, tmp_path):
    judge(state, drawn(), GATE, candidate="a")
    before = contents(tmp_path)
    with pytest.raises(
        InputError, match=r"rate of 0.1, and gate.programme_level is 0.2; .*--set gate.programme_level=0.1"
    ):
        judge(state, drawn(1), GATE.model_copy(update={"programme_level": 0.2}))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("how", ["missing", "changed", "broken"])
def test_earlier_answers_that_are_gone_are_no_fresh_start(state, tmp_path, how):
    judge(state, drawn(gain=-1.0), GATE, candidate="a")
    file = tmp_path / "state.answers/1.parquet"
    if how == "missing":
        file.unlink()
    elif how == "broken":
        file.write_bytes(b"PAR1")
    else:
        pd.read_parquet(file).assign(reward=1.0).to_parquet(file)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"the answers that look 1 judged 'a' by.*put the file back"):
        judge(state, drawn(1), GATE, candidate="a")
    assert contents(tmp_path) == before
    assert judge(state, drawn(1), GATE, candidate="b").promote


def test_a_verdict_that_this_version_no_longer_gives_is_refused(state, monkeypatch):
    judge(state, drawn(gain=-1.0), GATE, candidate="a")
    original = programme_file.decide
    monkeypatch.setattr(programme_file, "decide", lambda _, *args, **more: original(drawn(gain=2.0), *args, **more))
    with pytest.raises(InputError, match="was block, and the same answers are promote"):
        judge(state, drawn(gain=-1.0), GATE)


def test_a_state_in_use_is_waited_for_and_then_refused(state, monkeypatch):
    monkeypatch.setattr(programme_file, "PATIENCE", 0.2)
    with FileLock(f"{state}.lock"), pytest.raises(InputError, match="in use by another kellet gate"):
        judge(state, drawn(), GATE)
    assert not state.exists()
    assert judge(state, drawn(), GATE).promote


def test_a_folder_that_cannot_be_written_is_said_before_judging(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write beside"):
        judge(tmp_path / "file" / "state.json", drawn(), GATE)


LOOKS = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.gate.test_programme_file import GATE, drawn
from kellet.gate.programme_file import judge
for seed in range({first}, 1000):
    judge(Path({state!r}), drawn(seed, prompts=12), GATE, candidate="c")
    print(seed, flush=True)
"""


def test_killed_at_any_moment_a_look_is_counted_whole_or_not_at_all(state):
    first = 0
    for wait in (0.0, 0.11):
        code = LOOKS.format(root=str(ROOT), first=first, state=str(state))
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            said = [int(process.stdout.readline()) for _ in range(2)]
            time.sleep(wait)
            os.kill(process.pid, signal.SIGKILL)
            said += [int(line) for line in process.stdout]
        looks = read(state, 0.1).looks
        assert [past.look.number for past in looks] == list(range(1, len(looks) + 1))
        assert len(looks) in (said[-1] + 1, said[-1] + 2)  # the last one may have been counted and not told
        again = judge(state, drawn(said[-1], prompts=12), GATE, candidate="c")
        assert again.programme["look"] == said[-1] + 1  # nothing was spent twice
        assert len(read(state, 0.1).looks) == len(looks)
        first = len(looks)
