"""How time and memory of a PPO iteration grow: ``python benchmarks/scaling.py``.

The model and the settings of benchmarks/ppo_vs_trl.py, halved (32 prompts, width 128, 24 tokens, 2 epochs), with one of
response length, batch and width changed at a time; answers are of full length. Each point is its own process, forked
after the imports: CPU seconds of its second iteration, and the peak growth of its memory. The slope is that of a
straight line through the logarithms: 1 is proportional.

What to expect: the length of a row is prompt + response, so the slope against the response alone is below 1 until
attention's square shows; a batch is computed in parts, so memory should hardly grow with it; weights grow with the
square of the width, everything else with the width.
"""

import argparse
import json
import math
import os
import resource
import statistics
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
import ppo_vs_trl

START = {"NEW_TOKENS": 24, "PROMPTS": 32, "WIDTH": 128, "EPOCHS": 2}
SERIES = {
    "response length": ("NEW_TOKENS", (12, 24, 48, 96, 192)),
    "batch": ("PROMPTS", (16, 32, 64, 128)),
    "width": ("WIDTH", (64, 128, 256, 512)),
}


def point(change: dict[str, int]) -> tuple[float, float]:
    """(CPU seconds of an iteration, peak growth of the memory in MB)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        for name, value in {**START, **change}.items():
            setattr(ppo_vs_trl, name, value)
        before = resident()
        result = ppo_vs_trl.kellet("full", 2)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before
        os.write(writing, json.dumps([result["cpu"][-1], grown]).encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        seconds, grown = json.loads(pipe.read())
    return seconds, grown


def resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def slope(sizes: tuple[int, ...], values: list[float]) -> float:
    """Slope of the least-squares line through the logarithms."""
    return statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in values]).slope


def main() -> None:
    """Print a table for each series."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    # imported before the forks, since a child's imports would count as growth of its memory
    import transformers.models.llama.modeling_llama  # noqa: F401

    for title, (name, sizes) in SERIES.items():
        points = [point({name: size}) for size in sizes]
        seconds, memory = (list(column) for column in zip(*points, strict=True))
        print(f"| {title} | " + " | ".join(map(str, sizes)) + " | slope | slope of the last step |")
        print("|---" * (len(sizes) + 3) + "|")
        for what, values in (("CPU seconds", seconds), ("MB", memory)):
            last = slope(sizes[-2:], values[-2:])
            cells = " | ".join(f"{value:.3g}" for value in values)
            print(f"| {what} | {cells} | {slope(sizes, values):.2f} | {last:.2f} |", flush=True)
        print()


if __name__ == "__main__":
    main()
