"""Rows of made-up trainings, and a monitor that keeps what it says."""

import pytest

from kellet.live.limits import Limits
from kellet.live.monitor import Monitor
from kellet.live.translate import Translator


def grpo(number, **figures):
    """A row as TRL's GRPOTrainer logs it; ``kl`` is per token, so 0.02 at 100 tokens are 2 nats a response."""
    row = {
        "loss": 0.1,
        "grad_norm": 0.5,
        "reward": 1.0,
        "reward_std": 0.4,
        "kl": 0.02,
        "entropy": 2.0,
        "completions/mean_length": 100.0,
        "completions/clipped_ratio": 0.1,
        "epoch": number / 10,
    }
    return {**row, **{name.replace("__", "/"): value for name, value in figures.items()}}


@pytest.fixture
def watch(tmp_path):
    """``watch(...)`` makes a monitor in a folder; ``monitor.said`` has its sentences."""

    def make(stop_on=(), out=tmp_path / "out", trainer=None, **limits):
        said = []
        monitor = Monitor(out, Translator(trainer), said.append, stop_on, Limits(**{"patience": 3, **limits}))
        monitor.said = said
        return monitor

    return make
