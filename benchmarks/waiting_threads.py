"""Should OpenMP's threads spin or sleep while they wait? Steps of the small base model under either OMP_WAIT_POLICY.

    python benchmarks/waiting_threads.py                  nothing else runs
    python benchmarks/waiting_threads.py --beside 2       beside so many processes that compute

Each run is a process of its own on two threads; the two policies take turns, so that what else the machine does meets
both. Told: processor and wall seconds of a step, and their ratio. Both end in the same loss: the policy decides when a
thread sleeps, not what is summed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

STEPS = """
import json, resource, time
from types import SimpleNamespace
import torch
from kellet.config.run import Config
from kellet.models.base_model import build_llama
config = Config()
torch.manual_seed(0)
ids = SimpleNamespace(pad_token_id=0, bos_token_id=1, eos_token_id=2)
model = build_llama(config, config.base_model.vocab_size, ids)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
tokens = torch.randint(3, config.base_model.vocab_size, (64, 90))
def step():
    loss = model(input_ids=tokens, labels=tokens).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return float(loss)
step()
def used():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
wall, cpu = time.perf_counter(), used()
for _ in range({steps}):
    loss = step()
print(json.dumps([(time.perf_counter() - wall) / {steps}, (used() - cpu) / {steps}, loss]))
"""


def measured(policy: str, steps: int) -> tuple[float, float, float]:
    """Wall seconds and processor seconds of a step, and the last loss."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": policy}
    script = STEPS.replace("{steps}", str(steps))
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    wall, cpu, loss = json.loads(done.stdout)
    return wall, cpu, loss


def main() -> None:
    """Print a line for each policy, and how much longer the spinning one takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=int, default=0, help="processes that compute at the same time (default: 0)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    given = parser.parse_args()
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(given.beside)]
    runs: dict[str, list[tuple[float, float, float]]] = {"ACTIVE": [], "PASSIVE": []}
    try:
        for _ in range(given.rounds):
            for policy, results in runs.items():
                results.append(measured(policy, given.steps))
    finally:
        for process in busy:
            process.kill()
    if len({run[2] for results in runs.values() for run in results}) != 1:
        raise SystemExit("the policy changed a number")
    medians = {}
    for policy, results in runs.items():
        wall, cpu = (statistics.median(run[column] for run in results) for column in (0, 1))
        medians[policy] = wall, cpu
        print(f"{policy:<8} {wall:.3f} s, {cpu:.3f} processor s a step (median of {given.rounds})")
    (wall, cpu), (asleep_wall, asleep_cpu) = medians["ACTIVE"], medians["PASSIVE"]
    ratios = f"{wall / asleep_wall:.2f} times the wall clock, {cpu / asleep_cpu:.2f} times the processor"
    print(f"spinning takes {ratios}")


if __name__ == "__main__":
    main()
