"""Checkpoints: what goes in comes out to the bit, half of one is none, and that of another training is refused."""

import json
import math
import os
import signal
import subprocess
import sys

import pytest
import torch

from kellet import files
from kellet.errors import DataError, InputError, KelletError
from kellet.interrupt import held_back
from kellet.models.checkpoint import Checkpoints, differences, optimizer_tensors, origin_of, restore_optimizer

ORIGIN = {"parameters": {"seed": 0, "policy": {"learning_rate": 0.001}}, "content": {"data": "abc"}}
TENSORS = {"w": torch.tensor([[0.1, -1e-30], [3.0, 7.0]]), "rng": torch.get_rng_state(), "step": torch.tensor(3.0)}


@pytest.fixture
def kept(tmp_path):
    return Checkpoints(tmp_path / "policy", ORIGIN)


def test_what_goes_in_comes_out_to_the_bit(kept):
    state = {"kl_coef": 0.1 + 0.2, "none": None, "history": [{"a": 1e-17}], "nan": math.nan}
    kept.save(5, TENSORS, state)
    result = kept.newest()
    assert result.step == 5
    assert result.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(result.tensors[name], TENSORS[name]) for name in TENSORS)
    assert math.isnan(result.state.pop("nan"))
    assert result.state == {name: value for name, value in state.items() if name != "nan"}


def test_weights_that_are_not_finite_are_not_written(kept):
    kept.save(1, TENSORS, {})
    for value in (math.nan, math.inf):
        with pytest.raises(KelletError, match="checkpoint of step 2 was not written: w holds"):
            kept.save(2, TENSORS | {"w": torch.tensor([1.0, value])}, {})
    assert kept.newest().step == 1
    assert [path.name for path in kept.folder.iterdir()] == ["00000001"]


def test_a_checkpoint_that_an_older_version_poisoned_is_passed_over(kept, monkeypatch):
    kept.save(1, TENSORS, {})
    with monkeypatch.context() as patched:
        patched.setattr("kellet.models.checkpoint.require_finite_weights", lambda *_: None)
        kept.save(2, TENSORS | {"w": torch.tensor([math.nan])}, {})
    assert kept.newest().step == 1


def test_the_newest_two_are_kept_beside_the_output(kept, tmp_path):
    for step in (1, 2, 10, 9999, 123456):
        kept.save(step, TENSORS, {"step": step})
    assert sorted(path.name for path in (tmp_path / "policy.checkpoints").iterdir()) == ["00009999", "00123456"]
    assert kept.newest().state == {"step": 123456}
    kept.remove()
    assert list(tmp_path.iterdir()) == []
    assert kept.newest() is None


def test_a_write_that_was_cut_leaves_the_one_before(kept, monkeypatch):
    kept.save(1, TENSORS, {"step": 1})

    def cut(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(files, "_flush", cut)
        with pytest.raises(KeyboardInterrupt):
            kept.save(2, TENSORS, {"step": 2})
    assert kept.newest().step == 1


def test_what_a_kill_in_a_write_left_is_no_checkpoint_and_is_swept_away(kept):
    kept.save(1, TENSORS, {})
    half = kept.folder / ".00000002.x7"
    half.mkdir()
    (half / "tensors.safetensors").write_bytes(b"half")
    assert kept.newest().step == 1
    kept.save(3, TENSORS, {})
    assert not half.exists()


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
def test_a_damaged_one_falls_back_on_the_one_before(kept, name):
    for step in (1, 2):
        kept.save(step, TENSORS, {})
    file = kept.folder / "00000002" / name
    content = bytearray(file.read_bytes())
    content[-3] ^= 255
    file.write_bytes(content)
    assert kept.newest().step == 1
    file.unlink()
    assert kept.newest().step == 1
    (kept.folder / "00000001" / name).unlink()
    with pytest.raises(DataError, match="delete the folder"):
        kept.newest()


def test_an_edited_state_is_passed_over_and_named(kept, caplog):
    for step in (1, 2):
        kept.save(step, TENSORS, {"controller": {"value": 1.0}})
    file = kept.folder / "00000002" / "state.json"
    file.write_text(file.read_text().replace('"value": 1.0', '"value": 9.0'))
    assert kept.newest().step == 1
    assert "00000002 cannot be read and is passed over: state.json is not what was written" in caplog.text


@pytest.mark.parametrize(
    "name", ["reward_model.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"]
)
def test_a_model_is_also_its_tokenizer_template_and_settings(tmp_path, name):
    (tmp_path / name).write_text("one")
    one = origin_of({}, base=tmp_path)
    (tmp_path / name).write_text("two")
    (text,) = differences(one, origin_of({}, base=tmp_path))
    assert text.startswith(f"content.base.{name}: checkpoint")


def test_a_change_of_the_code_is_another_training(tmp_path, monkeypatch):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "update.py").write_text("a = 1")
    monkeypatch.setattr("kellet.__file__", str(tmp_path / "__init__.py"))
    one = origin_of({})
    (tmp_path / "policy" / "update.py").write_text("a = 2")
    (text,) = differences(one, origin_of({}))
    assert text.startswith("version.code: checkpoint")


def test_another_training_is_refused_with_the_difference_named(kept, tmp_path):
    kept.save(1, TENSORS, {})
    other = json.loads(json.dumps(ORIGIN))
    other["parameters"]["policy"]["learning_rate"] = 0.01
    with pytest.raises(InputError, match=r"policy\.learning_rate: checkpoint 0\.001, now 0\.01\. Go on with"):
        Checkpoints(tmp_path / "policy", other).newest()
    other = {**ORIGIN, "content": {"data": "def"}}
    with pytest.raises(InputError, match=r'content\.data: checkpoint "abc", now "def"'):
        Checkpoints(tmp_path / "policy", other).newest()
    assert kept.newest().step == 1


def test_an_origin_is_parameters_contents_and_versions(tmp_path):
    (tmp_path / "data").write_text("one")
    one = origin_of({"seed": 0}, data=tmp_path / "data", base="owner/model")
    assert list(differences(one, origin_of({"seed": 0}, data=tmp_path / "data", base="owner/model"))) == []
    (tmp_path / "data").write_text("two")
    two = origin_of({"seed": 1}, data=tmp_path / "data", base="owner/model")
    assert [text.split(":")[0] for text in differences(one, two)] == ["content.data", "seed"]
    assert one["version"]["torch"] == torch.__version__.split("+")[0] or one["version"]["torch"] == torch.__version__


def test_of_a_models_folder_only_the_model_counts(tmp_path):
    for name in ("model.safetensors", "config.json", "history.jsonl", "artefact.json"):
        (tmp_path / name).write_text("one")
    one = origin_of({}, base=tmp_path)
    (tmp_path / "history.jsonl").write_text("two")
    (tmp_path / "artefact.json").unlink()
    assert origin_of({}, base=tmp_path) == one
    (tmp_path / "model.safetensors").write_text("two")
    (text,) = differences(one, origin_of({}, base=tmp_path))
    assert text.startswith("content.base.model.safetensors: checkpoint")


def test_a_key_that_only_one_of_them_has_is_a_difference():
    assert list(differences({"a": 1}, {"b": {"c": 2}})) == [
        "a: checkpoint 1, now null",
        'b: checkpoint null, now {"c": 2}',
    ]


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_an_optimizer_goes_on_to_the_bit(kept, kind):
    def steps(weight, optimizer, numbers):
        for number in numbers:
            optimizer.zero_grad()
            ((weight - number) ** 3).sum().backward()
            optimizer.step()

    whole, part = (torch.nn.Parameter(torch.arange(4.0)) for _ in range(2))
    straight, first = kind([whole], lr=0.1), kind([part], lr=0.1)
    steps(whole, straight, range(6))
    steps(part, first, range(3))
    kept.save(3, {"weight": part, **optimizer_tensors(first)}, {})
    saved = kept.newest().tensors
    resumed = torch.nn.Parameter(saved["weight"])
    second = kind([resumed], lr=0.1)
    restore_optimizer(second, saved)
    steps(resumed, second, range(3, 6))
    assert torch.equal(resumed, whole)


def test_a_signal_is_held_back_until_the_end_and_then_delivered():
    finished = False
    with pytest.raises(KeyboardInterrupt), held_back() as asked:  # noqa: PT012
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        finished = True
    assert finished
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_signal_acts_at_once():
    with pytest.raises(KeyboardInterrupt), held_back():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("unreachable")


def test_a_signal_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held_back() as asked:
            os.kill(os.getpid(), signal.SIGINT)
            assert not asked()
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_process_that_gets_a_signal_saves_and_ends_by_it():
    code = (
        "import os, signal\n"
        "from kellet.interrupt import held_back\n"
        "with held_back() as asked:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    print('saved', asked(), flush=True)\n"
        "print('unreachable')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("saved True\n", -signal.SIGTERM)
