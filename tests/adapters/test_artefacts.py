"""An artefact's key changes with everything that decides it, and with nothing else."""

import base64
import json
import os
import pickle
import shutil
import subprocess
import sys

import pytest

import kellet
from adapters import artefacts
from adapters.artefacts import Artefact, code_version, folder, make, sources
from kellet.config.run import Config
from kellet.errors import DataError
from kellet.files import content_hash
from kellet.manifest import write_manifest
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


def write(out, modules=("q_proj", "v_proj"), history="1"):
    """What a stage writes: weights, a history that tells the time, a set in any order, and their manifest."""
    (out / "adapter").mkdir(parents=True)
    (out / "adapter/weights").write_text("weights")
    (out / "history.jsonl").write_text(history)
    (out / "adapter_config.json").write_text(json.dumps({"r": 4, "target_modules": modules}))
    write_manifest(out, "policy")


@pytest.fixture
def stages(tmp_path, monkeypatch):
    """artifacts/ in a folder of the test's own."""
    monkeypatch.setattr(artefacts, "ARTIFACTS", tmp_path / "artifacts")
    monkeypatch.setattr(artefacts, "LOCKS", tmp_path / "locks")
    return tmp_path / "artifacts"


def refuse(_):
    raise AssertionError("computed again")


def test_make_writes_once_and_hashes_what_does_not_tell_the_time(stages):
    first = make(stages / "policy/a", write)
    assert make(stages / "policy/a", refuse) == first
    assert first.cpu_seconds is not None
    other = make(stages / "policy/b", lambda out: write(out, ("v_proj", "q_proj"), "2"))
    assert first.hash == other.hash

    def differently(out):
        write(out)
        (out / "adapter/weights").write_text("others")
        write_manifest(out, "policy")

    assert make(stages / "policy/c", differently).hash != first.hash


def test_what_a_kill_left_without_a_record_is_used(stages):
    first = make(stages / "policy/a", write)
    (stages / "policy/a" / artefacts.RECORD).unlink()
    again = make(stages / "policy/a", refuse)
    assert (again.hash, again.cpu_seconds) == (first.hash, None)
    assert make(stages / "policy/a", refuse) == again


def test_a_project_that_was_moved_keeps_its_artefacts(stages, tmp_path):
    first = make(stages / "policy/a", write)
    stages.rename(tmp_path / "moved")
    assert make(tmp_path / "moved/policy/a", refuse) == first.model_copy(update={"path": tmp_path / "moved/policy/a"})


@pytest.mark.parametrize("name", ["adapter/weights", "history.jsonl", "adapter_config.json"])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_byte_changed_anywhere_is_named_and_never_used(stages, name, how):
    first = make(stages / "policy/a", write)
    file = stages / "policy/a" / name
    file.unlink() if how == "gone" else file.write_bytes(file.read_bytes()[:-1] + b" ")
    for use in (lambda: make(stages / "policy/a", write), lambda: artefacts.verify(first)):
        with pytest.raises(DataError) as error:
            use()
        message = str(error.value)
        assert f"policy/a is not what was written: {name} changed or missing" in message
        assert "delete " in message
        assert message.endswith("policy/a, and the stage is computed again")
        assert "\n" not in message


def test_a_manifest_made_anew_does_not_hide_it(stages):
    first = make(stages / "policy/a", write)
    (stages / "policy/a/adapter/weights").write_text("others")
    write_manifest(stages / "policy/a", "policy")
    with pytest.raises(DataError, match=r"have the hash .*, and artefact\.json says .*computed again"):
        make(stages / "policy/a", write)
    (stages / "policy/a" / artefacts.RECORD).unlink()
    write_manifest(stages / "policy/a", "policy")
    with pytest.raises(DataError, match="was changed while this ran"):
        artefacts.verify(first)


def test_the_record_cannot_be_changed_alone(stages):
    make(stages / "policy/a", write)
    record = stages / "policy/a" / artefacts.RECORD
    kept = json.loads(record.read_text())
    record.write_text(json.dumps(kept | {"hash": "0" * 64}))
    with pytest.raises(DataError, match=r"and artefact\.json says 000000000000"):
        make(stages / "policy/a", write)


class Bomb:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def prefect_record(serializer, result):
    return json.dumps({"metadata": {"serializer": serializer, "storage_key": "x"}, "result": result}).encode()


@pytest.mark.parametrize("name", [artefacts.RECORD, "prefect.json"])
@pytest.mark.parametrize("kind", ["pickle", "base64", "json", "nothing"])
def test_no_record_runs_code(stages, tmp_path, name, kind):
    """Whatever stands there is read as our own JSON, or not at all."""
    marker = tmp_path / "ran"
    pickled = pickle.dumps(Bomb(marker))
    call = json.dumps({"__exc_type__": "os.system", "message": f"touch {marker}"})
    content = {
        "pickle": pickled,
        "base64": prefect_record({"type": "pickle", "picklelib": "cloudpickle"}, base64.b64encode(pickled).decode()),
        "json": prefect_record({"type": "json", "object_decoder": "os.system"}, call),
        "nothing": b"",
    }[kind]
    make(stages / "policy/a", write)
    (stages / "policy/a" / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}.*; (or )?delete .*computed again"):
        make(stages / "policy/a", write)
    assert not marker.exists()


def test_an_artefact_without_a_manifest_is_refused(stages):
    make(stages / "policy/a", write)
    (stages / "policy/a/manifest.json").unlink()
    with pytest.raises(DataError, match=r"has no manifest\.json, so its files cannot be checked"):
        make(stages / "policy/a", write)


def test_a_base_that_is_given_is_verified_as_a_whole(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    given = Artefact(stage="base_model", path=tmp_path, hash=content_hash(tmp_path))
    artefacts.verify(given)
    (tmp_path / "config.json").write_text("{ }")
    with pytest.raises(DataError, match="was changed while this ran"):
        artefacts.verify(given)


def test_prefect_writes_no_pickles_and_caches_no_stage():
    """Its records say by themselves how they are to be read."""
    script = (
        "import adapters, tasks.stages, tasks.remedies, prefect\n"
        "from prefect.results import get_default_result_serializer\n"
        "found = [t for m in (tasks.stages, tasks.remedies) for t in vars(m).values() if isinstance(t, prefect.Task)]\n"
        "assert len(found) > 10\n"
        "print(get_default_result_serializer().type, [t.name for t in found if t.persist_result or t.cache_key_fn])"
    )
    for cwd in (ROOT, ROOT.parent):  # a worker may start elsewhere
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", script], cwd=cwd, env=environment, capture_output=True, text=True)
        assert done.stdout == "json []\n", done.stderr
