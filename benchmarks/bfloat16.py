"""A reward model's step with the frozen base in bfloat16 against float32, by turns in one process.

    python benchmarks/bfloat16.py models/gemma-3-270m --threads 1

Needs a CPU with bfloat16 instructions and any causal LM's folder. Pairs are random tokens, 48 of prompt and 48 of
answer: about the mean lengths of hh-rlhf at its profile's limits.
"""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from kellet.config.run import Config
from kellet.models.trunk import load_base
from kellet.reward.fitting import Fitting, LabelledPairs, add_member
from kellet.reward.model import Pairs, Scorer

LENGTH = 48
DTYPES = ("float32", "bfloat16")


def fitting(base: Path, dtype: str, pairs: int) -> Fitting:
    """A reward model's training before its first step."""
    settings: dict[str, Any] = {"base_model": {"dtype": dtype}, "reward_model": {"batch_size": pairs, "epochs": 1}}
    config = Config.model_validate(settings)
    model, tokenizer = load_base(base, config.base_model)
    generator = torch.Generator().manual_seed(0)
    sides = [torch.randint(3, len(tokenizer), (pairs, LENGTH), generator=generator).tolist() for _ in range(3)]
    scorer = add_member(Scorer(model, [], tokenizer.eos_token_id), 0, config, 0)
    scorer.model.train()
    return Fitting(scorer, LabelledPairs(Pairs(*sides)), config, tokenizer.pad_token_id, 0)


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=4)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    trainings = {dtype: fitting(given.base, dtype, given.pairs) for dtype in DTYPES}
    seconds: dict[str, list[float]] = {dtype: [] for dtype in DTYPES}
    for number in range(given.rounds + 1):
        for dtype, training in trainings.items():
            started = time.process_time()
            training.step(torch.arange(given.pairs))
            if number:  # the first warms up
                seconds[dtype].append(time.process_time() - started)
    medians = {dtype: statistics.median(times) for dtype, times in seconds.items()}
    for dtype, median in medians.items():
        print(f"{dtype}: {median:.2f} s of processor time a step of {given.pairs} pairs, median of {given.rounds}")
    print(f"ratio: {medians['float32'] / medians['bfloat16']:.2f}")


if __name__ == "__main__":
    main()
