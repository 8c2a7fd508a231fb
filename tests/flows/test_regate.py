"""People's verdicts reach the registry: killed on the way, repeated, refused where they do not belong."""

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
from mlflow import MlflowClient

from kellet.manifest import renew
from tests.helpers import project
from tests.helpers.evaluations import evaluation

REQUIRED = "gate.required=[reward_gain, length_inflation, controlled_gain, kl_budget, degeneration, independent_judge]"
JUDGED = (*project.SMOKE, "--set", REQUIRED, "--set", "evaluation.spot_checks=0")
MOMENTS = ("verdicts: computing", "report: computing", "is judged anew")
TRAINED = ("base_model", "reward_model", "policy", "evaluation")


class Killed(NamedTuple):
    root: Path
    output: str
    code: int


def registry(root):
    return MlflowClient(f"sqlite:///{root}/mlflow.db")


def aliases(root):
    found = registry(root).get_registered_model("kellet-smoke").aliases
    return {alias: int(number) for alias, number in found.items()}


def tags(root, number):
    return registry(root).get_model_version("kellet-smoke", str(number)).tags


def regate_runs(root):
    client = registry(root)
    experiment = client.get_experiment_by_name("kellet").experiment_id
    return client.search_runs([experiment], "tags.stage = 'regate'")


def ask(root, name, candidate_better, source="runs/smoke/evaluation.parquet"):
    """Sheet and key of an evaluation, filled in by a reviewer who prefers the candidate in this share of the rows."""
    sheet, key = root / f"{name}/{name}.csv", root / f"{name}/key.json"
    places = ("--pairs", "60", "--out", str(sheet), "--key", str(key))
    done = project.run(root, "spot-check", "export", source, *places, module="kellet")
    assert done.returncode == 0, done.stdout
    rows, sides = pd.read_csv(sheet), {item["item"]: item["candidate"] for item in json.loads(key.read_text())["items"]}
    candidate, other = rows["item"].map(sides), rows["item"].map(sides).map({"a": "b", "b": "a"})
    rows["better"] = candidate.where(rows.index < candidate_better * len(rows), other)
    rows.to_csv(sheet, index=False)
    return ("--verdicts", str(sheet), "--key", str(key))


@pytest.fixture(scope="module")
def waiting(smoke, tmp_path_factory):
    """A copy of the smoke project with a second version, which needs a judge; answers and card are an honest one's."""
    root = tmp_path_factory.mktemp("regate") / "kellet"
    shutil.copytree(smoke.kept, root)
    assert project.run(root, *JUDGED).returncode == 3
    honest = evaluation(200, gain=1.0)  # as many as a third look needs
    for place in (root / tags(root, 2)["report"], root / "runs/smoke"):
        honest.to_parquet(place / "evaluation.parquet", index=False)
        card = json.loads((place / "card.json").read_text())
        card["lift"] |= {"value": 0.1, "interval": [0.05, 0.15]}
        (place / "card.json").write_text(json.dumps(card))
        for name in ("evaluation.parquet", "card.json"):
            renew(place / name)
    return root


@pytest.fixture(scope="module")
def killed(waiting):
    """Judged by a reviewer who likes the candidate; killed at each moment, and then run to its end."""
    given = (*JUDGED, *ask(waiting, "anna", 0.8))
    for moment in MOMENTS:
        with project.start(waiting, *given, module="flows.regate") as process:
            project.wait_for(process, moment)
            process.kill()
    done = project.run(waiting, *given, module="flows.regate")
    return Killed(waiting, done.stdout, done.returncode)


def test_verdicts_on_other_answers_change_nothing(waiting):
    before = tags(waiting, 2)
    other = ask(waiting, "other", 1.0, source=tags(waiting, 1)["report"] + "/evaluation.parquet")
    refused = project.run(waiting, *JUDGED, *other, module="flows.regate")
    assert refused.returncode == 2
    assert "were drawn from another evaluation than that of kellet-smoke/2" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert tags(waiting, 2) == before
    assert regate_runs(waiting) == []


def test_the_registered_version_becomes_champion_with_the_verdict_of_people(killed):
    assert killed.code == 0, killed.output
    assert "smoke: PROMOTE" in killed.output
    assert aliases(killed.root) == {"champion": 2, "anchor": 2}
    version = tags(killed.root, 2)
    assert version["verdict"] == "promote"
    assert "independent_judge" not in version["reasons"]
    decision = json.loads((killed.root / "runs/smoke/gate.json").read_text())
    assert decision["verdict"] == "promote"
    assert decision["config"]["judge"] == "judge_human"
    assert decision["inputs"]["retraining_key"] == version["retraining_key"]
    assert (killed.root / version["report"] / "report.html").read_bytes() == (
        killed.root / "runs/smoke/report.html"
    ).read_bytes()
    rows = pd.read_parquet(killed.root / "runs/smoke/evaluation.parquet")
    assert rows["judge_human"].notna().sum() == 120
    looks = [(item["past"]["look"]["number"], item["past"]["verdict"]) for item in json.loads(version["looks"])]
    assert looks == [(2, "inconclusive"), (3, "promote")]  # one more, however often it was killed
    assert decision["programme"]["sentence"].startswith("Look 3 of this programme, level 0.0038 ")
    assert decision["programme"]["sentence"] in killed.output
    assert len(registry(killed.root).search_model_versions("name = 'kellet-smoke'")) == 2


def test_its_runs_are_linked_to_the_retraining_and_keep_the_verdicts(killed):
    runs = regate_runs(killed.root)
    judged = tags(killed.root, 2)
    assert {run.info.status for run in runs} <= {"FINISHED", "KILLED"}
    (run,) = [run for run in runs if run.info.run_id == judged["regate_run"]]
    version = registry(killed.root).get_model_version("kellet-smoke", "2")
    assert run.data.tags["mlflow.parentRunId"] == version.run_id
    assert run.data.tags["regates"] == "kellet-smoke/2"
    assert run.data.tags["verdict"] == "promote"
    assert {run.data.tags["verdict_before"] for run in runs if run.info.status == "KILLED"} == {"inconclusive"}
    kept = {file.path for file in registry(killed.root).list_artifacts(run.info.run_id)}
    assert {"evaluation.parquet", "gate.json", "diagnosis.json", "report.html", "params.yaml"} <= kept


def test_nothing_half_written_is_left(killed):
    names = [path for folder in ("artifacts", "runs") for path in (killed.root / folder).rglob(".*")]
    assert names == []


def test_the_same_verdicts_again_change_nothing(killed):
    before = project.files_of(killed.root, "artifacts")
    runs = len(regate_runs(killed.root))
    given = ("--verdicts", str(killed.root / "anna/anna.csv"), "--key", str(killed.root / "anna/key.json"))
    again = project.run(killed.root, *JUDGED, *given, module="flows.regate")
    assert again.returncode == 0
    assert "unchanged since this verdict was reached" in again.stdout
    assert project.files_of(killed.root, "artifacts") == before
    assert len(regate_runs(killed.root)) == runs
    retrained = project.run(killed.root, *JUDGED)  # its verdict is that of people now
    assert retrained.returncode == 0
    assert "smoke: PROMOTE (unchanged" in retrained.stdout


def test_a_comparison_with_another_champion_is_refused_and_what_is_advised_works(killed):
    """Version 1 was compared with no champion; now there is one, on the same base model."""
    root, before = killed.root, tags(killed.root, 1)
    given = ask(root, "late", 0.0, source=before["report"] + "/evaluation.parquet")
    stale = project.run(root, *project.SMOKE, *given, module="flows.regate")
    assert stale.returncode == 2
    assert "kellet-smoke/1 was compared with champion none, and the champion is 2 now" in stale.stdout
    assert "--set gate.seed=1" in stale.stdout
    assert tags(root, 1) == before

    fresh = project.run(root, *project.SMOKE, "--set", "gate.seed=1")
    assert fresh.returncode == 3
    assert not any(f"{stage}: computing" in fresh.stdout for stage in TRAINED[:3])
    assert tags(root, 3)["compared_with"] == "2"
    old, new = (pd.read_parquet(root / tags(root, number)["report"] / "evaluation.parquet") for number in (1, 3))
    responses = [table[table["system"] == "candidate"]["response"].tolist() for table in (old, new)]
    assert set(responses[0]) < set(responses[1])  # and those that the same policy was judged by as version 2
    looks = json.loads(tags(root, 3)["looks"])
    assert (looks[0]["past"]["look"]["number"], looks[0]["past"]["look"]["judged_before"]) == (4, 3)
    given = ask(root, "strict", 0.0)
    blocked = project.run(root, *project.SMOKE, "--set", "gate.seed=1", *given, module="flows.regate")
    assert blocked.returncode == 3, blocked.stdout
    assert not any(f"{stage}: computing" in blocked.stdout for stage in TRAINED)
    assert "smoke: BLOCK" in blocked.stdout
    assert tags(root, 3)["verdict"] == "block"
    assert "independent_judge" in tags(root, 3)["reasons"]
    assert aliases(root) == {"champion": 2, "anchor": 2}


def test_a_rollback_needs_a_version_that_passed(killed):
    """After the tests above: version 2 is champion, version 3 is blocked."""
    root = killed.root
    given = (*project.SMOKE, "--reason", "complaints about refunds")
    refused = project.run(root, *given, "--to", "3", module="flows.rollback")
    assert refused.returncode == 2
    assert "error: the gate said block of kellet-smoke/3" in refused.stdout
    assert aliases(root) == {"champion": 2, "anchor": 2}
    done = project.run(root, *given, "--to", "3", "--force", module="flows.rollback")
    assert done.returncode == 0
    assert "kellet-smoke/3 is champion in place of version 2: complaints about refunds" in done.stdout
    assert aliases(root) == {"champion": 3, "anchor": 3}
    assert tags(root, 2)["rolled_back"].endswith("to version 3: complaints about refunds")
