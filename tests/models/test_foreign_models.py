"""Folders of models that are hostile, damaged or of another kind: their code never runs, and one line says why."""

import json
import shutil

import pytest
import torch

from kellet.config.training import Lora
from kellet.errors import ConfigError, DataError
from kellet.models.heads import load_head, save_head, scalar_head
from kellet.models.trunk import add_adapter, load_adapter, load_base, save_adapter
from tests.helpers import tiny

HOSTILE = """
import pathlib
pathlib.Path(__file__).with_name("ran").touch()
pathlib.Path({marker!r}).touch()
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
class Config(LlamaConfig):
    model_type = {kind!r}
class Model(LlamaForCausalLM):
    config_class = Config
class Tokenizer(PreTrainedTokenizerFast):
    pass
"""


@pytest.fixture
def folder(tmp_path):
    return tiny.foreign_base(tmp_path / "base")


def change(file, **values):
    settings = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(settings | values), encoding="utf-8")


def one_line(error):
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 600
    return text


@pytest.mark.parametrize("kind", ["llama", "unheard_of"])
def test_code_in_a_models_folder_never_runs_and_nobody_is_asked(folder, tmp_path, kind, monkeypatch):
    marker = tmp_path / "ran"
    (folder / "hostile.py").write_text(HOSTILE.format(marker=str(marker), kind=kind), encoding="utf-8")
    own = {"AutoConfig": "hostile.Config", "AutoModelForCausalLM": "hostile.Model"}
    change(folder / "config.json", model_type=kind, auto_map=own)
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["hostile.Tokenizer", None]})

    asked = []

    def yes(question=""):
        asked.append(question)
        return "y"

    monkeypatch.setattr("builtins.input", yes)
    if kind == "llama":  # transformers knows this kind and uses its own code
        load_base(folder)
    else:
        with pytest.raises(ConfigError, match="no causal LM at") as error:
            load_base(folder)
        one_line(error)
    assert asked == []
    assert not marker.exists()
    assert not (folder / "ran").exists()


def damage_weights(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:200])


def only_bin(folder):
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def nested_tokenizer(folder):
    (folder / "tokenizer.json").write_text("[" * 100_000, encoding="utf-8")


def other_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"version": "1.0"}', encoding="utf-8")


def no_json(folder):
    (folder / "config.json").write_text("{", encoding="utf-8")


def list_config(folder):
    (folder / "config.json").write_text("[]", encoding="utf-8")


@pytest.mark.parametrize("damage", [damage_weights, only_bin, nested_tokenizer, other_tokenizer, no_json, list_config])
def test_a_folder_that_cannot_be_loaded_is_named_in_one_line(folder, damage):
    damage(folder)
    with pytest.raises(ConfigError, match="no causal LM at") as error:
        load_base(folder)
    assert str(folder) in one_line(error)


def test_an_adapter_is_safetensors_and_of_this_base(tmp_path):
    model = add_adapter(tiny.base()[0], Lora(rank=2), 0)
    save_adapter(model, tmp_path / "fits")
    weights = tmp_path / "fits" / "adapter_model.safetensors"
    assert load_adapter(tiny.base()[0], tmp_path / "fits") is not None
    shutil.copytree(tmp_path / "fits", tmp_path / "bin")
    torch.save({}, tmp_path / "bin" / "adapter_model.bin")
    (tmp_path / "bin" / "adapter_model.safetensors").unlink()
    with pytest.raises(DataError, match=r"has no adapter_model\.safetensors") as error:
        load_adapter(tiny.base()[0], tmp_path / "bin")
    one_line(error)
    weights.write_bytes(weights.read_bytes()[:90])
    with pytest.raises(DataError, match="cannot be loaded onto this base") as error:
        load_adapter(tiny.base()[0], tmp_path / "fits")
    one_line(error)


def test_a_damaged_head_is_named(tmp_path):
    file = tmp_path / "head.safetensors"
    save_head(scalar_head(16, seed=3), file)
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(DataError, match="is damaged") as error:
        load_head(file)
    assert str(file) in one_line(error)
