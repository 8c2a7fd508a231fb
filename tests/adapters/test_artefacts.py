"""An artefact's key changes with everything that decides it, and with nothing else."""

import json
import shutil

import pytest

import kellet
from adapters import artefacts
from adapters.artefacts import Artefact, code_version, folder, make, sources
from kellet.config.run import Config
from tests.helpers.project import ROOT

BASE = Artefact(stage="base_model", path="artifacts/base_model/x", hash="b")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of two rooms: one.train imports two.train and two's public name, two.alone is alone."""
    files = {
        "__init__.py": "",
        "errors.py": "",
        "one/__init__.py": "",
        "one/train.py": "from kellet.two.train import f\nfrom kellet.two import g\n",
        "two/__init__.py": "def __getattr__(name):\n    from kellet.two.face import g\n    return g\n",
        "two/train.py": "from kellet import errors\ndef f():\n    from kellet.two import lazy\nNAME = 'table.yaml'\n",
        "two/lazy.py": "",
        "two/face.py": "import kellet.two.plain\n",
        "two/plain.py": "",
        "two/alone.py": "",
        "two/table.yaml": "x: 1",
        "two/other.yaml": "x: 1",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(kellet, "__file__", str(tmp_path / "__init__.py"))
    code_version.cache_clear()
    yield tmp_path
    code_version.cache_clear()


def versions():
    code_version.cache_clear()
    return code_version("one.train"), code_version("two.alone")


def test_sources_follow_imports_lazy_ones_too_and_leave_neutral_modules_out(package):
    assert {str(file.relative_to(package)) for file in sources("one.train")} == {
        "one/train.py",
        "two/train.py",
        "two/lazy.py",
        "two/__init__.py",
        "two/face.py",
        "two/plain.py",
    }


@pytest.mark.parametrize(
    "name", ["one/train.py", "two/train.py", "two/lazy.py", "two/face.py", "two/plain.py", "two/table.yaml"]
)
def test_code_version_changes_with_what_the_module_imports_or_reads(package, name):
    train, alone = versions()
    (package / name).write_text((package / name).read_text() + "\n")
    assert versions()[0] != train
    assert versions()[1] == alone


@pytest.mark.parametrize("name", ["errors.py", "two/other.yaml", "two/alone.py", "one/__init__.py"])
def test_code_version_ignores_the_rest(package, name):
    train, _ = versions()
    (package / name).write_text("# changed")
    assert versions()[0] == train


def test_two_files_that_change_places_are_another_version(package):
    """Keyed by the bare name, one/train.py and two/train.py would hide each other."""
    train, _ = versions()
    one, two = package / "one/train.py", package / "two/train.py"
    first, second = one.read_text(), two.read_text()
    one.write_text(second + "from kellet.two import train\n")
    two.write_text(first)
    assert versions()[0] != train


# A file of each room, and the stages that it decides: by what each stage is said to do, not by the code that is tested.
USED_BY = {
    "stats/bootstrap.py": {"reward_model", "judge", "evaluation", "gate", "diagnosis", "report"},
    "data/conversation.py": {
        *("base_model", "reward_model", "policy", "judge", "evaluation", "rescoring"),  # render prompts for the model
        *("diagnosis", "report", "verdicts"),  # read or show prompts as text
        *("answers", "gate"),  # read evaluations, whose answers may be messages
    },
    "models/sampling.py": {"policy", "evaluation"},
    "models/base_model.py": {"base_model"},
    "models/trunk.py": {"reward_model", "policy", "judge", "evaluation", "rescoring"},
    "reward/train.py": {"reward_model", "judge", "evaluation"},
    "reward/model.py": {"reward_model", "policy", "judge", "evaluation", "rescoring"},
    "policy/train.py": {"policy"},
    "evaluation/evaluate.py": {"evaluation"},
    "evaluation/file.py": {"gate", "diagnosis", "report", "evaluation", "verdicts", "answers"},
    "evaluation/joined.py": {"answers"},
    "gate/verdict.py": {"gate"},
    "diagnosis/diagnose.py": {"diagnosis"},
    "remedies/measure.py": set(),
    "report/page.py": {"report"},
    "cli/gate.py": set(),
    "config/run.py": set(),
}


@pytest.mark.parametrize("name", USED_BY)
def test_a_changed_file_changes_the_key_of_the_stages_that_import_it_and_of_no_other(tmp_path, monkeypatch, name):
    package = tmp_path / "kellet"
    shutil.copytree(ROOT / "kellet", package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(kellet, "__file__", str(package / "__init__.py"))

    def keys():
        code_version.cache_clear()
        return {stage: folder(stage, Config(), {}) for stage in artefacts.MODULES}

    before = keys()
    (package / name).write_text((package / name).read_text() + "# changed\n")
    after = keys()
    code_version.cache_clear()
    assert {stage for stage in before if before[stage] != after[stage]} == USED_BY[name]


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
