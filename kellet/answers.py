"""The rows of an evaluation as arrays, one record for each system, and which of them stand against each other.

Legend: N = answers of a system; a prompt with all its answers is a cluster.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.bootstrap import Codes, Floats


class Answers(NamedTuple):
    """One system's rows ``(N,)``, in the order of prompt and sample; NaN where unknown."""

    prompt: Codes
    """Number of the prompt, the same for all systems."""
    sample: Codes
    reward: Floats
    reward_std: Floats
    """Standard deviation of the reward between the members of an ensemble."""
    length: Floats
    """Tokens."""
    kl: Floats
    """Nats."""
    truncated: Floats
    query: list[str]
    """The prompt's text."""
    response: list[str]
    judges: dict[str, Floats]


def answers_of(rows: pd.DataFrame) -> dict[str, Answers]:
    """Split checked rows (kellet/evaluation_file.py) by system."""
    codes = pd.factorize(rows["prompt_id"], sort=True)[0].astype(np.int64)
    judges = [str(name) for name in rows.columns if str(name).startswith("judge_")]
    split = {}
    for system in rows["system"].unique():
        mine = (rows["system"] == system).to_numpy()
        part = rows[mine]
        unknown = np.full(len(part), np.nan)

        def numbers(name: str, part: pd.DataFrame = part, unknown: Floats = unknown) -> Floats:
            return part[name].to_numpy(np.float64) if name in part.columns else unknown

        split[str(system)] = Answers(
            codes[mine],
            part["sample"].to_numpy(np.int64),
            numbers("reward"),
            numbers("reward_std"),
            numbers("length_tokens"),
            numbers("kl_nats"),
            numbers("truncated"),
            part["prompt"].tolist(),
            part["response"].tolist(),
            {name: numbers(name) for name in judges},
        )
    return split


def pairs(a: Answers, b: Answers) -> tuple[Codes, Codes]:
    """Rows of a and of b that answer the same prompt with the same sample number."""
    samples = int(max(a.sample.max(), b.sample.max())) + 1
    keys = (a.prompt * samples + a.sample, b.prompt * samples + b.sample)
    _, rows_a, rows_b = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    return rows_a, rows_b


def wins(a: Floats, b: Floats) -> Floats:
    """1 where b is higher, 0 where a is, 0.5 for a tie."""
    won: npt.NDArray[np.float64] = 0.5 + 0.5 * np.sign(b - a)
    return won
