"""Both retrainings of ``make demo`` for several seeds, a clone for each, and the table of docs/measured/demo.md.

    python benchmarks/seeds.py 0 1 2 3 4        about seven minutes a seed on two cores; --jobs 2 runs two at a time

A seed sets the world's prompts, answers and labels as well as all training and sampling. The clones stay in ``--into``,
with their reports; a seed whose demo has already run is only read again.
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
from typing import Any

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
    """The table's lines of one seed, a retraining each."""
    lines = []
    for name in ("naive", "support"):
        file = into / f"seed-{seed}" / "runs" / name / "gate.json"
        if not file.exists():
            lines.append(f"| {seed} | {name} | no verdict, see seed-{seed}.log |")
            continue
        gate = json.loads(file.read_text())
        checks = {check["name"]: check for criterion in gate["criteria"] for check in criterion["checks"]}
        failed = ", ".join(c["name"] for c in gate["criteria"] if c["passed"] is not True) or "none"
        cells = (
            shown(checks["mean_gain"], "+.2f"),
            shown(gate["judges"]["judge_gold"]["mean_gain"], "+.2f"),
            shown(checks["length_ratio"], "+.0%", 1.0),
            shown(checks["mean_kl"], ".1f"),
        )
        lines.append(f"| {seed} | {name} | {gate['verdict']} | {' | '.join(cells)} | {failed} |")
    return lines


def shown(estimate: dict[str, Any], form: str, subtract: float = 0.0) -> str:
    """An estimate of gate.json with its interval, less ``subtract``."""
    value, low, high = (format(number - subtract, form) for number in (estimate["value"], *estimate["interval"]))
    return f"{value} [{low}, {high}]"


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
