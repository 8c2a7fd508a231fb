"""Both retrainings of ``make demo`` for several seeds, each in a clone of its own, and the table of docs/demo.md.

python benchmarks/seeds.py 0 1 2 3 4        about seven minutes a seed on two cores; --jobs 2 runs two at a time

A seed sets the world's prompts, answers and labels as well as all training and sampling. The clones stay in ``--into``,
with their reports; a seed whose demo has run there already is only read again.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]


def run_seed(seed: int, into: Path, threads: int) -> float:
    """Clone, set both seeds, run the demo; return its seconds."""
    clone = into / f"seed-{seed}"
    log = into / f"seed-{seed}.log"
    if not clone.exists():
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        params = clone / "params.yaml"
        params.write_text(re.sub(r"(?m)^(\s*)seed: \d+", rf"\g<1>seed: {seed}", params.read_text()))
    started = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(clone)}
    with log.open("w") as output:
        subprocess.run(
            [sys.executable, "-m", "flows.demo"], cwd=clone, env=environment, stdout=output, stderr=output, check=False
        )
    return time.monotonic() - started


def rows(seed: int, into: Path) -> list[str]:
    """A line of the table for each retraining of this seed."""
    lines = []
    for name in ("naive", "support"):
        folder = into / f"seed-{seed}" / "runs" / name
        if not (folder / "gate.json").exists():
            lines.append(f"| {seed} | {name} | no verdict, see seed-{seed}.log |")
            continue
        gate = json.loads((folder / "gate.json").read_text())
        table = pd.read_parquet(folder / "evaluation.parquet")
        mean = table.groupby("system")[["reward", "length_tokens", "kl_nats"]].mean()
        reward = mean["reward"]["candidate"] - mean["reward"]["reference"]
        longer = mean["length_tokens"]["candidate"] / mean["length_tokens"]["reference"] - 1
        gold = gate["judges"]["judge_gold"]["mean_gain"]
        low, high = gold["interval"]
        failed = ", ".join(c["name"] for c in gate["criteria"] if c["passed"] is not True) or "none"
        lines.append(
            f"| {seed} | {name} | {gate['verdict']} | {reward:+.2f} | {gold['value']:+.2f} [{low:+.2f}, {high:+.2f}] | "
            f"{longer:+.0%} | {mean['kl_nats']['candidate']:.1f} | {failed} |"
        )
    return lines


def main() -> None:
    """Run the seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", nargs="+", type=int)
    parser.add_argument("--into", type=Path, default=ROOT / "artifacts" / "seeds")
    parser.add_argument("--jobs", type=int, default=1)
    given = parser.parse_args()
    given.into.mkdir(parents=True, exist_ok=True)
    threads = max(1, (os.cpu_count() or 1) // given.jobs)
    with ThreadPoolExecutor(given.jobs) as pool:
        seconds = list(pool.map(lambda seed: run_seed(seed, given.into, threads), given.seeds))
    print("| seed | retraining | verdict | reward gain | gold gain | length | KL, nats | not passed |")
    print("|---|---|---|---|---|---|---|---|")
    for seed in given.seeds:
        print("\n".join(rows(seed, given.into)))
    print("seconds:", ", ".join(f"seed {seed}: {used:.0f}" for seed, used in zip(given.seeds, seconds, strict=True)))


if __name__ == "__main__":
    main()
