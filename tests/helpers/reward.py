"""Trainings of the tiny reward model."""

from kellet.reward.train import (
    train_reward,
)
from tests.helpers import tiny


def train(out, table=None, seed=0, **settings):
    """Train on ``table``, by default the tiny pairs; return the card."""
    config = tiny.config(seed=seed, reward_model=settings)
    path = tiny.folder() / "preferences.parquet"
    if table is not None:
        path = out.with_suffix(".parquet")
        table.to_parquet(path, index=False)
    return train_reward(config, path, tiny.folder() / "base", out)


RESUMED = {"checkpoint_every": 3, "lora": {"rank": 4, "dropout": 0.3}, "ensemble": {"members": 2}}


def resumable(out, after_step=print, **settings):
    """Train two members of eight steps; ``after_step`` is called with the number of steps of this process so far."""
    steps = []

    def progress(done, total, metrics):
        steps.append(done)
        after_step(len(steps))

    config = tiny.config(reward_model={**RESUMED, **settings})
    train_reward(config, out.parent / "p.parquet", out.parent / "base", out, progress)
