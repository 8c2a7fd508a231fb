"""A tiny base model, trained for a second, and a table of pairs that it and its adapters can learn."""

import functools
import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kellet.config.data import World
from kellet.config.run import Config
from kellet.data.world import sample_prompts
from kellet.models.base_model import train_base
from kellet.models.trunk import (
    POLICY,
    load_base,
)

SETTINGS: dict[str, Any] = {
    "name": "tiny",
    "text": {"max_prompt_tokens": 24, "max_response_tokens": 10},
    "base_model": {
        "vocab_size": 330,
        "layers": 2,
        "width": 16,
        "heads": 2,
        "steps": 150,
        "batch_size": 16,
        "learning_rate": 2e-2,
    },
    "reward_model": {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2, "lora": {"rank": 4}},
    "policy": {"iterations": 2, "batch_size": 16, "minibatch_size": 8, "learning_rate": 3e-3, "lora": {"rank": 2}},
    "evaluation": {"prompts": 12, "samples": 2, "spot_checks": 5, "batch_size": 8},
}
WORDS = {"chosen": ("yes", "yes! yes"), "rejected": ("no", "no! no")}


def config(**sections: Any) -> Config:
    """The tiny settings with sections replaced key by key."""
    merged = {**SETTINGS}
    for name, value in sections.items():
        merged[name] = {**merged.get(name, {}), **value} if isinstance(value, dict) else value
    return Config.model_validate(merged)


def pairs(prompts: int = 128) -> pd.DataFrame:
    """Pairs in which ``yes`` is preferred to ``no``, whichever is longer; half of them are for training."""
    messages = sample_prompts(World(prompts=prompts), np.random.default_rng(0))
    rows = []
    for number, prompt in enumerate(messages):
        rows.append(
            {
                "pair_id": hashlib.sha256(prompt.encode()).hexdigest()[:16],
                "prompt": prompt,
                "chosen": WORDS["chosen"][number % 2],
                "rejected": WORDS["rejected"][number // 2 % 2],
                "source": "tiny",
                "split": ("train", "train", "validation", "test")[number // 4 % 4],
            }
        )
    return pd.DataFrame(rows)


@functools.cache
def folder() -> Path:
    """Holds preferences.parquet and base/, made once in a run of the tests."""
    made = Path(tempfile.mkdtemp(prefix="kellet-tiny-"))
    pairs().to_parquet(made / "preferences.parquet", index=False)
    train_base(config(), made / "preferences.parquet", made / "base")
    return made


def foreign_base(out: Path) -> Path:
    """A copy of base/ as ``out``, as one from elsewhere: without a manifest, so that it may be changed."""
    return Path(shutil.copytree(folder() / "base", out, ignore=shutil.ignore_patterns("manifest.json")))


def base() -> tuple[Any, Any]:
    """A fresh (model, tokenizer)."""
    return load_base(folder() / "base")


QUERIES, RESPONSES = [[1, 40, 41, 42], [1, 50], [1, 60, 61]], [[70, 71, 2], [72, 2], [73, 74, 75, 76, 77]]


def perturb(model, name=POLICY, seed=0):
    """Make the adapter something else than the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, weight in model.named_parameters():
            if "lora_" in path and f".{name}." in path:
                weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return model
