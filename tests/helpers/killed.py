"""Trainings that are killed with SIGKILL, in processes that are forked from one that has imported torch.

``forked`` is a multiprocessing context; what it starts must be importable, hence this module.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

forked = multiprocessing.get_context("forkserver")
forked.set_forkserver_preload(["kellet.policy.train", "transformers.models.llama.modeling_llama", "peft"])


def start(work: Callable[..., object], *arguments: Any) -> BaseProcess:
    """Start ``work(*arguments)`` in a process of its own, on one thread."""
    process = forked.Process(target=_on_one_thread, args=(work, *arguments))
    process.start()
    return process


def run(work: Callable[..., object], *arguments: Any) -> int:
    """Run it to its end, or to its kill; its exit code, -9 when it was killed."""
    process = start(work, *arguments)
    process.join(120)
    assert process.exitcode is not None, "hangs"
    return process.exitcode


def kill_in(module: str, function: str, call: int, work: Callable[..., object], *arguments: Any) -> None:
    """Do ``work(*arguments)``, and be killed on entering the function for the ``call``-th time, from 1."""
    import importlib

    home = importlib.import_module(module)
    setattr(home, function, partial(_counted, getattr(home, function), [call]))
    work(*arguments)


def train(config: dict[str, Any], preferences: Path, base: Path, reward_model: Path, out: Path) -> None:
    """Train a policy."""
    from kellet.config.run import Config
    from kellet.policy.train import train_policy

    train_policy(Config.model_validate(config), preferences, base, reward_model, out)


def _counted(function: Callable[..., Any], left: list[int], *arguments: Any, **named: Any) -> Any:
    left[0] -= 1
    if left[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments, **named)


def _on_one_thread(work: Callable[..., object], *arguments: Any) -> None:
    import torch

    torch.set_num_threads(1)
    work(*arguments)
