"""Evaluation tables with known truth, for the tests of gate and report, and for benchmarks/gate.py."""

import numpy as np
import pandas as pd


def evaluation(
    prompts: int = 256,
    samples: int = 2,
    *,
    gain: float = 0.5,
    longer: float = 0.0,
    length_pay: float = 0.02,
    kl: float = 3.0,
    judged: int = 0,
    judge_gain: float = 1.0,
    champion_gain: float | None = None,
    anchor_gain: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Rewards are difficulty of the prompt + quality + length_pay per token + noise (sd 1); lengths 30 tokens (sd 6).

    ``gain`` is the candidate's gain at equal length, ``longer`` the tokens it adds, ``kl`` its mean KL (gamma). The
    first ``judged`` prompts have judge_human for one answer of each system.
    """
    rng = np.random.default_rng(seed)
    difficulty = rng.normal(size=prompts)
    systems = [("candidate", gain, longer), ("reference", 0.0, 0.0)]
    if champion_gain is not None:
        systems.append(("champion", champion_gain, 0.0))
    if anchor_gain is not None:
        systems.append(("anchor", anchor_gain, 0.0))
    parts = []
    for system, quality, extra in systems:
        n = prompts * samples
        prompt = np.repeat(np.arange(prompts), samples)
        length = np.maximum(1, np.round(rng.normal(30 + extra, 6, n)))
        reward = difficulty[prompt] + quality + length_pay * length + rng.normal(size=n)
        part = pd.DataFrame(
            {
                "prompt_id": [f"p{i:06d}" for i in prompt],
                "prompt": [f"How do I return order {i}?" for i in prompt],
                "system": system,
                "sample": np.tile(np.arange(samples), prompts),
                "response": [f"Answer {j} of the {system} to question {i}, in full." for j, i in enumerate(prompt)],
                "reward": reward,
                "length_tokens": length.astype(int),
                "kl_nats": np.nan if system == "reference" else rng.gamma(kl / 0.5, 0.5, n),
                "truncated": False,
            }
        )
        if judged:
            score = quality * judge_gain + rng.normal(size=n)
            part["judge_human"] = np.where((prompt < judged) & (part["sample"] == 0), score, np.nan)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
