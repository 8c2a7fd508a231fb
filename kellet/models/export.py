"""Merge a policy's adapter into its base: a plain transformers folder, for serving without peft or Kellet."""

from pathlib import Path
from typing import Any

import torch

from kellet.errors import DataError, KelletError
from kellet.files import atomic_folder
from kellet.manifest import check_manifest, write_manifest
from kellet.models.architecture import text_config
from kellet.models.trunk import load_adapter, load_base

TOLERANCE = 1e-4
"""The largest accepted difference of a logit before and after merging, relative to the largest logit (or 1)."""
CHECKED_TOKENS = 32


def export(base: Path | str, adapter: Path, out: Path, temperature: float = 1.0) -> float:
    """Write base + adapter to ``out``; return the largest difference of a logit between the two, on random tokens.

    ``adapter`` is a policy folder (with adapter/) or an adapter folder itself. The weights become W + (alpha/rank)·BA.
    ``temperature`` is the policy's: the generation config of ``out`` samples at it, from the whole distribution.
    Raises DataError when there is no adapter, KelletError when the merged model does not give the same logits.
    """
    place = adapter / "adapter" if (adapter / "adapter").is_dir() else adapter
    if not (place / "adapter_config.json").is_file():
        raise DataError(f"{adapter} holds no adapter_config.json; give a folder that 'kellet train-policy' wrote")
    check_manifest(place.parent, base=base)
    model, tokenizer = load_base(base)
    model = load_adapter(model, place)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, text_config(model).vocab_size, (4, CHECKED_TOKENS), generator=generator)
    before = _logits(model, tokens)
    merged = model.merge_and_unload()
    difference = float((_logits(merged, tokens) - before).abs().max())
    if not difference <= TOLERANCE * max(1.0, float(before.abs().max())):
        raise KelletError(f"merging {place} into {base} moved a logit by {difference:.1e}; nothing was written")
    generation = merged.generation_config
    generation.update(do_sample=True, temperature=temperature, top_k=0, top_p=1.0)
    with atomic_folder(out) as folder:
        merged.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_manifest(folder, "base_model", base=base, policy=place)
    return difference


@torch.no_grad()
def _logits(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = model(input_ids=tokens, use_cache=False).logits
    return logits
