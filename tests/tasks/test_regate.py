"""Which verdicts of people a registered candidate takes, and which it must not lose."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from adapters.candidate import FILES, Candidate
from kellet.config.run import Config
from kellet.errors import DataError, InputError
from kellet.evaluation import spot_check
from kellet.evaluation.file import read_evaluation
from kellet.evaluation.verdicts import Verdicts
from tasks.regate import take_verdicts
from tests.helpers.evaluations import evaluation

CONFIG = Config(name="mine")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to work in, with a report of an evaluation that nobody has judged."""
    monkeypatch.chdir(tmp_path)
    return report(tmp_path / "report", evaluation(30))


def report(folder, rows, judge="judge_human"):
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text("{}")
    (folder / "gate.json").write_text(json.dumps({"verdict": "inconclusive", "config": {"judge": judge}}))
    rows.to_parquet(folder / "evaluation.parquet", index=False)
    return folder


def judged_rows():
    """The evaluation of the report, ten prompts of which people have judged."""
    rows = evaluation(30)
    asked = (rows["prompt_id"] < "p000010") & (rows["sample"] == 0)
    return rows.assign(judge_human=asked.where(asked).astype(float))


def candidate(*reports):
    return Candidate(SimpleNamespace(name="m", version="1", tags={"report": str(reports[0])}), reports)


def sheet(folder, name, better, pairs=10, seed=0):
    """A filled sheet of the report in ``folder``; ``better``: candidate or other, in every row."""
    rows = read_evaluation(folder / "evaluation.parquet")
    drawn, key = spot_check.draw(rows, "reference", pairs, seed)
    sides = {entry["item"]: entry["candidate"] for entry in key["items"]}
    candidates = drawn["item"].map(sides)
    drawn["better"] = candidates if better == "candidate" else candidates.map({"a": "b", "b": "a"})
    spot_check.write(drawn, key, folder.parent / f"{name}.csv", folder.parent / f"{name}.json")
    return Verdicts(sheets=(f"{name}.csv",), key=f"{name}.json")


def test_verdicts_reach_the_answers_and_are_recognised_the_second_time(project):
    anna = sheet(project, "anna", "candidate")
    judged = take_verdicts.fn(CONFIG, candidate(project), anna)
    rows = pd.read_parquet(judged.path / "evaluation.parquet")
    assert rows.groupby("system")["judge_human"].agg(["count", "sum"]).to_dict("index") == {
        "candidate": {"count": 10, "sum": 10.0},
        "reference": {"count": 10, "sum": 0.0},
    }
    after = report(project.parent / "after", rows)
    assert take_verdicts.fn(CONFIG, candidate(after, project), anna) is None
    again = take_verdicts.fn(CONFIG, candidate(project), anna)  # its report is gone: the same is made of the one before
    assert again.path == judged.path


def test_the_report_of_another_judge_is_not_theirs_although_the_verdicts_are_in_it(project):
    rows = judged_rows()
    rows.to_parquet("judged.parquet")
    given = Verdicts(evaluation="judged.parquet")
    assert take_verdicts.fn(CONFIG, candidate(report(project.parent / "people", rows)), given) is None
    other = report(project.parent / "model", rows, judge="judge_reward")
    assert take_verdicts.fn(CONFIG, candidate(other), given) is not None


def test_a_second_sheet_adds_and_a_reviewer_more_changes_what_was_said(project):
    anna = sheet(project, "anna", "candidate")
    first = take_verdicts.fn(CONFIG, candidate(project), anna)
    after = report(project.parent / "after", pd.read_parquet(first.path / "evaluation.parquet"))
    second = take_verdicts.fn(CONFIG, candidate(after, project), sheet(after, "second", "other", pairs=5, seed=1))
    rows = pd.read_parquet(second.path / "evaluation.parquet")
    mine = rows[rows["system"] == "candidate"]["judge_human"]
    assert (mine.count(), mine.sum()) == (15, 10.0)
    ben = sheet(project, "ben", "other")
    both = take_verdicts.fn(
        CONFIG, candidate(after, project), Verdicts(sheets=(*anna.sheets, *ben.sheets), key="ben.json")
    )
    scores = pd.read_parquet(both.path / "evaluation.parquet")["judge_human"].dropna()
    assert scores.tolist() == [0.5] * 20


def test_verdicts_that_were_counted_are_not_lost(project):
    ten, other = sheet(project, "ten", "candidate"), sheet(project, "other", "candidate", pairs=4, seed=5)
    judged = take_verdicts.fn(CONFIG, candidate(project), ten)
    after = report(project.parent / "after", pd.read_parquet(judged.path / "evaluation.parquet"))
    with pytest.raises(InputError, match=r"m/1 was judged by verdicts on \d+ more answers than these; draw the next"):
        take_verdicts.fn(CONFIG, candidate(after, project), other)


def test_sheets_and_evaluations_of_other_answers_are_refused(project):
    elsewhere = report(project.parent / "elsewhere", evaluation(30, seed=1))
    with pytest.raises(DataError, match=r"sheets of x.json were drawn from another evaluation than that of m/1"):
        take_verdicts.fn(CONFIG, candidate(project), sheet(elsewhere, "x", "candidate"))
    rows = judged_rows()
    rows.to_parquet("same.parquet")
    assert take_verdicts.fn(CONFIG, candidate(project), Verdicts(evaluation="same.parquet")) is not None
    rows.loc[3, "reward"] += 1e-9
    rows.to_parquet("changed.parquet")
    with pytest.raises(DataError, match=r"changed.parquet is not the evaluation of m/1"):
        take_verdicts.fn(CONFIG, candidate(project), Verdicts(evaluation="changed.parquet"))


def test_an_evaluation_is_looked_for_where_spot_check_import_leaves_it(project):
    with pytest.raises(InputError, match=r"spot_checks/mine.parquet does not exist"):
        take_verdicts.fn(CONFIG, candidate(project), Verdicts())
    (project.parent / "spot_checks").mkdir()
    evaluation(30).to_csv("empty.csv", index=False)
    with pytest.raises(InputError, match="judge_human is empty in every row"):
        take_verdicts.fn(CONFIG, candidate(project), Verdicts(evaluation="empty.csv"))
    with pytest.raises(InputError, match=r"nobody.csv does not exist"):
        take_verdicts.fn(CONFIG, candidate(project), Verdicts(sheets=("nobody.csv",)))
    judged_rows().to_csv("spot_checks/mine.csv", index=False)
    taken = take_verdicts.fn(CONFIG, candidate(project), Verdicts(evaluation="spot_checks/mine.csv"))
    judged_rows().to_parquet("spot_checks/mine.parquet")
    assert take_verdicts.fn(CONFIG, candidate(project), Verdicts()).path == taken.path
    assert read_evaluation(taken.path / "evaluation.parquet")["judge_human"].notna().sum() == 20
