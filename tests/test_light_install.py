"""`pip install kellet` is enough to judge files: the same answers without what trains, tracks and draws Data Docs."""

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from kellet import extras
from kellet.errors import MissingExtra
from tests.helpers import judging
from tests.helpers.judge_server import JudgeServer, biased
from tests.helpers.judged_pairs import rows_of
from tests.helpers.light import NAME, canonical, hidden
from tests.helpers.project import ROOT
from tests.helpers.rows import row, write_jsonl
from tests.test_imports import imported

PINS = {"fastapi"}
"""Packages of the extra flows that only Prefect imports."""
LIGHT = ROOT / "tests/helpers/light.py"
REPORT = "runs/run/report.html"
VARYING = {
    REPORT: rb'<tr><th scope="row">(peft|tokenizers|torch|transformers)</th><td>.*</td></tr>\n',
    "runs/watched/alarms.jsonl": rb'"time": "[^"]*"',
}
TRAINING = ("train-base", "train-reward", "train-policy", "evaluate", "export", "estimate", "chat", "serve")


def files(folder: Path) -> dict[str, bytes]:
    """Path -> content, without times; of the report without the versions of packages, which the light install lacks."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name, varying in VARYING.items():
        found[name] = re.sub(varying, b"", found[name])
    return found


@pytest.fixture(scope="module", autouse=True)
def hide() -> Iterator[None]:
    """Look once for what is to be hidden: it takes a second or two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HIDDEN", ",".join(sorted(hidden())))
        yield


def light(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(LIGHT), *arguments], cwd=cwd, capture_output=True, text=True)


def test_what_judges_files_answers_the_same_without_the_extras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit codes, what is printed and every file that is written, byte for byte."""
    whole, lean = tmp_path / "whole", tmp_path / "light"
    for folder in (whole, lean):
        judging.write_files(folder)
    done = light("tests.helpers.judging", str(lean), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(whole)
    answers = judging.work()
    assert {verb: tuple(answer) for verb, answer in json.loads(done.stdout).items()} == answers
    for code, verbs in judging.WORK.items():
        assert {" ".join(verb): answers[" ".join(verb)][0] for verb in verbs} == {
            " ".join(verb): code for verb in verbs
        }
    assert [answers[" ".join(verb)][0] for verb in judging.PAGES] == [0, 0]
    assert files(whole) == files(lean)
    assert b"torch" not in (lean / REPORT).read_bytes()
    assert {"compare.html", "state.json", "world.jsonl"} <= set(files(lean))


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


def test_kellet_imports_nothing_that_neither_the_package_nor_an_extra_brings() -> None:
    """What a library brings by chance, for itself, is not ours to import; markupsafe is half of jinja2."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    brought = {canonical(NAME.match(line)[0]) for line in project["dependencies"]}
    ours = {{"pyyaml": "yaml"}.get(name, name) for name in brought} | {
        "markupsafe",
        "kellet",
        *extras.EXTRAS["train"],
        *extras.LEDGER,
    }
    used = {
        name.partition(".")[0] for file in (ROOT / "kellet").rglob("*.py") for name in imported(file.read_text())
    } - sys.stdlib_module_names
    assert used == ours


def test_every_file_that_is_no_module_comes_with_the_package() -> None:
    """Templates and tables, which the wheel has by pattern."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["kellet"]
    beside = {
        str(file.relative_to(ROOT / "kellet"))
        for file in (ROOT / "kellet").rglob("*")
        if file.is_file() and file.suffix != ".py" and "__pycache__" not in file.parts
    }
    assert beside
    assert [name for name in sorted(beside) if not any(fnmatch(name, pattern) for pattern in patterns)] == []


def test_a_model_judges_without_the_extras(tmp_path: Path) -> None:
    """Over the network, with what comes with Python."""
    rows_of([(3, 1, 2)]).to_parquet(tmp_path / "e.parquet")
    with JudgeServer(biased()) as server:
        done = light("kellet", "judge", "e.parquet", "--endpoint", server.endpoint, "--model", "m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 pairs have a verdict in both orders" in done.stdout
