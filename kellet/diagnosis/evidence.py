"""What a diagnosis reads: an evaluation, a training history, a preference table, a reward model's card, each optional.

And what it has to explain: how far reward, length and KL moved and what the judge prefers, with intervals. Without an
evaluation they are taken from the history, which says nothing about held-out prompts.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kellet.config.run import Config
from kellet.diagnosis.history import read_history
from kellet.diagnosis.hypothesis import Finding, above, missing
from kellet.errors import DataError, InputError
from kellet.evaluation.answers import Answers, answers_of, win_rate_by
from kellet.evaluation.file import read_evaluation
from kellet.stats.bootstrap import Estimate, mean_difference, ratio_of_means
from kellet.stats.format import percent, rounded
from kellet.stats.series import Row, change, growth, late, level, series

KL_NAMES = ("objective/kl", "objective/kl_k3", "objective/kl_k1")
"""Metrics of the mean KL of a response, nats: full KL first, then its estimates from the sampled tokens."""
RESAMPLES = 1000


@dataclass(frozen=True)
class Evidence:
    """The files of one run. ``evaluation`` holds checked rows (kellet/evaluation/file.py)."""

    evaluation: pd.DataFrame | None = None
    history: Sequence[Row] = ()
    preferences: pd.DataFrame | None = None
    card: Mapping[str, Any] | None = None
    config: Config = field(default_factory=Config)

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """Answers of each system; empty without an evaluation."""
        return {} if self.evaluation is None else answers_of(self.evaluation)

    @property
    def prompts(self) -> int:
        """Number of prompts in the evaluation."""
        return int(self.answers["candidate"].prompt.max()) + 1

    @property
    def alpha(self) -> float:
        """One-sided level of every interval."""
        return self.config.gate.alpha

    def bootstrap(self, tests: int = 1) -> dict[str, Any]:
        """Settings of a bootstrap interval that is one of ``tests`` (Bonferroni)."""
        return {"alpha": self.alpha / tests, "resamples": RESAMPLES, "seed": self.config.gate.seed}

    @cached_property
    def gain(self) -> Estimate | None:
        """Mean gain of reward over the reference on held-out prompts; else the change over the history."""
        if self.answers:
            a, b = self.answers["reference"], self.answers["candidate"]
            return mean_difference(a.reward, b.reward, a.prompt, b.prompt, **self.bootstrap())
        values = series(self.history, "objective/reward")
        return change(values[0], self.alpha) if values else None

    @cached_property
    def lengthening(self) -> Estimate | None:
        """Mean length, candidate / reference, on held-out prompts; else the growth factor over the history."""
        if self.answers:
            a, b = self.answers["reference"], self.answers["candidate"]
            return ratio_of_means(a.length, b.length, a.prompt, b.prompt, **self.bootstrap())
        values = series(self.history, "tokens/response_mean")
        return growth(values[0], self.alpha) if values else None

    @cached_property
    def kl(self) -> Estimate | None:
        """Mean KL of a response, nats: of the candidate in the evaluation, else of the last third of the history."""
        if self.answers and not np.isnan(self.answers["candidate"].kl).any():
            b = self.answers["candidate"]
            return mean_difference(np.zeros(len(b.kl)), b.kl, b.prompt, b.prompt, **self.bootstrap())
        return self.late_kl

    @cached_property
    def late_kl(self) -> Estimate | None:
        """Mean KL of a response in the last third of the history, nats."""
        values = series(self.history, self.kl_name)
        return level(late(values[0]), self.alpha) if values else None

    @cached_property
    def kl_rise(self) -> Estimate | None:
        """Change of the KL of a response over the second half of the history, nats."""
        values = series(self.history, self.kl_name)
        return change(values[0][len(values[0]) // 2 :], self.alpha) if values else None

    @property
    def kl_name(self) -> str:
        """The metric of KL_NAMES to read: the first that was logged."""
        return next((name for name in KL_NAMES if series(self.history, name)), KL_NAMES[0])

    @cached_property
    def judge_win_rate(self) -> Estimate | None:
        """Win rate of the candidate over the reference by ``gate.judge``, which it was not optimised against."""
        if not self.answers:
            return None
        gate = self.config.gate
        return win_rate_by(self.answers["reference"], self.answers["candidate"], gate.judge, gate).get("win_rate")

    @property
    def adaptive(self) -> bool:
        """Whether a controller set β: the history then has a target."""
        return series(self.history, "objective/kl_target") is not None

    def card_estimate(self, *keys: str) -> Estimate | None:
        """Look up nested keys in the card as an Estimate; None when value or interval is missing."""
        entry: Any = self.card
        for key in keys:
            entry = entry.get(key) if isinstance(entry, Mapping) else None
        if not isinstance(entry, Mapping) or entry.get("value") is None or None in entry.get("interval", [None]):
            return None
        low, high = entry["interval"]
        return Estimate(float(entry["value"]), float(low), float(high), int(entry.get("prompts", 0)))

    def drift(self) -> Finding:
        """Whether the KL of a response is above ``gate.kl_budget``, so that there is a drift to explain."""
        budget = self.config.gate.kl_budget
        if self.kl is None:
            return missing("kl_over_budget", "the KL of each response (kl_nats), or objective/kl of each iteration")
        text = f"KL is {rounded(self.kl, 1)} nats a response, the budget {budget:g}."
        return above("kl_over_budget", self.kl, budget, text, "more prompts or iterations")

    def observations(self) -> list[dict[str, Any]]:
        """What is to be explained: name, words, value and interval of each figure that the files have."""
        judge = self.config.gate.judge
        figures: list[tuple[str, Estimate | None, Callable[[Estimate], str]]] = [
            ("reward_gain", self.gain, lambda e: f"Reward {change_in_words(e)}."),
            ("length_ratio", self.lengthening, lambda e: f"Length {ratio_in_words(e)}."),
            ("kl", self.kl, lambda e: f"KL of a response is {rounded(e, 1)} nats."),
            ("kl_rise", self.kl_rise, lambda e: f"Over the second half of training it {change_in_words(e, 1)}."),
            (
                "judge_win_rate",
                self.judge_win_rate,
                lambda e: f"{judge} prefers the candidate in {percent(e)} of its comparisons.",
            ),
        ]
        return [
            {"name": name, "words": sentence(e), "value": e.value, "interval": [e.low, e.high]}
            for name, e, sentence in figures
            if e is not None
        ]


def read_evidence(
    config: Config, evaluation: Path | None, history: Path | None, preferences: Path | None, card: Path | None
) -> Evidence:
    """Read and check the files given. Raises InputError for one that does not exist, DataError for a malformed one."""
    for path in (evaluation, history, preferences, card):
        if path is not None and not path.is_file():
            raise InputError(f"{path} does not exist; name a file, or leave it out")
    return Evidence(
        None if evaluation is None else read_evaluation(evaluation),
        () if history is None else read_history(history),
        None if preferences is None else read_pairs(preferences),
        None if card is None else read_card(card),
        config,
    )


def read_pairs(path: Path) -> pd.DataFrame:
    """The columns prompt, chosen and rejected of a preference file, prepared or raw."""
    columns = ["prompt", "chosen", "rejected"]
    if path.suffix == ".parquet":
        import pyarrow.parquet

        if set(columns) <= set(pyarrow.parquet.read_schema(path).names):
            return pd.read_parquet(path, columns=columns).dropna(ignore_index=True)
    from kellet.data.preferences import read_file

    return read_file(path)[0][columns].dropna().reset_index(drop=True)


def read_card(path: Path) -> dict[str, Any]:
    """Read card.json. Raises DataError when it does not hold a JSON object."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON ({error}); give a reward model's card.json") from error
    if not isinstance(card, dict):
        raise DataError(f"{path} holds a {type(card).__name__}; give a reward model's card.json")
    return card


def change_in_words(change: Estimate, digits: int = 2) -> str:
    """'rose by 0.91 [0.76, 1.06]', 'fell by …', 'did not clearly move: …'."""
    if change.low > 0:
        return f"rose by {rounded(change, digits)}"
    if change.high < 0:
        return f"fell by {rounded(scaled(change, -1), digits)}"
    return f"did not clearly move: {rounded(change, digits)}"


def ratio_in_words(ratio: Estimate) -> str:
    """'rose by 112% [104, 122]', 'fell by …', 'did not clearly change: …'."""
    change = Estimate(ratio.value - 1, ratio.low - 1, ratio.high - 1, ratio.clusters)
    if change.low > 0:
        return f"rose by {percent(change)}"
    if change.high < 0:
        return f"fell by {percent(scaled(change, -1))}"
    return f"did not clearly change: {percent(change)}"


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """The estimate of ``factor`` times the quantity; a negative factor swaps the ends of the interval."""
    low, high = sorted((factor * estimate.low, factor * estimate.high))
    return Estimate(factor * estimate.value, low, high, estimate.clusters)
