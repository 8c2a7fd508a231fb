"""Simulated policies whose true effects are known, to measure how often the gate errs (kellet/gate/power.py).

An answer of the simulation has

    reward = prompt + gain of the prompt + price of its length + courtesy_pay·courtesy sentences + noise

The reference's standard deviation within a prompt, length included, is one, so a gain of 0.5 is half a standard
deviation. What can differ between populations is a field of :class:`Population`; kellet/gate/prices.py has prices and
lengths, kellet/gate/populations.py the populations.

Legend: n = prompts, N = answers of one system.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as fields_of
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import gamma, norm

from kellet.evaluation.answers import wins
from kellet.gate.prices import TOKENS, Law, Line, Normal, Price
from kellet.stats.bootstrap import Codes, Floats
from kellet.stats.win_rate import length_controlled

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
class Judge:
    """Scores in one column: normal, with a mean that is higher for the candidate."""

    prefers: float
    """Share of comparisons in which it prefers the candidate, if it never errs and lengths are equal."""
    column: str = "judge_human"
    prompts: int | None = JUDGED
    """Prompts of which it scored one answer of each system; None: it scored every answer."""
    length_pay: float = 0.0
    """Score for one token, standard deviations of the score."""
    errs: float = 0.0
    """Share of comparisons in which it prefers the wrong answer."""
    shared: float = 0.0
    """Correlation of its scores with what judges see alike in an answer."""


@dataclass(frozen=True)
class Population:
    """A kind of policy. ``good`` says whether promoting it is right."""

    name: str
    good: bool
    truth: str
    """What changed, in words."""
    gain: float = 0.0
    """Mean gain of the reward at equal length and style, standard deviations."""
    gain_by: Callable[[Floats], Floats] | None = None
    """Gain of a prompt by its trait, beside ``gain``; None: none."""
    longer: float = 0.0
    """Tokens more than the reference's, mean; of ``candidate`` too."""
    price: Price = Line()  # noqa: RUF009 - frozen
    reference: Law = Normal()  # noqa: RUF009 - frozen
    candidate: Law | None = None
    """Law of the candidate's lengths; None: the reference's."""
    courtesy: float = 0.0
    """Courtesy sentences more than the reference's, mean."""
    courtesy_pay: float = 0.1
    """Reward for one courtesy sentence."""
    kl: float = 3.0
    """Mean KL, nats per response."""
    between: float = BETWEEN
    """Standard deviation of the gain between prompts."""
    noise: float | None = None
    """Standard deviation of the noise; None: what makes the reference's reward vary by one within a prompt."""
    tails: float | None = None
    """Degrees of freedom of Student's t for the noise; None: normal."""
    scale: float = 1.0
    """Every reward is multiplied by this."""
    outlier: float = 0.0
    """Added to the candidate's rewards on the first prompt."""
    samples: int = 2
    share: float = 1.0
    """Prompts drawn, as a share of the number asked for."""
    clusters: Callable[[int], Codes] | None = None
    """Number of each prompt's cluster, from the number of prompts; None: prompts are independent."""
    same_text: bool = False
    """The prompts of a cluster are one text under several ids; else a cluster is a topic, in the column ``cluster``."""
    topic_sd: float = 0.0
    """Standard deviation of the gain between topics."""
    judges: tuple[Judge, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()
    """Parameters of the gate that a team with such a file has set."""
    coverage: bool = False
    """Whether the coverage of the intervals is measured on it too."""

    def to_dict(self) -> dict[str, Any]:
        """All fields; prices and laws by name, with their parameters."""

        def plain(value: Any) -> Any:
            return getattr(value, "__name__", repr(value)) if callable(value) else value

        fields = {field.name: plain(getattr(self, field.name)) for field in fields_of(self)}
        return {**fields, "judges": [asdict(judge) for judge in self.judges], "settings": dict(self.settings)}


class Prompts(NamedTuple):
    """What the answers to a prompt have in common, whoever wrote them: arrays ``(n,)``."""

    ids: list[str]
    texts: list[str]
    topic: Codes
    trait: Floats
    difficulty: Floats


def draw(population: Population, prompts: int, seed: int | Sequence[int]) -> pd.DataFrame:
    """Draw an evaluation of candidate and reference on about ``prompts`` prompts."""
    rng = np.random.default_rng(seed)
    asked = draw_prompts(population, max(2, round(prompts * population.share)), rng)
    gain = draw_gain(population, asked, population.gain, rng)
    candidate = answers(population, "candidate", asked, gain, rng)
    reference = answers(population, "reference", asked, np.zeros(len(gain)), rng)
    shared = rng.normal(size=(2, len(candidate)))
    for judge in population.judges:
        candidate[judge.column], reference[judge.column] = _scores(judge, candidate, reference, shared, rng)
    return pd.concat([candidate, reference], ignore_index=True)


def draw_prompts(population: Population, n: int, rng: np.random.Generator) -> Prompts:
    """Draw n prompts. Those of the same text have one difficulty and one trait."""
    topic = np.arange(n, dtype=np.int64) if population.clusters is None else population.clusters(n)
    text = topic if population.same_text else np.arange(n)
    return Prompts(
        ids=[f"p{i:06d}" for i in range(n)],
        texts=[f"Where is order {i}?" for i in text],
        topic=topic,
        trait=rng.normal(size=n)[text],
        difficulty=rng.normal(size=n)[text],
    )


def draw_gain(population: Population, prompts: Prompts, mean: float, rng: np.random.Generator) -> Floats:
    """A policy's gain on each prompt ``(n,)``, around ``mean``; the same on prompts of the same text."""
    n = len(prompts.topic)
    text = prompts.topic if population.same_text else np.arange(n)
    gain: Floats = rng.normal(mean, population.between, n)[text]
    if population.topic_sd:
        gain = gain + rng.normal(0, population.topic_sd, n)[prompts.topic]
    if population.gain_by is not None:
        gain = gain + population.gain_by(prompts.trait)
    return gain


def answers(
    population: Population, system: str, prompts: Prompts, gain: Floats, rng: np.random.Generator
) -> pd.DataFrame:
    """Rows of one system's answers; all systems but the reference have the candidate's lengths and style."""
    changed = system != "reference"
    n, samples = len(prompts.ids), population.samples
    prompt = np.repeat(np.arange(n), samples)
    trait = prompts.trait[prompt]
    law = population.candidate if changed and population.candidate is not None else population.reference
    length = np.maximum(1, np.round(law(rng, trait) + changed * population.longer))
    courtesy = rng.binomial(4, (COURTESY_MEAN + changed * population.courtesy) / 4, n * samples)
    reward = (
        prompts.difficulty[prompt]
        + gain[prompt]
        + population.price(length, trait)
        + population.courtesy_pay * (courtesy - COURTESY_MEAN)
        + _noise(population, n * samples, rng)
        + changed * population.outlier * (prompt == 0)
    )
    shape = population.kl / KL_SCALE / 2
    kl = rng.gamma(shape, KL_SCALE, n)[prompt] + rng.gamma(shape, KL_SCALE, n * samples)
    boxes = rng.integers(100, size=n * samples)
    rows = {
        "prompt_id": np.array(prompts.ids, object)[prompt],
        "prompt": np.array(prompts.texts, object)[prompt],
        "system": system,
        "sample": np.tile(np.arange(samples), n),
        "response": [f"It is in box {k}.{''.join(COURTESY[:c])}" for k, c in zip(boxes, courtesy, strict=True)],
        "reward": population.scale * reward,
        "length_tokens": length,
        "kl_nats": kl if changed else np.nan,
        "truncated": False,
    }
    if population.clusters is not None and not population.same_text:
        rows["cluster"] = [f"topic {k}" for k in prompts.topic[prompt]]
    return pd.DataFrame(rows)


def truths(population: Population) -> dict[str, float]:
    """The true value of each check's quantity; the win rate at equal length is estimated from 200,000 pairs.

    What supposes that each token has the same price has a true value only where it has.
    """
    style = population.courtesy * population.courtesy_pay
    values: dict[str, float | None] = {
        "matched_length_gain": population.gain + style,
        "mean_kl": population.kl,
        "tail_kl": float(gamma.ppf(0.95, population.kl / KL_SCALE, scale=KL_SCALE)),
        "win_rate": population.judges[0].prefers if population.judges else None,
    }
    if population.candidate is None:
        values["length_ratio"] = 1 + population.longer / TOKENS
    if isinstance(population.price, Line):
        explained = population.price.pay * population.longer
        gain = population.gain + explained + style
        spread = float(
            np.hypot(population.between, population.topic_sd)
        )  # so few topics would have a mean of their own
        independent = replace(population, clusters=None, topic_sd=0.0, between=spread)
        table = draw(independent, round(100_000 / population.share), 1)
        is_candidate = (table["system"] == "candidate").to_numpy()
        reward, length = table["reward"].to_numpy(), table["length_tokens"].to_numpy()
        model = length_controlled(
            wins(reward[~is_candidate], reward[is_candidate]), length[~is_candidate], length[is_candidate]
        )
        values |= {
            "mean_gain": gain,
            "equal_length_gain": population.gain + style,
            "equal_style_gain": population.gain,
            "equal_length_win_rate": model.controlled,
            "explained by length": explained,
            "gain_per_nat": gain / population.kl,
        }
    return {name: value for name, value in values.items() if value is not None}


def _noise(population: Population, size: int, rng: np.random.Generator) -> Floats:
    sd = _noise_sd(population) if population.noise is None else population.noise
    if population.tails is None:
        return rng.normal(0, sd, size)
    heavy: Floats = rng.standard_t(population.tails, size) / np.sqrt(population.tails / (population.tails - 2))
    return sd * heavy


@functools.lru_cache
def _noise_sd(population: Population) -> float:
    """What is left of a variance of one after the price of the reference's lengths, from 400,000 pairs of answers."""
    rng = np.random.default_rng(0)
    trait = rng.normal(size=400_000)
    one, other = (population.price(np.round(population.reference(rng, trait)), trait) for _ in range(2))
    return float(np.sqrt(1 - ((one - other) ** 2).mean() / 2))


def _scores(
    judge: Judge, candidate: pd.DataFrame, reference: pd.DataFrame, shared: Floats, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Scores of the candidate's and of the reference's answers ``(N,)``; NaN where it did not judge."""
    better = np.sqrt(2) * norm.ppf(judge.prefers)
    scores = [
        mean
        + judge.length_pay * (rows["length_tokens"].to_numpy() - TOKENS)
        + judge.shared * seen
        + np.sqrt(1 - judge.shared**2) * rng.normal(size=len(rows))
        for mean, rows, seen in ((better, candidate, shared[0]), (0.0, reference, shared[1]))
    ]
    if judge.errs:
        wrong = rng.random(len(reference)) < judge.errs
        scores = [np.where(wrong, other, score) for score, other in zip(scores, scores[::-1], strict=True)]
    if judge.prompts is not None:
        place = np.unique(reference["prompt_id"], return_inverse=True)[1]
        judged = (place < judge.prompts) & (reference["sample"] == 0).to_numpy()
        scores = [np.where(judged, score, np.nan) for score in scores]
    return scores[0], scores[1]
