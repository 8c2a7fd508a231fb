"""A batch joins the data, or data, git and remote stay exactly as they were; also after a kill at any moment."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from adapters.clone import StagedClone, is_ingested, stage_batch, take_over
from adapters.dvc import dvc, fetch_raw
from adapters.parameters import load, params_file
from kellet.config.run import Config
from kellet.data import new_batch
from kellet.data.new_batch import IncomingBatch
from kellet.errors import DataError, InputError
from tests.helpers import project
from tests.helpers.rows import row, write_jsonl

PROFILE = """name: mine
data:
  name: mine
  source: files
  files: [data/raw/mine]
  validation: {min_pairs: 20}
  split: {validation: 0.3, test: 0.3}
"""
ENTRY = "      mine: {params: profiles/mine.yaml, raw: data/raw/mine, prompts: data/raw/mine}\n"
PARAMS = "profiles/mine.yaml"


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout


def state(root: Path) -> dict[str, object]:
    """Everything that an ingestion may change: files of data and remote by content, git's branches and status."""
    places = [root / "data", root / ".dvc-remote"]
    files = {
        str(file): hashlib.sha256(file.read_bytes()).hexdigest()
        for place in places
        for file in place.rglob("*")
        if file.is_file()
    }
    lock = (root / "dvc.lock").read_bytes()
    return {"files": files, "lock": lock, "git": git(root, "status", "--porcelain") + git(root, "show-ref", "--head")}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a data set of 60 pairs, prepared, pushed and committed."""
    root = project.copy_project(tmp_path_factory.mktemp("ingest") / "kellet")
    (root / PARAMS).write_text(PROFILE)
    stages = (root / "dvc.yaml").read_text()
    (root / "dvc.yaml").write_text(stages.replace("      hh-banking: {params", ENTRY + "      hh-banking: {params", 1))
    (root / "data/raw/mine").mkdir()
    write_jsonl(root / "data/raw/mine/first.jsonl", [row(n) for n in range(60)])
    git(root, "config", "user.name", "test")
    git(root, "config", "user.email", "test@example.org")
    done = project.run(root, "repro", "prepare@mine", module="dvc")
    assert done.returncode == 0, done.stdout
    assert project.run(root, "push", "prepare@mine", module="dvc").returncode == 0
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "mine")
    return root


@pytest.fixture(autouse=True)
def in_the_project(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("PYTHONPATH", str(root))


def kill(process: subprocess.Popen[str], moment: str) -> None:
    """Kill -9 when it says ``moment``. Its output is not read to the end: Prefect's embedded server holds it open."""
    project.wait_for(process, moment)
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


def check_batch(file: Path, config: Config) -> IncomingBatch:
    return new_batch.check_batch(file, config.data, params_file(config.data.name))


def run(file: Path) -> StagedClone:
    """The flow without Prefect."""
    config = load(PARAMS)
    batch = check_batch(file, config)
    staged = stage_batch(batch, config)
    take_over(batch, staged, config, False)
    return staged


def test_a_bad_batch_changes_nothing(root: Path, tmp_path: Path) -> None:
    before = state(root)
    mostly_empty = write_jsonl(tmp_path / "bad.jsonl", [row(n, chosen="" if n % 2 else "x y") for n in range(100, 120)])
    with pytest.raises(DataError, match=r"quarantined_share.*10 of 20.*chosen is empty"):
        run(mostly_empty)
    (tmp_path / "none.jsonl").write_text("nonsense\n")
    with pytest.raises(DataError, match="none of its 1 rows"):
        run(tmp_path / "none.jsonl")
    assert state(root) == before


def test_a_batch_with_which_the_whole_set_fails_changes_nothing(root: Path, tmp_path: Path) -> None:
    """By itself every second row prefers the longer answer; the second batch contradicts the data there are."""
    before = state(root)
    swapped = [row(n, chosen=row(n)["rejected"], rejected=row(n)["chosen"]) for n in range(50)]
    with pytest.raises(DataError, match="expect_quarantined_share_at_most"):
        run(write_jsonl(tmp_path / "swapped.jsonl", swapped))
    assert state(root) == before


def test_uncommitted_changes_and_other_data_sets_are_refused(root: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "x.jsonl", [row(n) for n in range(100, 110)])
    with pytest.raises(InputError, match="takes no batches"):
        check_batch(file, load("profiles/smoke.yaml"))
    (root / "README.md").write_text("changed")
    with pytest.raises(InputError, match="uncommitted changes"):
        run(file)
    git(root, "checkout", "README.md")


def test_killed_before_the_push_nothing_is_changed(root: Path, tmp_path: Path) -> None:
    before = state(root)
    file = write_jsonl(tmp_path / "late.jsonl", [row(n) for n in range(300, 320)])
    process = project.start(root, str(file), "--params", PARAMS, module="flows.ingest")
    kill(process, "committed in the clone")
    assert state(root) == before


def test_a_good_batch_is_one_commit_with_its_data_in_place_and_in_the_remote(root: Path, tmp_path: Path) -> None:
    config = load(PARAMS)
    file = write_jsonl(tmp_path / "more.jsonl.gz", [row(n) for n in range(100, 140)])
    staged = run(file)
    batch = check_batch(file, config)
    assert git(root, "status", "--porcelain") == ""
    changed = set(git(root, "show", "--name-only", "--format=", "HEAD").split())
    assert changed == {"dvc.lock", f"{batch.target}.dvc", "data/raw/mine/.gitignore"}
    assert "40 pairs join 60" in git(root, "log", "-1", "--format=%B")
    assert staged.summary["accepted"] == 100
    assert (root / batch.target).read_bytes() == file.read_bytes()
    assert is_ingested(batch, config)
    # Another machine: nothing but the commit and the remote.
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(root), str(clone))
    (clone / ".dvc-remote").symlink_to(root / ".dvc-remote")
    fetch_raw(config, clone)
    assert (clone / batch.target).read_bytes() == file.read_bytes()
    dvc("pull", "--quiet", "prepare@mine", cwd=clone)
    same = "data/prepared/mine/preferences.parquet"
    assert (clone / same).read_bytes() == (root / same).read_bytes()


def test_killed_while_it_takes_over_the_same_command_completes_it(root: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "last.jsonl", [row(n) for n in range(400, 420)])
    process = project.start(root, str(file), "--params", PARAMS, module="flows.ingest")
    kill(process, "taking over")
    done = project.run(root, str(file), "--params", PARAMS, module="flows.ingest")
    assert done.returncode == 0, done.stdout
    assert "is part of the data set mine" in done.stdout
    assert git(root, "status", "--porcelain") == ""
    assert len(list((root / "data/raw/mine").glob("last-*.jsonl"))) == 1
    assert len(pd.read_parquet(root / "data/prepared/mine/preferences.parquet")) == 120


def test_history_tells_versions_and_models_and_a_models_data_come_back(root: Path, tmp_path: Path) -> None:
    done = project.run(root, "data", "history", "--params", PARAMS, "--json", module="kellet")
    assert done.returncode == 0, done.stdout
    newest, *_, oldest = json.loads(done.stdout)
    assert (newest["summary"]["accepted"], oldest["summary"]["accepted"]) == (120, 60)
    assert newest["models"] == oldest["models"] == []
    assert newest["md5"] in (root / "dvc.lock").read_text()
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    client.create_registered_model("mine")
    client.create_model_version("mine", str(tmp_path), tags={"data_md5": oldest["md5"], "verdict": "block"})
    before = state(root)
    shutil.rmtree(root / ".dvc/cache")  # the remote has them
    done = project.run(
        root, "data", "restore", "mine/1", "--params", PARAMS, "--out", str(tmp_path / "old"), module="kellet"
    )
    assert done.returncode == 0, done.stdout
    assert len(pd.read_parquet(tmp_path / "old/preferences.parquet")) == 60
    assert state(root) == before
    done = project.run(root, "data", "history", "--params", PARAMS, module="kellet")
    assert "mine/1 block" in done.stdout
    assert project.run(root, "data", "restore", "mine/2", module="kellet").returncode == 2
