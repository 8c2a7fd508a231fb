"""A trained folder knows what it was made of: beside another base, or with a byte changed, it is refused by name."""

import json
import shutil

import pandas as pd
import pytest

from kellet.config.training import Lora
from kellet.errors import DataError
from kellet.evaluation.evaluate import Models, evaluate
from kellet.manifest import check_manifest, write_manifest
from kellet.models.export import export
from kellet.models.sampling import load_policy
from kellet.models.trunk import add_adapter, save_adapter
from kellet.policy.train import train_policy
from kellet.reward.rescore import rescore
from kellet.reward.train import train_reward
from tests.helpers import tiny


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A reward model and a policy, as training writes them, on the tiny base."""
    root = tmp_path_factory.mktemp("trained")
    config = tiny.config(policy={"iterations": 1})
    preferences, base = tiny.folder() / "preferences.parquet", tiny.folder() / "base"
    train_reward(config, preferences, base, root / "reward_model")
    train_policy(config, preferences, base, root / "reward_model", root / "policy")
    return root


@pytest.fixture(params=["tokenizer_config.json", "model.safetensors", "chat_template.jinja"])
def other(request, tmp_path):
    """The same base with one file changed in one place, or one more."""
    folder = tmp_path / "other"
    shutil.copytree(tiny.folder() / "base", folder)
    file = folder / request.param
    if file.suffix == ".json":
        file.write_text(json.dumps(json.loads(file.read_text()) | {"padding_side": "left"}))
    elif file.suffix == ".jinja":
        file.write_text("{{ messages[0].content }}")
    else:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    return folder, request.param


def test_what_was_trained_passes_beside_its_own(trained):
    check_manifest(trained / "reward_model", base=tiny.folder() / "base")
    check_manifest(trained / "policy", base=tiny.folder() / "base", reward_model=trained / "reward_model")


def test_beside_another_base_everything_that_reads_it_refuses(trained, other, tmp_path):
    base, changed = other
    preferences, config = tiny.folder() / "preferences.parquet", tiny.config()
    models = Models(base, trained / "reward_model", trained / "policy")
    answers = tmp_path / "answers.parquet"
    pd.DataFrame({"prompt": ["a"], "response": ["b"]}).to_parquet(answers)
    readers = [
        lambda: train_policy(config, preferences, base, trained / "reward_model", tmp_path / "out"),
        lambda: evaluate(config, preferences, models, tmp_path / "out"),
        lambda: rescore(config, base, trained / "reward_model", {"one": answers}, tmp_path / "out"),
        lambda: load_policy(base, trained / "policy" / "adapter"),
        lambda: export(base, trained / "policy", tmp_path / "out"),
    ]
    for read in readers:
        with pytest.raises(DataError, match=rf"was made of another base than .*differ in {changed}"):
            read()
    assert not (tmp_path / "out").exists()


def test_a_policy_is_not_evaluated_by_another_reward_model(trained, tmp_path):
    shutil.copytree(trained / "reward_model", tmp_path / "reward_model")
    train_reward(tiny.config(seed=5), tiny.folder() / "preferences.parquet", tiny.folder() / "base", tmp_path / "other")
    models = Models(tiny.folder() / "base", tmp_path / "other", trained / "policy")
    with pytest.raises(DataError, match="policy was made of another reward model than"):
        evaluate(tiny.config(), tiny.folder() / "preferences.parquet", models, tmp_path / "out")
    check_manifest(trained / "policy", reward_model=tmp_path / "reward_model")  # a copy elsewhere is the same


def test_a_byte_changed_anywhere_is_named(trained, tmp_path):
    manifest = json.loads((trained / "policy" / "manifest.json").read_text())
    assert {"adapter/adapter_model.safetensors", "value_head.safetensors", "history.jsonl"} <= set(manifest["files"])
    for name in manifest["files"]:
        shutil.copytree(trained / "policy", tmp_path / "policy")
        content = bytearray((tmp_path / "policy" / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "policy" / name).write_bytes(content)
        with pytest.raises(DataError, match=f"is not what was written: {name} changed or missing"):
            check_manifest(tmp_path / "policy")
        (tmp_path / "policy" / name).unlink()
        with pytest.raises(DataError, match=f"is not what was written: {name} changed or missing"):
            check_manifest(tmp_path / "policy")
        shutil.rmtree(tmp_path / "policy")


def test_what_comes_from_elsewhere_is_said_to_be_unchecked(tmp_path, caplog):
    save_adapter(add_adapter(tiny.base()[0], Lora(rank=2), 0), tmp_path / "policy" / "adapter")
    check_manifest(tmp_path / "policy", base=tiny.folder() / "base")
    assert "has no manifest.json: that it belongs to this base cannot be checked" in caplog.text


def test_a_hub_name_is_compared_with_a_hub_name_alone(tmp_path, caplog):
    (tmp_path / "a").write_text("1")
    write_manifest(tmp_path, "policy", base="owner/model")
    check_manifest(tmp_path, base="owner/model")
    assert caplog.text == ""
    check_manifest(tmp_path, base=tiny.folder() / "base")
    assert "cannot be checked" in caplog.text
    with pytest.raises(DataError, match="was made of another base than owner/other: they differ in name"):
        check_manifest(tmp_path, base="owner/other")


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 3, "made_of": {}}', '{"files": {}}'])
def test_a_damaged_manifest_is_named(tmp_path, text):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        check_manifest(tmp_path)
