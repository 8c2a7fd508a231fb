"""What a diagnosis reads: an evaluation, a training history, a preference table, a reward model's card, each optional.

And what everyone sees before asking why: how far reward, length, KL and the judge's opinion moved, with intervals.
Without an evaluation the history's own course stands in, which says nothing of held-out prompts.
"""

import json
from collections.abc import Mapping, Sequence
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
from kellet.stats.bootstrap import Estimate, mean, mean_difference, ratio_of_means
from kellet.stats.format import percent, rounded
from kellet.stats.series import Row, change, growth, late, level, series

KL_NAMES = ("objective/kl", "objective/kl_k3", "objective/kl_k1")
"""Mean KL of a response in the history, nats: the full one first, then what samples estimate."""
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
        """Prompts of the evaluation."""
        return int(self.answers["candidate"].prompt.max()) + 1

    @property
    def alpha(self) -> float:
        """One-sided level of each interval."""
        return self.config.gate.alpha

    def bootstrap(self, parts: int = 1) -> dict[str, Any]:
        """Settings of an interval, its level divided by ``parts`` (Bonferroni)."""
        return {"alpha": self.alpha / parts, "resamples": RESAMPLES, "seed": self.config.gate.seed}

    @cached_property
    def gain(self) -> Estimate | None:
        """Mean gain of reward over the reference, held-out prompts; from the history: fitted change over the run."""
        if self.answers:
            a, b = self.answers["reference"], self.answers["candidate"]
            return mean_difference(a.reward, b.reward, a.prompt, b.prompt, **self.bootstrap())
        values = series(self.history, "objective/reward")
        return change(values[0], self.alpha) if values else None

    @cached_property
    def lengthening(self) -> Estimate | None:
        """Mean length, candidate / reference; from the history: fitted factor over the run."""
        if self.answers:
            a, b = self.answers["reference"], self.answers["candidate"]
            return ratio_of_means(a.length, b.length, a.prompt, b.prompt, **self.bootstrap())
        values = series(self.history, "tokens/response_mean")
        return growth(values[0], self.alpha) if values else None

    @cached_property
    def kl(self) -> Estimate | None:
        """Mean KL of a response from the reference, nats: of the final policy, or of the last third of the history."""
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
        """Fitted change of the KL of a response over the second half of the history, nats."""
        values = series(self.history, self.kl_name)
        return change(values[0][len(values[0]) // 2 :], self.alpha) if values else None

    @property
    def kl_name(self) -> str:
        """The metric that tells the KL of a response; the full one where it was logged."""
        return next((name for name in KL_NAMES if series(self.history, name)), KL_NAMES[0])

    @cached_property
    def judge(self) -> Estimate | None:
        """Win rate of the candidate by ``gate.judge``, a judge that the policy was not optimised against."""
        if not self.answers:
            return None
        gate = self.config.gate
        return win_rate_by(self.answers["reference"], self.answers["candidate"], gate.judge, gate).get("win_rate")

    @property
    def adaptive(self) -> bool:
        """Whether β was steered: the history has a target."""
        return series(self.history, "objective/kl_target") is not None

    def of_card(self, *names: str) -> Estimate | None:
        """A figure of the reward model's card with its interval, by the keys to it; None where it is not told."""
        found: Any = self.card
        for name in names:
            found = found.get(name) if isinstance(found, Mapping) else None
        if not isinstance(found, Mapping) or found.get("value") is None or None in found.get("interval", [None]):
            return None
        low, high = found["interval"]
        return Estimate(float(found["value"]), float(low), float(high), int(found.get("prompts", 0)))

    def drift(self) -> Finding:
        """Ask whether the KL of a response is above ``gate.kl_budget``, so that there is a drift to explain."""
        budget = self.config.gate.kl_budget
        if self.kl is None:
            return missing("kl_over_budget", "the KL of each response (kl_nats), or objective/kl of each iteration")
        words = f"KL is {rounded(self.kl, 1)} nats a response, the budget {budget:g}."
        return above("kl_over_budget", self.kl, budget, words, "more prompts or iterations")

    def observations(self) -> list[dict[str, Any]]:
        """What was seen, before any cause: name, words, value and interval."""
        seen: list[tuple[str, Estimate | None, str]] = [
            ("reward_gain", self.gain, "Reward {}."),
            ("length_ratio", self.lengthening, "Length {}."),
            ("kl", self.kl, "KL of a response is {} nats."),
            ("kl_rise", self.kl_rise, "Over the second half of training it {}."),
            (
                "judge_win_rate",
                self.judge,
                f"{self.config.gate.judge} prefers the candidate in {{}} of its comparisons.",
            ),
        ]
        words = {
            "reward_gain": self.gain and moved(self.gain),
            "length_ratio": self.lengthening and lengthened(self.lengthening),
            "kl": self.kl and rounded(self.kl, 1),
            "kl_rise": self.kl_rise and moved(self.kl_rise, 1),
            "judge_win_rate": self.judge and percent(self.judge),
        }
        return [
            {"name": name, "words": text.format(words[name]), "value": e.value, "interval": [e.low, e.high]}
            for name, e, text in seen
            if e is not None
        ]


def read_evidence(
    config: Config, evaluation: Path | None, history: Path | None, preferences: Path | None, card: Path | None
) -> Evidence:
    """Read and check the files that are given. Raises InputError or DataError for one that is missing or malformed."""
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
    """Texts of a preference file, prepared or raw: prompt, chosen, rejected."""
    columns = ["prompt", "chosen", "rejected"]
    if path.suffix == ".parquet":
        import pyarrow.parquet

        if set(columns) <= set(pyarrow.parquet.read_schema(path).names):
            return pd.read_parquet(path, columns=columns).dropna(ignore_index=True)
    from kellet.data.preferences import read_file

    return read_file(path)[0][columns].dropna().reset_index(drop=True)


def read_card(path: Path) -> dict[str, Any]:
    """card.json. Raises DataError when it is no JSON object."""
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not JSON ({error}); give a reward model's card.json") from error
    if not isinstance(card, dict):
        raise DataError(f"{path} holds a {type(card).__name__}; give a reward model's card.json")
    return card


def moved(gain: Estimate, digits: int = 2) -> str:
    """'rose by 0.91 [0.76, 1.06]', 'fell by …', 'did not clearly move: …'."""
    if gain.low > 0:
        return f"rose by {rounded(gain, digits)}"
    if gain.high < 0:
        return f"fell by {rounded(Estimate(-gain.value, -gain.high, -gain.low, gain.clusters), digits)}"
    return f"did not clearly move: {rounded(gain, digits)}"


def lengthened(ratio: Estimate) -> str:
    """'rose by 112% [104, 122]', 'fell by …', 'did not clearly change: …'."""
    return moved_percent(Estimate(ratio.value - 1, ratio.low - 1, ratio.high - 1, ratio.clusters))


def moved_percent(share: Estimate) -> str:
    """The same for a relative change."""
    if share.low > 0:
        return f"rose by {percent(share)}"
    if share.high < 0:
        return f"fell by {percent(Estimate(-share.value, -share.high, -share.low, share.clusters))}"
    return f"did not clearly change: {percent(share)}"


def mean_over_prompts(values: Any, evidence: Evidence, parts: int = 1) -> Estimate:
    """Mean of one value for each prompt."""
    return mean(np.asarray(values, dtype=np.float64), **evidence.bootstrap(parts))
