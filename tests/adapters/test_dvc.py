"""Failures of DVC reach the user as what they are, and its stages depend on all code that makes the data."""

import pytest
import yaml
from filelock import FileLock

from adapters.artefacts import sources
from adapters.dvc import DvcBusyError, _failure, dvc
from kellet.errors import DataError, KelletError
from tests.helpers.project import ROOT, copy_project

STAGE_2 = ["> python -m kellet prepare", "error: 3 columns", "ERROR: failed to reproduce 'x': exited with 2"]
STAGE_1 = ["error: out of memory", "ERROR: failed to reproduce 'x': exited with 1"]


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (STAGE_2, DataError, "3 columns"),
        (STAGE_1, KelletError, "out of memory"),
        (["ERROR: '/x/data' is busy, it is being blocked by:"], DvcBusyError, "another DVC command"),
        (["ERROR: Unable to acquire lock."], DvcBusyError, "another DVC command"),
    ],
)
def test_failures_of_dvc_keep_their_kind_and_message(output, error, message):
    raised = _failure(("repro",), output)
    assert type(raised) is error
    assert message in str(raised)


@pytest.mark.parametrize(("stage", "module"), [("prepare", "data.prepare"), ("synthesise", "data.world")])
def test_a_stage_reruns_when_any_code_that_makes_the_data_changes(stage, module):
    dependencies = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["do"]["deps"]
    covered = {ROOT / path for path in dependencies}
    files = sources(module)
    assert ROOT / f"kellet/{module.replace('.', '/')}.py" in files
    assert [file for file in files if not covered & {file, *file.parents}] == []


def test_busy_is_tried_again(monkeypatch, tmp_path):
    root = copy_project(tmp_path / "kellet")
    monkeypatch.chdir(root)
    (root / ".dvc/tmp").mkdir()
    with FileLock(root / ".dvc/tmp/lock"), pytest.raises(DvcBusyError):
        dvc("repro", "prepare@smoke")
