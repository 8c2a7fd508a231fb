"""An artefact's key changes with everything that decides it, and with nothing else."""

import json

import pytest

import kellet
from adapters import artefacts
from adapters.artefacts import Artefact, code_version, folder, make, sources
from kellet.config.run import Config

BASE = Artefact(stage="base_model", path="artifacts/base_model/x", hash="b")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of three modules: a imports b, c is alone, b reads table.yaml."""
    (tmp_path / "a.py").write_text("from kellet.b import f\n")
    (tmp_path / "b.py").write_text("from kellet import errors\nNAME = 'table.yaml'\n")
    (tmp_path / "c.py").write_text("")
    (tmp_path / "errors.py").write_text("")
    (tmp_path / "table.yaml").write_text("x: 1")
    (tmp_path / "other.yaml").write_text("x: 1")
    (tmp_path / "__init__.py").write_text("")
    monkeypatch.setattr(kellet, "__file__", str(tmp_path / "__init__.py"))
    code_version.cache_clear()
    yield tmp_path
    code_version.cache_clear()


def versions(package):
    code_version.cache_clear()
    return code_version("a"), code_version("c")


def test_sources_follow_imports_and_leave_neutral_modules_out(package):
    assert {file.name for file in sources("a")} == {"a.py", "b.py"}


@pytest.mark.parametrize("name", ["a.py", "b.py", "table.yaml"])
def test_code_version_changes_with_what_the_module_imports_or_reads(package, name):
    a, c = versions(package)
    (package / name).write_text((package / name).read_text() + "\n")
    assert versions(package)[0] != a
    assert versions(package)[1] == c


@pytest.mark.parametrize("name", ["errors.py", "other.yaml", "c.py"])
def test_code_version_ignores_the_rest(package, name):
    a, _ = versions(package)
    (package / name).write_text("# changed")
    assert versions(package)[0] == a


def test_a_key_changes_with_inputs_and_with_the_parameters_that_its_stage_reads():
    config = Config()
    key = folder("reward_model", config, {"base": BASE})
    other_policy = config.model_copy(update={"policy": config.policy.model_copy(update={"iterations": 7})})
    other_seed = config.model_copy(update={"seed": 1})
    assert folder("reward_model", other_policy, {"base": BASE}) == key
    assert folder("reward_model", other_seed, {"base": BASE}) != key
    assert folder("reward_model", config, {"base": BASE.model_copy(update={"hash": "c"})}) != key
    assert folder("reward_model", config, {"base": BASE.model_copy(update={"path": "elsewhere"})}) == key


def test_carrying_on_without_lift_keeps_the_reward_model():
    carry_on = Config.model_validate({"reward_model": {"require_lift": False}})
    other = Config.model_validate({"reward_model": {"epochs": 9}})
    assert folder("reward_model", carry_on, {}) == folder("reward_model", Config(), {})
    assert folder("reward_model", other, {}) != folder("reward_model", Config(), {})


def test_every_stage_starts_in_a_module_that_exists():
    for module in artefacts.MODULES.values():
        assert sources(module), module


def test_make_writes_once_and_hashes_what_does_not_tell_the_time(tmp_path):
    calls = []

    def write(out):
        calls.append(out)
        out.mkdir()
        (out / "weights").write_text("w")
        (out / "history.jsonl").write_text(f"{len(calls)}")
        modules = ["q_proj", "v_proj"][:: 1 if len(calls) == 1 else -1]
        (out / "adapter_config.json").write_text(json.dumps({"r": 4, "target_modules": modules}))

    first = make(tmp_path / "policy", write)
    (tmp_path / "policy" / artefacts.CACHE_RECORD).write_text("{}")
    again = make(tmp_path / "policy", write)
    other = make(tmp_path / "policy2", write)
    assert len(calls) == 2
    assert first.hash == again.hash == other.hash
    (tmp_path / "policy2/weights").write_text("v")
    assert make(tmp_path / "policy2", write).hash != first.hash
