"""What a diagnosis reads: an evaluation, a training history, a preference table, a reward model's card, each optional.

And what it has to explain: how far reward, length and KL moved and what the judge prefers, with intervals. Without an
evaluation they are taken from the history, which says nothing about held-out prompts. A metric of the history whose
figures cannot be is read by nothing (kellet/diagnosis/impossible.py).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kellet.config.data import Data
from kellet.config.run import Config
from kellet.diagnosis.history import read_history
from kellet.diagnosis.hypothesis import Finding, above, missing
from kellet.diagnosis.impossible import NAMES, Fault, faults
from kellet.errors import DataError, InputError
from kellet.evaluation.answers import Answers, answers_of, win_rate_by
from kellet.evaluation.columns import told
from kellet.evaluation.file import read_accounted
from kellet.manifest import check_evaluated, check_file
from kellet.stats.bootstrap import Estimate, Floats, mean_difference, ratio_of_means
from kellet.stats.format import rounded
from kellet.stats.series import MIN_ITERATIONS, Row, change, growth, late, level, series

KL_NAMES = ("objective/kl", "objective/kl_k3", "objective/kl_k1")
"""Metrics of the mean KL of a response, nats: full KL first, then its estimates from the sampled tokens."""
RESAMPLES = 1000
ALREADY_MOVED = 0.25
"""A log begins late when its first KL is above this share of its late level: the policy had left the reference."""
DEFAULT = Data()
LITTLE_KL = 0.5
"""A KL of a response that never gets above this, in nats, cannot say so."""


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
    def faults(self) -> dict[str, Fault]:
        """What is wrong with metrics of the history."""
        return faults(self.history, self.alpha)

    @property
    def broken(self) -> list[Fault]:
        """The faults that are told: figures that cannot be, and a metric of NAMES that came to no number."""
        return [fault for fault in self.faults.values() if not fault.missing or fault.metric in NAMES]

    def logged(self, *names: str) -> list[Floats] | None:
        """Values of each named metric over the iterations that have all; None where one is missing or cannot be."""
        return None if self.faults.keys() & set(names) else series(self.history, *names)

    def lacking(self, name: str, needs: str, *metrics: str) -> Finding:
        """A finding for which one of ``metrics`` is missing, or cannot be as it was logged, or the run is too short."""
        if 0 < len(self.history) < MIN_ITERATIONS:
            return missing(name, f"{MIN_ITERATIONS} iterations or more; the history has {len(self.history)}")
        wrong = [
            f"{metric} as it should be: it {self.faults[metric].what}" for metric in metrics if self.at_fault(metric)
        ]
        return missing(name, "; ".join(wrong) or needs)

    def at_fault(self, metric: str) -> bool:
        """Whether something is wrong with this metric of the history."""
        return metric in self.faults

    @cached_property
    def gain(self) -> Estimate | None:
        """Mean gain of reward over the reference on held-out prompts; else late minus early level of the history."""
        if self.answers:
            a, b = self.answers["reference"], self.answers["candidate"]
            return mean_difference(a.reward, b.reward, a.prompt, b.prompt, **self.bootstrap())
        values = self.logged("objective/reward")
        return change(values[0], self.alpha) if values else None

    @cached_property
    def lengthening(self) -> Estimate | None:
        """Mean length, candidate / reference, on held-out prompts; else late / early level of the history."""
        if self.answers:
            a, b = self.answers["reference"], self.answers["candidate"]
            return ratio_of_means(a.length, b.length, a.prompt, b.prompt, **self.bootstrap())
        values = self.logged("tokens/response_mean")
        return growth(values[0], self.alpha) if values else None

    @property
    def kl_of_answers(self) -> bool:
        """Whether the evaluation has the KL of each of the candidate's answers."""
        return bool(self.answers) and not np.isnan(self.answers["candidate"].kl).any()

    @cached_property
    def kl(self) -> Estimate | None:
        """Mean KL of a response, nats: of the candidate in the evaluation, else of the last third of the history."""
        if self.kl_of_answers:
            b = self.answers["candidate"]
            return mean_difference(np.zeros(len(b.kl)), b.kl, b.prompt, b.prompt, **self.bootstrap())
        return self.late_kl

    @cached_property
    def late_kl(self) -> Estimate | None:
        """Mean KL of a response in the last third of the history, nats."""
        values = self.logged(self.kl_name)
        return level(late(values[0]), self.alpha) if values else None

    @cached_property
    def kl_rise(self) -> Estimate | None:
        """Late minus early level of the KL of a response in the second half of the history, nats."""
        values = self.logged(self.kl_name)
        return change(values[0][len(values[0]) // 2 :], self.alpha) if values else None

    @cached_property
    def kl_name(self) -> str:
        """The metric of KL_NAMES to read: the first that was logged, also where something is wrong with it.

        Another one would be of the same samples and log-probabilities, so it is no way round what is wrong.
        """
        known = (name for name in KL_NAMES if any(row.get(name) is not None for row in self.history))
        return next(known, next((name for name in KL_NAMES if self.at_fault(name)), KL_NAMES[0]))

    @property
    def kl_words(self) -> str:
        """What :attr:`kl` is, with its estimator where it is not the full KL."""
        return NAMES[KL_NAMES[0]] if self.kl_of_answers else self.logged_kl_words

    @property
    def logged_kl_words(self) -> str:
        """What the KL of the history is, with its estimator where it is not the full KL."""
        return NAMES[self.kl_name]

    @cached_property
    def begins_late(self) -> str:
        """Why the first iterations of the history are not the reference's, in words; empty where they may be."""
        steps = [step for row in self.history if (step := row.get("iteration")) is not None]
        if len(steps) > 1 and steps[0] > 2 * float(np.median(np.diff(steps))) and steps[0] > 2:
            return f"the log begins at iteration {steps[0]:g}"
        rewards = [row.get("objective/reward") is not None for row in self.history]
        if any(rewards) and rewards.index(True) > 1:
            return f"the log has no reward in its first {rewards.index(True)} iterations"
        kl = self.logged(self.kl_name)
        if kl is not None:
            first, last = float(kl[0][0]), float(late(kl[0]).mean())
            if last > LITTLE_KL and first > ALREADY_MOVED * last:
                return f"the log begins with a KL of {first:.2g} nats a response"
        return ""

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
        return self.logged("objective/kl_target") is not None

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
            needs = "the KL of each response (kl_nats), or objective/kl of each iteration"
            return self.lacking("kl_over_budget", needs, self.kl_name)
        text = f"{self.kl_words} is {rounded(self.kl, 1)} nats, the budget {budget:g}."
        return above("kl_over_budget", self.kl, budget, text, "more prompts or iterations")


def read_evidence(
    config: Config,
    evaluation: Path | None,
    history: Path | None,
    preferences: Path | None,
    card: Path | None,
    notes: list[str] | None = None,
) -> Evidence:
    """Read and check the files given; ``notes`` gets what is odd about the evaluation and was left out of it.

    Raises InputError for a file that does not exist, DataError for a malformed one.
    """
    for path in (evaluation, history, preferences, card):
        if path is not None and not path.is_file():
            raise InputError(f"{path} does not exist; name a file, or leave it out")
    check_evaluated(evaluation, history, card)
    rows = None
    if evaluation is not None:
        odd: list[str] = []
        rows, account = read_accounted(evaluation, odd)
        if notes is not None:
            notes += [*odd, *told(account)]
    return Evidence(
        rows,
        () if history is None else read_history(history),
        None if preferences is None else read_pairs(preferences, config.data),
        None if card is None else read_card(card),
        config,
    )


def read_pairs(path: Path, data: Data = DEFAULT) -> pd.DataFrame:
    """The columns prompt, chosen and rejected of a preference file, prepared or raw (read as ``data`` says)."""
    columns = ["prompt", "chosen", "rejected"]
    if path.suffix == ".parquet":
        import pyarrow.parquet

        if {"pair_id", *columns} <= set(pyarrow.parquet.read_schema(path).names):
            return pd.read_parquet(path, columns=columns).dropna(ignore_index=True)
    from kellet.data.form import Said
    from kellet.data.preferences import read_file

    return read_file(path, said=Said.of(data))[0][columns].dropna().reset_index(drop=True)


def read_card(path: Path) -> dict[str, Any]:
    """Read card.json. Raises DataError when it does not hold a JSON object, or not what its manifest says."""
    check_file(path)
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON ({error}); give a reward model's card.json") from error
    if not isinstance(card, dict):
        raise DataError(f"{path} holds a {type(card).__name__}; give a reward model's card.json")
    return card


def scaled(estimate: Estimate, factor: float) -> Estimate:
    """The estimate of ``factor`` times the quantity; a negative factor swaps the ends of the interval."""
    low, high = sorted((factor * estimate.low, factor * estimate.high))
    return Estimate(factor * estimate.value, low, high, estimate.clusters)
