"""A training on two processes, forked from one that has imported torch, and a score that may kill its process."""

import os
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.helpers import killed

calls = 0


def run(work: Callable[..., object], *arguments: Any, **environment: str) -> list[int]:
    """Run ``work(*arguments)`` on two processes, as a launcher would start them; their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
    started = [
        killed.start(_with, shared | environment | {"RANK": rank, "LOCAL_RANK": rank}, work, *arguments)
        for rank in ("0", "1")
    ]
    for process in started:
        process.join(120)
        assert process.exitcode is not None, "hangs"
    return [int(process.exitcode or 0) for process in started]


def reward(config: dict[str, Any], preferences: Path, base: Path, out: Path) -> None:
    """Train a reward model."""
    from kellet.config.run import Config
    from kellet.reward.train import train_reward

    train_reward(Config.model_validate(config), preferences, base, out)


def evaluation(
    config: dict[str, Any], preferences: Path, base: Path, reward_model: Path, policy: Path, out: Path
) -> None:
    """Evaluate a policy."""
    from kellet.config.run import Config
    from kellet.evaluation.evaluate import Models, evaluate

    evaluate(Config.model_validate(config), preferences, Models(base, reward_model, policy), out)


def words(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """A score: half the words of an answer. Process 1 is killed in the call that DIES_IN_CALL names."""
    global calls
    calls += 1
    if os.environ.get("RANK") == "1" and os.environ.get("DIES_IN_CALL") == str(calls):
        os.kill(os.getpid(), signal.SIGKILL)
    return [0.5 * len(response.split()) for response in responses]


def _with(environment: dict[str, str], work: Callable[..., object], *arguments: Any) -> None:
    os.environ.update(environment)
    if "STDERR_IN" in environment:  # a forked process has the stderr of the first test that forked, not this one's
        os.dup2(os.open(environment["STDERR_IN"], os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    work(*arguments)
