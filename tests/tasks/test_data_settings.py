"""Data settings belong to DVC, and what a stage of DVC says reaches the user."""

import pytest

from kellet.errors import ConfigError, DataError, KelletError
from tasks import data
from tasks.config import load
from tests.helpers.project import ROOT, copy_project


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_a_data_setting_of_the_command_line_is_refused_with_the_file_to_edit():
    with pytest.raises(ConfigError, match=r"data\.world\.length_bias is 0.*edit data\.world\.length_bias in .*smoke"):
        load("profiles/smoke.yaml", ("data.world.length_bias=0",))


def test_a_data_set_that_dvc_does_not_know_is_refused():
    with pytest.raises(
        ConfigError, match=r"'mine' is none of dvc.yaml's data sets \(support, smoke, hh-rlhf, hh-banking\)"
    ):
        load("profiles/smoke.yaml", ("data.name=mine",))


def test_other_settings_pass():
    assert load("profiles/smoke.yaml", ("policy.kl.target=2.5",)).policy.kl.target == 2.5


def test_outside_the_project_root_the_command_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="run retrainings from the project root"):
        load("params.yaml")


STAGE_2 = ["> python -m kellet prepare", "error: 3 columns", "ERROR: failed to reproduce 'x': exited with 2"]
STAGE_1 = ["error: out of memory", "ERROR: failed to reproduce 'x': exited with 1"]


@pytest.mark.parametrize(
    ("output", "error", "message"),
    [
        (STAGE_2, DataError, "3 columns"),
        (STAGE_1, KelletError, "out of memory"),
        (["ERROR: '/x/data' is busy, it is being blocked by:"], data.DvcBusyError, "another DVC command"),
        (["ERROR: Unable to acquire lock."], data.DvcBusyError, "another DVC command"),
    ],
)
def test_failures_of_dvc_keep_their_kind_and_message(output, error, message):
    raised = data._failure(("repro",), output)
    assert type(raised) is error
    assert message in str(raised)


def test_a_stage_reruns_when_any_code_that_makes_the_data_changes():
    import yaml

    from adapters.artefacts import sources

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for stage, module in (("prepare", "prepare"), ("synthesise", "world")):
        needed = {f"kellet/{file.name}" for file in sources(module)}
        assert needed <= set(stages[stage]["do"]["deps"])


def test_busy_is_tried_again(monkeypatch, tmp_path):
    root = copy_project(tmp_path / "kellet")
    monkeypatch.chdir(root)
    (root / ".dvc/tmp").mkdir()
    from filelock import FileLock

    with FileLock(root / ".dvc/tmp/lock"), pytest.raises(data.DvcBusyError):
        data.dvc("repro", "prepare@smoke")
