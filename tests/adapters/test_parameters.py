"""Data settings belong to DVC: the command line may not change them."""

import pytest

from adapters.parameters import load
from kellet.errors import ConfigError
from tests.helpers.project import ROOT


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
