"""Time and memory of `kellet gate` and `kellet diagnose` on 100,000 evaluation rows (goal: 20 s and 1 GB each).

    PYTHONPATH=. python benchmarks/gate.py

Each is the command that a user gives, run in a new process, so imports, reading and checking are included. Wall-clock
and processor time are printed; on a busy machine only processor time is meaningful. `diagnose` also reads a history
and 5,000 pairs.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.helpers.evaluations import evaluation
from tests.helpers.simulated_runs import Causes, history, preferences

SHAPES = ((25_000, 2, None), (50_000, 1, None), (16_667, 2, 0.0), (250, 200, None))
"""Prompts, samples, and the champion's gain (None: no champion)."""


def measured(*command: str) -> tuple[int, float, float, float]:
    """Exit code, wall seconds, processor seconds and peak memory (GB) of a command."""
    started = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-m", "kellet", *command], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return child.returncode, time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6


def main() -> None:
    """Measure every shape."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rng = np.random.default_rng(0)
        rows = history(Causes(), rng)
        (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        preferences(Causes(), rng, 5000).to_parquet(folder / "pairs.parquet")
        for prompts, samples, champion in SHAPES:
            table = evaluation(prompts, samples, judged=40, champion_gain=champion)
            table["response"] += " This is how we handle it, step by step, as our policy says." * 5
            file = str(folder / "evaluation.parquet")
            table.to_parquet(file)
            beside = ["--history", str(folder / "history.jsonl"), "--preferences", str(folder / "pairs.parquet")]
            for verb, more in (("gate", []), ("diagnose", beside)):
                code, wall, busy, peak = measured(verb, file, *more)
                print(
                    f"{verb:8} {len(table):7,} rows, {prompts:6,} prompts x {samples:3} samples, champion "
                    f"{champion is not None!s:5}: {wall:4.1f} s, processor {busy:4.1f} s, peak {peak:.2f} GB, "
                    f"exit {code}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
