"""A few answers that a person should read, chosen by fixed rules so that nobody can pick the flattering ones.

Evaluation keeps the per-token KL of these (kellet/evaluation/token_kl.py), and the report shows them side by side.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd


class Chosen(NamedTuple):
    """A pair of answers to one prompt, one by the reference and one by the candidate, and the rule that chose it."""

    rule: str
    prompt_id: str
    sample: int


def choose(rows: pd.DataFrame) -> list[Chosen]:
    """Pairs with the largest, the median and the most negative gain of reward, the longest answer and the most KL.

    No pair is chosen twice. ``rows`` are an evaluation's (kellet/evaluation/file.py), in any order. Ties go to the
    first prompt_id and sample.
    """
    columns = ["prompt_id", "sample", "reward", "length_tokens", "kl_nats"]
    reference, candidate = (rows.loc[rows["system"] == name, columns] for name in ("reference", "candidate"))
    both = candidate.merge(reference, on=["prompt_id", "sample"], suffixes=("", "_r"))
    both = both.sort_values(["prompt_id", "sample"], kind="stable", ignore_index=True)
    gain = (both["reward"] - both["reward_r"]).to_numpy(float)
    by_gain = np.argsort(gain, kind="stable")
    from_median = np.argsort(np.abs(np.arange(len(by_gain)) - (len(by_gain) - 1) / 2), kind="stable")
    kl = both["kl_nats"].to_numpy(float)
    rules = [
        ("Largest gain of reward", np.argsort(-gain, kind="stable")),
        ("Median gain of reward", by_gain[from_median]),
        ("Largest loss of reward" if (gain < 0).any() else "Smallest gain of reward", by_gain),
        ("Longest answer of the candidate", np.argsort(-both["length_tokens"].to_numpy(float), kind="stable")),
    ]
    if np.isfinite(kl).all():
        rules.append(("Most KL from the reference", np.argsort(-kl, kind="stable")))
    chosen: dict[int, Chosen] = {}
    for rule, order in rules:
        row = next((int(index) for index in order if int(index) not in chosen), None)
        if row is None:
            break
        chosen[row] = Chosen(rule, str(both["prompt_id"][row]), int(both["sample"][row]))
    return list(chosen.values())
