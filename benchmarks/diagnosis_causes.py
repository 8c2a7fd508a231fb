"""The causes that benchmarks/diagnosis_world.py plants, one at a time, and the labels and settings that plant them.

CAUSES says, for each, which hypotheses must be supported (``names``) and which must not (``absent``).
"""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from kellet.config.run import Config
from kellet.data.prepare import split_of
from kellet.data.world import gold, synthesise
from kellet.diagnosis.reward_hypotheses import word_counts
from kellet.stats.bootstrap import Floats
from kellet.stats.style import style

SETTINGS: dict[str, Any] = {
    "data": {"world": {"prompts": 1200}},
    "text": {"max_response_tokens": 80},
    "base_model": {"steps": 320, "heads": 8},
    "reward_model": {"length_control": "none"},
    "policy": {
        "iterations": 32,
        "batch_size": 48,
        "minibatch_size": 24,
        "epochs": 1,
        "learning_rate": 1.5e-3,
        "lam": 1.0,
    },
    "evaluation": {"prompts": 128, "batch_size": 256},
    "gate": {"kl_budget": 4.0},
}
"""What differs from the defaults (kellet/config/) in every run."""
HELD = {"controller": "fixed", "init_coef": 0.3}
"""A penalty that keeps KL within the budget of 4 nats (half of the default's, as the training is so short), so that no
drift is left to explain. An adaptive controller would not: in the first ten of the few iterations KL is near 0, and it
lowers β too far."""
STEERED = {"controller": "adaptive", "init_coef": 0.1, "target": 3.0, "horizon": 100.0}
FEW = 40
"""Pairs of the reward model that has too few ..."""
FEW_EPOCHS = 40
"""... and passes over them, enough to memorise them."""
SHARED_SEED = 100
"""Seed of the world, the base model and the reward models that all runs share."""
COURTESY_TASTE = 3.0
"""Logits that labels add for one courtesy more. The preference for length that this implies is subtracted: a courtesy
has 14 words, so labels that like courtesy would like length too, and so would the reward model."""
DRIFT, HELD_BACK = ("A1", "A2", "A4", "A5", "C4", "C5"), ("B2", "C1", "C2", "C3", "C4", "C5")


@dataclass(frozen=True)
class Cause:
    """One way in which a retraining goes wrong."""

    what: str
    names: tuple[tuple[str, ...], ...]
    """Hypotheses that must be supported: one of each group."""
    absent: tuple[str, ...]
    """Hypotheses that are false by the way the run was made."""
    labels: str = "honest"
    controller: dict[str, Any] = field(default_factory=lambda: HELD)
    scale: float = 1.0
    """Factor of the reward."""
    per_token: bool = False
    """The controller gets the KL per token times the first batch's mean length, not the KL per response."""
    temperature: float = 1.0
    """Of the sampling in training."""


CAUSES = {
    "labels": Cause("labels like length (λ = 1)", (("A1",), ("A2",)), ("A5", *HELD_BACK), "length"),
    "few": Cause(f"honest labels, {FEW} pairs", (("A3",),), ("A1", "C1", "C4", "C5"), "few"),
    "beta": Cause("β too small", (("C1",),), DRIFT, controller={"controller": "fixed", "init_coef": 0.005}),
    "courtesy": Cause("labels like courtesy, not length", (("A5",),), ("A1", "A2", "A4", *HELD_BACK), "courtesy"),
    "scale": Cause(
        "reward scale doubled", (("C1", "C2"),), DRIFT, controller={"controller": "fixed", "init_coef": 0.05}, scale=2.0
    ),
    "horizon": Cause(
        "controller's horizon 100 times as long, β from 0.005",
        (("C4",),),
        ("A1", "A2", "A4", "A5", "C5"),
        controller=STEERED | {"init_coef": 0.005, "horizon": 30_000.0},
    ),
    "per_token": Cause(
        "target per token, answers that grow",
        (("C2",),),
        ("A5", "C5"),
        "length",
        controller=STEERED | {"init_coef": 0.3},
        per_token=True,
    ),
    "sampling": Cause(
        "sampled at temperature 0.6", (("C5",),), ("A1", "A2", "A4", "A5", "C1", "C2", "C4"), temperature=0.6
    ),
    "none": Cause("nothing", (), ("A1", "A2", "A3", "A4", "A5", *HELD_BACK)),
}
"""In the order in which they are run. C1 or C2 may name the doubled reward: at a fixed β it is the same objective as
half of β for the old reward, and which of the two is called wrong is a matter of taste."""


def configured(cause: Cause, seed: int) -> Config:
    """The parameters of a run."""
    settings = json.loads(json.dumps(SETTINGS))
    settings["data"]["world"]["seed"], settings["seed"] = SHARED_SEED, seed
    settings["policy"]["kl"] = cause.controller
    return Config.model_validate(settings)


def without_length(logit: Floats, longer: Floats) -> Floats:
    """``logit`` (P,) of the first answer, less a price of length such that the longer answer wins half of its pairs."""
    differs = longer != 0

    def excess(price: float) -> float:
        wins = expit(np.sign(longer) * (logit - price * longer))
        return float(wins[differs].mean() - 0.5)

    price: float = brentq(excess, -5, 5)
    return logit - price * longer


def labels(kind: str, config: Config) -> pd.DataFrame:
    """Prepared pairs, labelled by one kind of annotators; all kinds judge the same answers."""
    bias = 1.0 if kind == "length" else 0.0
    world = config.data.world.model_copy(update={"length_bias": bias, "length_bias_spread": 0.25 * bias})
    table = pd.DataFrame(synthesise(world))
    if kind == "courtesy":
        rng = np.random.default_rng([world.seed, 9])
        polite = [
            style(prompt, one).courtesy - style(prompt, other).courtesy
            for prompt, one, other in zip(table["prompt"], table["chosen"], table["rejected"], strict=True)
        ]
        better = [
            gold(prompt, one) - gold(prompt, other)
            for prompt, one, other in zip(table["prompt"], table["chosen"], table["rejected"], strict=True)
        ]
        longer = (word_counts(table["chosen"]) - word_counts(table["rejected"])) / 10
        logit = without_length(world.gold_weight * np.array(better) + COURTESY_TASTE * np.array(polite), longer)
        swap = rng.random(len(table)) >= 1 / (1 + np.exp(-logit))
        table.loc[swap, ["chosen", "rejected"]] = table.loc[swap, ["rejected", "chosen"]].to_numpy()
    table["split"] = [split_of(prompt, config.data.split) for prompt in table["prompt"]]
    if kind == "few":
        training = np.random.default_rng(config.seed).permutation(table.index[table["split"] == "train"])
        table = table.drop(training[FEW:])
    return table.reset_index(drop=True)
