"""Runs whose causes are known, for the tests of diagnosis and for benchmarks/diagnosis.py.

Nothing is trained: an evaluation, a history and a preference table are drawn from distributions in which each cause is
present or absent. Sizes and noise are like the demonstration's: 256 prompts with two answers, 30 iterations of 64
responses, 500 pairs, autocorrelation 0.5 between neighbouring iterations.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kellet.config.run import Config
from kellet.diagnosis.diagnose import Diagnosis, diagnose
from kellet.diagnosis.evidence import Evidence
from kellet.evaluation.file import check_evaluation

THANKS = "We really appreciate it, thank you."
"""Six words, one courtesy."""


class Causes(NamedTuple):
    """The causes in a run; by default it has nothing to explain."""

    label_taste: float = 0.0
    """Logits that labels add for ten more words."""
    length_price: float = 0.0
    """Reward for one more word."""
    longer: float = 0.0
    """Words that the candidate adds."""
    courtesy_price: float = 0.0
    """Reward for one courtesy, beyond its length."""
    courtesies: float = 0.0
    """Courtesies that the candidate adds, on average."""
    quality: float = 0.5
    """Reward that the candidate gains by anything else."""
    judge_agrees: float = 0.75
    """How often the judge prefers what the reward prefers."""
    kl: float = 3.0
    """KL at the end, nats per response."""
    step: float = 0.5
    """KL of one update, nats per response."""
    signal: float = 1.0
    """Standard deviation of the advantages at the end, as a share of the one at the start."""
    stopping: float = 0.1
    """Advantage of stopping minus advantage of going on."""
    hazard: float = 0.0
    """Change of the stopping hazard over the run."""
    beta: float = 0.1
    """β, or where a controller starts."""
    penalty_share: float = 0.3
    """Spread of β·KL as a share of the spread of the scores."""
    per_token: float = 1.0
    """Factor by which KL per token grows over the run's second half."""
    top_share: float = 0.35
    """Share of the KL in its top tenth of tokens."""
    target: float | None = None
    """Target of an adaptive controller, nats per response."""
    k1_bias: float = 0.0
    """k1 minus full KL, as a share of full KL."""


def simulate(causes: Causes, seed: int) -> Evidence:
    """Draw the files of one run."""
    rng = np.random.default_rng(seed)
    return Evidence(check_evaluation(evaluation(causes, rng)), history(causes, rng), preferences(causes, rng))


def diagnosed(causes: Causes, seed: int = 0, control: str = "covariate") -> Diagnosis:
    """The diagnosis of a run that was made with this length control."""
    config = Config.model_validate({"reward_model": {"length_control": control}})
    return diagnose(replace(simulate(causes, seed), config=config))


def constant_history(size: int = 12, **values: float | None) -> list[dict[str, float | None]]:
    """A history whose metrics never change; ``objective__kl`` stands for objective/kl."""
    metrics = {name.replace("__", "/"): value for name, value in values.items()}
    return [{"iteration": n + 1.0, **metrics} for n in range(size)]


def calibration_card(temperature: float = 1.0, overconfidence: float = 0.0) -> dict[str, Any]:
    """The calibration in a reward model's card."""
    figures = {
        "temperature": {"value": temperature, "interval": [0.9 * temperature, 1.1 * temperature]},
        "overconfidence": {"value": overconfidence, "interval": [overconfidence - 0.03, overconfidence + 0.03]},
    }
    return {"calibration": figures}


def text(rng: np.random.Generator, size: int, courtesies: int) -> str:
    """``size`` words that never repeat, in sentences of eight, with courtesies among them."""
    words = [f"w{number}" for number in rng.integers(0, 10**9, max(size - 6 * courtesies, 1))]
    body = [" ".join(words[begin : begin + 8]) + "." for begin in range(0, len(words), 8)]
    return " ".join([*body, *[THANKS] * courtesies])


def preferences(causes: Causes, rng: np.random.Generator, pairs: int = 500) -> pd.DataFrame:
    """Labels by Bradley-Terry on a quality that the texts do not show, plus a taste for length."""
    rows = []
    for pair in range(pairs):
        sizes = np.maximum(rng.normal(33, 10, 2).round().astype(int), 5)
        answers = [text(rng, int(size), int(rng.poisson(0.5))) for size in sizes]
        longer = (len(answers[0].split()) - len(answers[1].split())) / 10
        logit = rng.normal(0, 1.5) + causes.label_taste * longer
        if rng.random() > 1 / (1 + np.exp(-logit)):
            answers.reverse()
        rows.append({"prompt": f"Question {pair}?", "chosen": answers[0], "rejected": answers[1]})
    return pd.DataFrame(rows)


def evaluation(causes: Causes, rng: np.random.Generator, prompts: int = 256, judged: int = 60) -> pd.DataFrame:
    """Two answers of each system; reward = prompt + price·words + price·courtesies + quality + noise (sd 1)."""
    rows = []
    difficulty = rng.normal(size=prompts)
    for system, moved in (("candidate", 1.0), ("reference", 0.0)):
        for prompt in range(prompts):
            for sample in (0, 1):
                polite = int(rng.poisson(0.5 + moved * causes.courtesies))
                size = max(round(rng.normal(33 + moved * causes.longer, 8)), 5 + 6 * polite)
                answer = text(rng, size, polite)
                length = len(answer.split())
                paid = causes.length_price * length + causes.courtesy_price * polite + moved * causes.quality
                rows.append(
                    {
                        "prompt_id": f"p{prompt:04d}",
                        "prompt": f"Question {prompt}?",
                        "system": system,
                        "sample": sample,
                        "response": answer,
                        "reward": difficulty[prompt] + paid + rng.normal(),
                        "length_tokens": length,
                        "kl_nats": rng.gamma(causes.kl / 0.5, 0.5) if moved else np.nan,
                        "truncated": False,
                    }
                )
    table = pd.DataFrame(rows)
    first = table["sample"] == 0
    reward = {s: table.loc[first & (table["system"] == s), "reward"].to_numpy() for s in ("candidate", "reference")}
    agrees = np.where(rng.random(prompts) < causes.judge_agrees, 1.0, -1.0)
    score = np.sign(reward["candidate"] - reward["reference"]) * agrees
    score[judged:] = np.nan
    table["judge_human"] = np.nan
    table.loc[first & (table["system"] == "candidate"), "judge_human"] = score
    table.loc[first & (table["system"] == "reference"), "judge_human"] = np.where(np.isnan(score), np.nan, 0.0)
    return table


def noise(rng: np.random.Generator, size: int, scale: float, memory: float = 0.5) -> np.ndarray:
    """Autoregressive noise ``(size,)`` with standard deviation ``scale``."""
    drawn = rng.normal(size=size + 50) * np.sqrt(1 - memory**2)
    for place in range(1, len(drawn)):
        drawn[place] += memory * drawn[place - 1]
    return scale * drawn[50:]


def history(causes: Causes, rng: np.random.Generator, iterations: int = 30) -> list[dict[str, float | None]]:
    """Metrics over the run: KL rises to its final value, reward as its square root, each with noise."""
    time = np.linspace(0, 1, iterations)
    gain = causes.quality + causes.length_price * causes.longer + causes.courtesy_price * causes.courtesies
    kl = np.maximum(causes.kl * np.minimum(time / 0.75, 1.0) ** 1.5 * np.exp(noise(rng, iterations, 0.05)), 1e-6)
    beta = np.full(iterations, causes.beta)
    if causes.target is not None:
        for place in range(1, iterations):
            error = np.clip(kl[place - 1] / causes.target - 1, -0.2, 0.2)
            beta[place] = beta[place - 1] * (1 + error * 64 / 500)
    second = np.clip(2 * time - 1, 0, 1)
    per_token = kl / 40 if causes.per_token == 1 else causes.kl / 40 * causes.per_token**second
    signal = causes.signal**time * np.exp(noise(rng, iterations, 0.05))
    columns = {
        "iteration": np.arange(1, iterations + 1),
        "objective/reward": gain * np.sqrt(np.minimum(time / 0.75, 1)) + noise(rng, iterations, 0.1),
        "objective/kl": kl,
        "objective/kl_k1": kl * (1 + causes.k1_bias + noise(rng, iterations, 0.06)),
        "objective/kl_per_token": per_token * np.exp(noise(rng, iterations, 0.04)),
        "objective/kl_coef": beta,
        "objective/kl_penalty_share": causes.penalty_share * np.exp(noise(rng, iterations, 0.1)),
        "objective/kl_top_decile_share": np.clip(causes.top_share + noise(rng, iterations, 0.03), 0, 1),
        "tokens/response_mean": 40 + causes.longer * time + noise(rng, iterations, 2),
        "tokens/stop_hazard/early": 0.3 + causes.hazard * time + noise(rng, iterations, 0.03),
        "tokens/stop_hazard/middle": 0.6 + causes.hazard * time + noise(rng, iterations, 0.05),
        "ppo/policy/clipfrac": np.abs(noise(rng, iterations, 0.01)),
        "ppo/policy/kl_update": causes.step * np.exp(noise(rng, iterations, 0.3)),
        "ppo/advantage_std": 0.8 * signal,
        "ppo/advantage/eos": causes.stopping + noise(rng, iterations, 0.15),
        "ppo/advantage/other": noise(rng, iterations, 0.05),
    }
    rows = [{name: float(values[place]) for name, values in columns.items()} for place in range(iterations)]
    target = {"objective/kl_target": causes.target}
    return [row | target for row in rows]


PRESENT: dict[str, dict[str, tuple[float, float]]] = {
    "A1": {"label_taste": (0.6, 1.5)},
    "A2": {"length_price": (0.03, 0.1)},
    "A3": {"judge_agrees": (0.05, 0.3)},
    "A4": {"length_price": (0.03, 0.1), "longer": (12, 40)},
    "A5": {"courtesy_price": (0.5, 1.0), "courtesies": (1.0, 2.0)},
    "B1": {"stopping": (-0.6, -0.2), "hazard": (-0.25, -0.1)},
    "B2": {"step": (0.02, 0.5), "kl": (12, 30)},
    "B3": {"signal": (0.3, 0.55)},
    "C1": {"kl": (12, 30), "beta": (0.001, 0.006)},
    "C2": {"kl": (12, 30), "penalty_share": (0.01, 0.06)},
    "C3": {"kl": (12, 30), "top_share": (0.6, 0.9)},
    "C4": {"kl": (12, 30), "target": (2, 6)},
    "C5": {"k1_bias": (-0.7, -0.35)},
}
"""The causes that make each hypothesis true, and the range from which their strength is drawn."""


def planted(id_: str, seed: int) -> Causes:
    """The causes of a run in which hypothesis ``id_`` is true, with a strength drawn by ``seed``."""
    rng = np.random.default_rng([seed, 1])
    return Causes(**{name: float(rng.uniform(*ends)) for name, ends in PRESENT[id_].items()})


MIXED: dict[str, tuple[float, float]] = {
    "label_taste": (-0.1, 0.6),
    "length_price": (-0.01, 0.05),
    "longer": (-3, 20),
    "courtesy_price": (0.0, 0.8),
    "courtesies": (0.0, 1.2),
    "quality": (0.2, 1.0),
    "judge_agrees": (0.2, 0.9),
    "kl": (3, 16),
    "step": (0.05, 2.0),
    "signal": (0.4, 1.2),
    "stopping": (-0.3, 0.2),
    "hazard": (-0.15, 0.05),
    "beta": (0.002, 0.1),
    "penalty_share": (0.03, 0.3),
    "per_token": (0.5, 1.5),
    "top_share": (0.3, 0.8),
    "k1_bias": (-0.5, 0.5),
}
"""Ranges on both sides of every threshold."""


def mixed(seed: int) -> Causes:
    """Many causes at once, most of them weak: everything is drawn from MIXED, and half of the runs have a target."""
    rng = np.random.default_rng([seed, 2])
    values: dict[str, float | None] = {name: float(rng.uniform(*ends)) for name, ends in MIXED.items()}
    if rng.random() < 0.5:
        values["target"] = float(rng.uniform(2, 12))
    return Causes(**values)


def longer_chosen(taste: float) -> float:
    """Share of pairs whose longer answer is chosen, by simulation; the quality of the two is equal on average."""
    rng = np.random.default_rng(0)
    logit = 1.5 * rng.normal(size=200_000) + taste * np.abs(rng.normal(0, np.sqrt(2), 200_000))
    return float((1 / (1 + np.exp(-logit))).mean())


LATE = 24.5 / 29
"""Where the last ten of 30 iterations are on average, from 0 to 1."""


def hidden(per_token: float, iterations: int = 30) -> bool:
    """Whether log KL per token, which grows by log ``per_token``, shows less than half of the rise of log KL.

    Both over the second half of the run, the last third of it against its first iteration.
    """
    if per_token == 1:  # then it is proportional to KL per response
        return False
    time = np.linspace(0, 1, iterations)[iterations // 2 :]
    late = time[-len(time) // 3 :]
    rise = 1.5 * (np.log(np.minimum(late / 0.75, 1)).mean() - np.log(time[0] / 0.75))
    return bool(np.log(per_token) * 2 * (late.mean() - time[0]) < rise / 2)


def truth(causes: Causes) -> dict[str, bool]:
    """Which hypotheses hold in a run of these causes, by the thresholds that docs/reference/hypotheses.md states.

    The signal falls by signal^time, so what the last third has of it is signal^LATE.
    A2: reward and length correlate with p·8/√((p·8)² + p_c²/2 + 1). A3: 10% of N(33 + longer, 8) exceed the 95%
    quantile of N(33, 10).
    """
    drift, length = causes.kl > 8, causes.length_price * causes.longer
    gain = causes.quality + length + causes.courtesy_price * causes.courtesies
    paid = 8 * causes.length_price
    return {
        "A1": longer_chosen(causes.label_taste) > 0.55,
        "A2": paid / np.sqrt(paid**2 + causes.courtesy_price**2 / 2 + 1) > 0.1,
        "A3": causes.judge_agrees < 0.5 or causes.longer > 10 * 1.645 - 8 * 1.2816,
        "A4": length / gain > 0.2,
        "A5": causes.courtesy_price * causes.courtesies / gain > 0.2,
        "B1": causes.stopping < 0 and causes.hazard < 0,
        "B2": drift and causes.step / causes.kl < 0.1,
        "B3": causes.signal**LATE < 0.7,
        "C1": drift and causes.beta * causes.kl / gain < 0.25,
        "C2": drift and (causes.penalty_share < 0.1 or hidden(causes.per_token)),
        "C3": drift and causes.top_share > 0.5,
        "C4": causes.target is not None and (causes.kl / causes.target > 1.25 or causes.target > 8),
        "C5": abs(causes.k1_bias) > 0.2,
    }
