"""How long work reports where it is."""

import sys
import time
from collections.abc import Callable, Mapping

Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called with (steps done, steps in all, metrics of this step)."""


def quiet(done: int, total: int, metrics: Mapping[str, float]) -> None:
    """Report nothing."""


def lines(title: str, shown: tuple[str, ...] = (), every: float = 2.0) -> Progress:
    """Print a plain line to standard error at most every ``every`` seconds, and one for the last step."""
    start, last = time.monotonic(), float("-inf")

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < every and done < total:
            return
        last = now
        left = (now - start) / max(done, 1) * (total - done)
        values = "  ".join(f"{name} {metrics[name]:.3f}" for name in shown if name in metrics)
        print(f"{title}: {done}/{total}  {values}  {left:.0f} s left", file=sys.stderr, flush=True)  # noqa: T201

    return report
