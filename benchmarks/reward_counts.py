"""Prices of a reward model in the support world against those of the labels: facts, wrong facts, filler, repeats.

    python benchmarks/reward_counts.py --run runs/support

Held-out rewards are regressed on the counts that gold helpfulness is made of (kellet/data/world.py), pooled over all
answers and within pair; intervals are 90%, by resampling prompts. The labels' own prices are gold_weight times gold's
weights. The normalisation of the length slope moves all prices alike where sentences have about equally many tokens.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from kellet.config.file import load_config
from kellet.config.run import Config
from kellet.data.world import Counts, count
from kellet.models.trunk import load_base
from kellet.reward.model import encode_pairs, load_scorer, score_all

GOLD = {"facts": 1 / 3, "wrong": -1 / 3, "filler": -1 / 5, "repeated": -1 / 4}
RESAMPLES = 2000


def held_out(config: Config, preferences: Path, base: Path, reward_model: Path) -> pd.DataFrame:
    """One row for each answer of the validation split: prompt, pair, reward and counts."""
    table = pd.read_parquet(preferences)
    table = table[table["split"] == "validation"].reset_index(drop=True)
    model, tokenizer = load_base(base)
    scorer = load_scorer(model, reward_model, tokenizer.eos_token_id)
    rewards = score_all(scorer, encode_pairs(table, tokenizer, config, preferences), tokenizer.pad_token_id).numpy()
    sides = []
    for side, name in enumerate(("chosen", "rejected")):
        counts = [count(prompt, answer) for prompt, answer in zip(table["prompt"], table[name], strict=True)]
        rows = pd.DataFrame(counts, columns=Counts._fields)
        sides.append(rows.assign(prompt=table["prompt"], pair=table.index, reward=rewards[side]))
    return pd.concat(sides, ignore_index=True)


def prices(rows: pd.DataFrame, within: bool) -> tuple[np.ndarray, np.ndarray]:
    """Least-squares price of one more of each count, within pair or pooled with an intercept; and RESAMPLES resamples.

    A prompt enters through its sums of products, so a resample of prompts is a weighted sum of them.
    """
    values = rows[[*Counts._fields, "reward"]]
    if within:
        values = values - values.groupby(rows["pair"]).transform("mean")
    else:
        values = values.assign(one=1.0)[["one", *values.columns]]
    array = values.to_numpy(np.float64)
    codes, names = pd.factorize(rows["prompt"])
    products = np.zeros((len(names), array.shape[1], array.shape[1]))
    np.add.at(products, codes, array[:, :, None] * array[:, None, :])

    def solve(sums: np.ndarray) -> np.ndarray:
        return np.linalg.solve(sums[:-1, :-1], sums[:-1, -1])[-len(Counts._fields) :]

    drawn = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    return solve(products.sum(0)), np.array([solve(np.tensordot(weights, products, 1)) for weights in drawn])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--run", type=Path, default=Path("runs/support"))
    parser.add_argument("--preferences", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--reward-model", type=Path)
    given = parser.parse_args()
    config = load_config(given.params)
    preferences = given.preferences or Path("data/prepared", config.data.name, "preferences.parquet")
    base, reward_model = given.base or given.run / "base", given.reward_model or given.run / "reward_model"
    rows = held_out(config, preferences, base, reward_model)
    print(f"{len(rows):,} held-out answers to {rows['prompt'].nunique():,} prompts")
    print("| one more of | answers with it | labels say | reward, within pair | reward, pooled |")
    print("|---|---|---|---|---|")
    columns = []
    for within in (True, False):
        values, resampled = prices(rows, within)
        ends = zip(values, *np.quantile(resampled, [0.05, 0.95], axis=0), strict=True)
        columns.append([f"{value:+.2f} [{a:+.2f}, {b:+.2f}]" for value, a, b in ends])
    for number, name in enumerate(Counts._fields):
        label = config.data.world.gold_weight * GOLD[name]
        share = float((rows[name] > 0).mean())
        print(f"| {name} | {share:.0%} | {label:+.2f} | {columns[0][number]} | {columns[1][number]} |")


if __name__ == "__main__":
    main()
