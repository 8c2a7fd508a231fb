"""How long-running work reports its progress."""

import sys
import time
from collections.abc import Callable, Mapping

Progress = Callable[[int, int, Mapping[str, float]], None]
"""Called with (steps done, steps in all, metrics of this step)."""


def quiet(done: int, total: int, metrics: Mapping[str, float]) -> None:
    """Report nothing."""


def lines(title: str, shown: tuple[str, ...] = (), every: float = 2.0) -> Progress:
    """Report on standard error, at most every ``every`` seconds and after the last step.

    On a terminal one line is overwritten; elsewhere each report is a new line. Where a step's metrics count
    ``episodes``, samples per second are shown too. Speed and time left are measured in this process, so that they are
    right for a training that resumes from a checkpoint.
    """
    start, last = time.monotonic(), float("-inf")
    first: tuple[float, int, float] | None = None

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        nonlocal last, first
        now = time.monotonic()
        if first is None:
            first = now, done, metrics.get("episodes", 0.0)
        if now - last < every and done < total:
            return
        last = now
        since, before, episodes = first
        pace = (now - since) / (done - before) if done > before else (now - start) / max(done, 1)
        values = [f"{name} {metrics[name]:.3f}" for name in shown if name in metrics]
        if "episodes" in metrics and now > since and done > before:
            values.append(f"{(metrics['episodes'] - episodes) / (now - since):.1f} samples/s")
        _print(f"{title}: {done}/{total}  {'  '.join(values)}  {pace * (total - done):.0f} s left", done >= total)

    return report


def _print(text: str, finished: bool) -> None:
    out = getattr(sys.stderr, "below", sys.stderr)  # past kellet/terminal.py: the sequence is ours
    terminal = out.isatty()
    before, after = ("\r\x1b[K", "\n" if finished else "") if terminal else ("", "\n")
    print(f"{before}{text}", end=after, file=out, flush=True)
