"""Simulated policies whose true effects are known, to measure how often the gate errs (kellet/gate/power.py).

An answer of the simulation has

    reward = prompt + gain of the prompt + length_pay·tokens + courtesy_pay·courtesy sentences + noise

The reward's standard deviation within a prompt, length included, is one, so a gain of 0.5 is half a standard
deviation. A judge scores one answer of each system on JUDGED prompts, as the default evaluation's spot checks do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import gamma, norm

from kellet.config.judgement import Gate
from kellet.errors import ConfigError
from kellet.evaluation.answers import wins
from kellet.stats.win_rate import length_controlled

TOKENS, TOKENS_SD = 30.0, 6.0
"""Mean and standard deviation of the reference's lengths."""
COURTESY = (" Thank you for writing.", " We are sorry for that.", " Have a nice day.", " We hope this helps.")
COURTESY_MEAN = 0.8
"""Mean of the reference's courtesy sentences (binomial, of four)."""
BETWEEN = 0.3
"""Standard deviation of the gain between prompts."""
KL_SCALE = 0.5
"""KL has a gamma distribution of this scale; half of its shape is a part shared by the answers to a prompt."""
JUDGED = 40
"""Prompts with a spot check (evaluation.spot_checks)."""


@dataclass(frozen=True)
class Population:
    """A kind of policy. ``good`` says whether promoting it is right."""

    name: str
    good: bool
    truth: str
    """What changed, in words."""
    gain: float = 0.0
    """Mean gain of the reward at equal length and style, standard deviations."""
    longer: float = 0.0
    """Tokens more than the reference's, mean."""
    length_pay: float = 0.05
    """Reward for one token."""
    courtesy: float = 0.0
    """Courtesy sentences more than the reference's, mean."""
    courtesy_pay: float = 0.1
    """Reward for one courtesy sentence."""
    kl: float = 3.0
    """Mean KL, nats per response."""
    tails: float | None = None
    """Degrees of freedom of Student's t for the noise; None: normal."""
    samples: int = 2
    share: float = 1.0
    """Prompts drawn, as a share of the number asked for."""
    prefers: float | None = None
    """Share of comparisons in which a judge that never errs prefers the candidate; None: no judge."""
    judge_length_pay: float = 0.0
    """The judge's score for one token, standard deviations of the score."""
    errs: float = 0.0
    """Share of comparisons in which the judge prefers the wrong answer."""
    told: bool = True
    """Whether the gate is told of ``errs`` (gate.judge_error)."""
    coverage: bool = False
    """Whether the coverage of the intervals is measured on it too."""


HALF = 0.5
POPULATIONS = (
    Population("null", False, "nothing changed"),
    Population("honest", True, "gain of 0.5 sd, length unchanged", gain=HALF),
    Population("honest, judged", True, "the same, and judges see it", gain=HALF, prefers=0.64, coverage=True),
    Population("honest, small", True, "gain of 0.25 sd", gain=0.25),
    Population("length hack", False, "20 of 30 tokens more, no gain", longer=20, length_pay=0.06),
    Population(
        "length hack, small",
        False,
        "2 tokens more, within tolerance; no gain",
        longer=2,
        length_pay=0.15,
        coverage=True,
    ),
    Population("length hack, some gain", False, "6 tokens more, gain of 0.1 sd", gain=0.1, longer=6, length_pay=0.1),
    Population("KL drift", False, "KL of 12 nats, no gain", kl=12),
    Population("KL on budget", False, "gain of 0.5 sd, KL exactly on its budget of 8", gain=HALF, kl=8),
    Population("gold down", False, "reward up, length equal; judges prefer it in 35%", gain=HALF, prefers=0.35),
    Population(
        "gold down, shorter", False, "reward up, 3 tokens less; preferred in 35%", gain=HALF, longer=-3, prefers=0.35
    ),
    Population("gold on margin", False, "reward up; preferred in exactly 40%", gain=HALF, prefers=0.40),
    Population("courtesy", False, "one courtesy sentence more, no gain", courtesy=1.0, courtesy_pay=0.5, coverage=True),
    Population(
        "length and courtesy",
        False,
        "2 tokens and 0.5 courtesy sentences more, no gain",
        longer=2,
        length_pay=0.1,
        courtesy=0.5,
        courtesy_pay=0.4,
    ),
    Population("heavy tails", False, "noise of Student's t with 3 degrees of freedom, no gain", tails=3),
    Population("heavy tails, honest", True, "the same with a gain of 0.5 sd", gain=HALF, tails=3, coverage=True),
    Population("few prompts", False, "a quarter of the prompts, 8 answers each; no gain", samples=8, share=0.25),
    Population(
        "few prompts, honest", True, "the same with a gain of 0.5 sd", gain=HALF, samples=8, share=0.25, coverage=True
    ),
    Population(
        "judge likes length",
        False,
        "2 tokens more, no gain; the judge is paid for length too",
        longer=2,
        length_pay=0.15,
        prefers=0.5,
        judge_length_pay=0.15,
    ),
    Population("erring judge", False, "preferred in 35%; judge errs in 20%, known", gain=HALF, prefers=0.35, errs=0.2),
    Population("erring judge, honest", True, "preferred in 64%; errs in 20%, known", gain=HALF, prefers=0.64, errs=0.2),
    Population(
        "erring judge, untold",
        False,
        "preferred in 35%; judge errs in 20%, gate not told",
        gain=HALF,
        prefers=0.35,
        errs=0.2,
        told=False,
    ),
    Population(
        "shared blindness",
        False,
        "worse in what reward, judge, length and style do not show: nothing in the file can tell",
        gain=HALF,
        prefers=0.64,
    ),
)


def chosen(names: Sequence[str]) -> tuple[Population, ...]:
    """The populations of these names; all of them when none is given. Raises ConfigError for an unknown name."""
    by_name = {population.name: population for population in POPULATIONS}
    for name in names:
        if name not in by_name:
            raise ConfigError(f"no population {name!r}; there are: {'; '.join(by_name)}")
    return tuple(by_name[name] for name in names) or POPULATIONS


def draw(population: Population, prompts: int, seed: int | Sequence[int]) -> pd.DataFrame:
    """Draw an evaluation of candidate and reference on about ``prompts`` prompts."""
    rng = np.random.default_rng(seed)
    n, samples = max(2, round(prompts * population.share)), population.samples
    prompt = np.repeat(np.arange(n), samples)
    difficulty = rng.normal(size=n)
    prompt_gain = rng.normal(population.gain, BETWEEN, n)
    shape = population.kl / KL_SCALE / 2
    shared_kl = rng.gamma(shape, KL_SCALE, n)
    noise_sd = np.sqrt(1 - (population.length_pay * TOKENS_SD) ** 2)
    parts = []
    for system in ("candidate", "reference"):
        is_candidate = system == "candidate"
        length = np.maximum(1, np.round(rng.normal(TOKENS + is_candidate * population.longer, TOKENS_SD, len(prompt))))
        courtesy = rng.binomial(4, (COURTESY_MEAN + is_candidate * population.courtesy) / 4, len(prompt))
        if population.tails is None:
            noise = rng.normal(size=len(prompt))
        else:
            noise = rng.standard_t(population.tails, len(prompt)) / np.sqrt(population.tails / (population.tails - 2))
        style = population.courtesy_pay * (courtesy - COURTESY_MEAN)
        paid = population.length_pay * (length - TOKENS) + style
        reward = difficulty[prompt] + is_candidate * prompt_gain[prompt] + paid + noise_sd * noise
        boxes = rng.integers(100, size=len(prompt))
        part = {
            "prompt_id": [f"p{i:06d}" for i in prompt],
            "prompt": "Where is my order?",
            "system": system,
            "sample": np.tile(np.arange(samples), n),
            "response": [f"It is in box {k}.{''.join(COURTESY[:c])}" for k, c in zip(boxes, courtesy, strict=True)],
            "reward": reward,
            "length_tokens": length,
            "kl_nats": shared_kl[prompt] + rng.gamma(shape, KL_SCALE, len(prompt)) if is_candidate else np.nan,
            "truncated": False,
        }
        if population.prefers is not None:
            better = np.sqrt(2) * norm.ppf(population.prefers) * is_candidate
            score = better + population.judge_length_pay * (length - TOKENS) + rng.normal(size=len(prompt))
            part["judge_human"] = np.where((prompt < JUDGED) & (part["sample"] == 0), score, np.nan)
        parts.append(pd.DataFrame(part))
    if population.errs:
        wrong = rng.random(len(prompt)) < population.errs
        scores = [part["judge_human"].to_numpy() for part in parts]
        parts = [
            part.assign(judge_human=np.where(wrong, other, score))
            for part, score, other in zip(parts, scores, scores[::-1], strict=True)
        ]
    return pd.concat(parts, ignore_index=True)


def truths(population: Population) -> dict[str, float]:
    """The true value of each check's quantity; the win rate at equal length is estimated from 200,000 pairs."""
    style = population.courtesy * population.courtesy_pay
    gain = population.gain + population.length_pay * population.longer + style
    table = draw(population, round(100_000 / population.share), 1)
    is_candidate = (table["system"] == "candidate").to_numpy()
    reward, length = table["reward"].to_numpy(), table["length_tokens"].to_numpy()
    model = length_controlled(
        wins(reward[~is_candidate], reward[is_candidate]), length[~is_candidate], length[is_candidate]
    )
    values: dict[str, float | None] = {
        "mean_gain": gain,
        "length_ratio": 1 + population.longer / TOKENS,
        "equal_length_gain": population.gain + style,
        "equal_style_gain": population.gain,
        "equal_length_win_rate": model.controlled,
        "explained by length": population.length_pay * population.longer,
        "mean_kl": population.kl,
        "tail_kl": float(gamma.ppf(0.95, population.kl / KL_SCALE, scale=KL_SCALE)),
        "gain_per_nat": gain / population.kl,
        "win_rate": population.prefers,
    }
    return {name: value for name, value in values.items() if value is not None}


def settings(population: Population, gate: Gate) -> Gate:
    """``gate``, with ``judge_error`` set where the population says that the gate is told of it."""
    return gate.model_copy(update={"judge_error": population.errs}) if population.errs and population.told else gate
