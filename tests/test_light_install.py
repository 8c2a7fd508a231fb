"""`pip install kellet` is enough to judge files: the same answers without what trains, tracks and draws Data Docs."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from kellet import extras
from kellet.errors import MissingExtra
from tests.helpers.evaluations import evaluation
from tests.helpers.foreign_logs import write_logs
from tests.helpers.light import NAME, canonical, hidden
from tests.helpers.project import ROOT
from tests.helpers.rows import row, write_jsonl

PINS = {"fastapi", "sqlalchemy"}
"""Packages of the extra flows that only Prefect imports."""
LIGHT = ROOT / "tests/helpers/light.py"
SMALL = ("--set", "data.validation.min_pairs=10", "--set", "data.split={validation: 0.3, test: 0.3}")
WORK = (
    ("validate", "pairs.jsonl", *SMALL),
    ("validate", "pairs.jsonl", "--json", *SMALL),
    ("validate", "damaged.jsonl", *SMALL),
    ("import-logs", "trainer_state.json", "--out", "runs/theirs"),
    ("gate", "judged.csv"),
    ("gate", "runs/run/evaluation.parquet", "--out", "runs/run/gate.json"),
    ("gate", "judged.csv", "--programme", "state.json", "--json"),
    ("gate-power", "--prompts", "64", "--replicates", "3", "--population", "null"),
    ("diagnose", "judged.csv", "--history", "runs/theirs/history.jsonl", "--out", "runs/run/diagnosis.json"),
    ("spot-check", "export", "judged.csv", "--pairs", "5"),
    ("spot-check", "import", "anna.csv"),
    ("report", "--run", "runs/run"),
    ("compare", "runs/run", "runs/run"),
    ("synthesise", "--set", "data.world.pairs=20", "--out", "world.jsonl"),
)
TRAINING = ("train-base", "train-reward", "train-policy", "evaluate", "export", "estimate", "chat")


def project(folder: Path) -> Path:
    """Files from elsewhere, and no parameter file."""
    (folder / "runs/run").mkdir(parents=True)
    write_jsonl(folder / "pairs.jsonl", [row(n) for n in range(40)])
    write_jsonl(folder / "damaged.jsonl", [row(n, chosen="caf\ufffd" if n % 2 else "  ") for n in range(40)])
    write_logs(folder)
    answers = evaluation(64, 1)
    answers.to_csv(folder / "judged.csv", index=False)
    answers.to_parquet(folder / "runs/run/evaluation.parquet", index=False)
    return folder


def work(folder: Path, *program: str) -> list[tuple[int, str]]:
    """What each verb answers in the folder."""
    answers = []
    for verb in WORK:
        if verb[:2] == ("spot-check", "import"):
            sheet = pd.read_csv(folder / "spot_checks/default/comparisons.csv", dtype=str)
            sheet.assign(better=["a", "b", "tie", "a", "b"]).to_csv(folder / "anna.csv", index=False)
        if verb[0] == "synthesise":
            (folder / "params.yaml").write_text("{}\n")
        done = subprocess.run([sys.executable, *program, *verb], cwd=folder, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        answers.append((done.returncode, done.stdout))
    return answers


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module", autouse=True)
def hide() -> Iterator[None]:
    """Look once for what is to be hidden: it takes a second or two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIDDEN", ",".join(sorted(hidden())))
        yield


def light(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(LIGHT), *arguments], cwd=cwd, capture_output=True, text=True)


def test_what_judges_files_answers_the_same_without_the_extras(tmp_path: Path) -> None:
    """Exit codes, what is printed and every file that is written, byte for byte."""
    here, there = (project(tmp_path / name) for name in ("whole", "light"))
    whole, plain = work(here, "-m", "kellet"), work(there, str(LIGHT), "kellet")
    assert whole == plain
    assert [code for code, _ in plain] == [0, 0, 2, 0, 3, 3, 3, 0, 0, 0, 0, 0, 0, 0]
    assert json.loads(plain[1][1])["usable"] is True
    assert files(here) == files(there)
    assert {"runs/run/report.html", "compare.html", "state.json", "world.jsonl"} <= set(files(there))


def test_what_is_hidden_is_what_the_extras_bring() -> None:
    """The test above hides as much as it says."""
    names = hidden()
    assert {name for packages in extras.EXTRAS.values() for name in packages} <= names
    assert not {"numpy", "pandas", "scipy", "pyarrow", "pydantic", "yaml", "click", "jinja2", "kellet"} & names


@pytest.mark.parametrize("verb", TRAINING)
def test_a_verb_that_trains_names_the_extra_before_anything_else(verb: str, tmp_path: Path) -> None:
    """There is no params.yaml either, which is asked for next."""
    done = light("kellet", verb, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: kellet {verb} needs torch: pip install 'kellet[train]'\n"
    assert light("kellet", verb, "--help", cwd=tmp_path).returncode == 0


def test_what_draws_data_docs_names_the_extra(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "pairs.jsonl", [row(0)])
    for what, verb in (("prepare", ["prepare"]), ("validate --docs", ["validate", "pairs.jsonl", "--docs", "docs"])):
        done = light("kellet", *verb, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error: kellet {what} needs great_expectations: pip install 'kellet[train]'\n"
    assert not (tmp_path / "docs").exists()


def test_what_tracks_and_schedules_names_the_extra() -> None:
    """In the project's root, where these are run."""
    for flow in ("retrain", "regate", "remedies", "rollback", "ingest", "demo"):
        done = light(f"flows.{flow}", "--help", cwd=ROOT)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "error: python -m flows needs prefect: pip install 'kellet[train,flows]'\n"
    done = light("kellet", "data", "history", cwd=ROOT)
    assert (done.returncode, done.stderr) == (
        2,
        "error: kellet data history needs mlflow: pip install 'kellet[flows]'\n",
    )


def test_a_package_that_is_there_and_cannot_be_imported_is_an_error_with_its_traceback(tmp_path: Path) -> None:
    for name in extras.TRAINING:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('libcudart.so.12: cannot open')\n")
    script = "from kellet.cli.main import main; main(['train-policy'])"
    (tmp_path / "params.yaml").write_text("{}\n")
    (tmp_path / "data/prepared/support").mkdir(parents=True)
    (tmp_path / "data/prepared/support/preferences.parquet").touch()
    for folder in ("base", "reward_model"):
        (tmp_path / "runs/default" / folder).mkdir(parents=True)
    path = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "ImportError: libcudart.so.12: cannot open" in done.stderr
    assert "pip install" not in done.stderr


def test_require_names_every_extra_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"torch", "mlflow"}
    monkeypatch.setattr(extras, "find_spec", lambda name: name if name in there else None)
    extras.require("kellet x", "torch", "mlflow")
    with pytest.raises(MissingExtra) as error:
        extras.require("kellet x", "torch", "peft", "prefect")
    assert str(error.value) == "kellet x needs peft: pip install 'kellet[train,flows]'"
    assert error.value.exit_code == 2


def test_the_extras_are_those_of_the_package() -> None:
    given = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {extra: {canonical(NAME.match(line)[0]) for line in given[extra]} for extra in extras.EXTRAS}
    ours = {extra: {canonical(name) for name in names} for extra, names in extras.EXTRAS.items()}
    assert ours == {"train": named["train"], "flows": named["flows"] - PINS}
