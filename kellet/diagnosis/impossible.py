"""Figures of a history that cannot be: a KL below zero, a share above one, no number where the run ended.

They are told, and what would be read from them is 'cannot tell': a broken measurement is never good news. A KL far
below zero passes every budget, and a metric that came to NaN was last seen when all was well.

Full KL and k3 are never negative. k1 may be, by sampling, but its mean is a KL where the samples are the policy's own:
below zero beyond its noise it was computed on other samples or other log-probabilities, for example under a
temperature, top-k or minimum length with which the policy does not answer (the trainer of TRL warns of these).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from kellet.stats.bootstrap import Floats
from kellet.stats.series import LATE, MIN_ITERATIONS, MIN_PRESENT, Row, ends_early, level

NAMES = {
    "objective/reward": "Reward",
    "objective/kl": "KL of a response",
    "objective/kl_k3": "KL of a response (k3 of the sampled tokens)",
    "objective/kl_k1": "KL of a response (k1 of the sampled tokens)",
    "objective/kl_per_token": "KL of a token",
    "objective/kl_coef": "β",
    "tokens/response_mean": "Length",
}
"""The metrics on which most of the diagnosis rests, as a sentence begins with them: that one ends is told by itself."""
SMALLEST: Mapping[str, float] = {
    **dict.fromkeys(("objective/kl", "objective/kl_p95", "objective/kl_k3", "ppo/policy/kl_update"), -1e-2),
    **dict.fromkeys(("objective/kl_per_token", "ppo/policy/approxkl", "objective/entropy"), -1e-4),
    **dict.fromkeys(("objective/kl_coef", "objective/reward_std", "ppo/advantage_std"), 0.0),
    **dict.fromkeys(("objective/kl_penalty_share", "ppo/grad_norm"), 0.0),
}
"""Metrics that are never negative, and what rounding may leave."""
SHARES = (
    "objective/kl_top_decile_share",
    "objective/kl_coef_at_clip",
    "tokens/truncated_share",
    "tokens/stop_hazard/early",
    "tokens/stop_hazard/middle",
    "tokens/stop_hazard/late",
    "ppo/policy/clipfrac",
    "ppo/policy/clipfrac_positive",
    "ppo/policy/clipfrac_negative",
)
POSITIVE = ("tokens/response_mean", "objective/kl_target")
SAMPLED: Mapping[str, float] = {"objective/kl_k1": -0.05, "objective/kl_per_token": -5e-4}
"""Means of k1, with the value that is about zero; KL per token is one where only k1 was logged beside it."""
CHANCE = 0.01
"""A single k1 is too low when sampling alone gives such a one in the whole run with less than this probability."""


@dataclass(frozen=True)
class Fault:
    """What is wrong with a metric."""

    metric: str
    what: str
    """In words, after the metric's name."""
    iterations: int
    """In how many iterations."""
    missing: bool = False
    """Whether values are missing, rather than impossible."""

    @property
    def sentence(self) -> str:
        """For the observations."""
        name = NAMES.get(self.metric)
        if name is None:
            return f"{self.metric} {self.what}."
        return f"{name} {self.what} ({self.metric})."


def faults(history: Sequence[Row], alpha: float) -> dict[str, Fault]:
    """What is wrong with each metric of the history that has a range or is one of NAMES; empty where nothing is.

    A metric without a single number is a fault only when it is one of NAMES and was logged as null or NaN.
    """
    found = {}
    sampled = _sampled(history)
    for name in dict.fromkeys([*NAMES, *SMALLEST, *SHARES, *POSITIVE]):
        rows = [row.get(name) for row in history]
        present = [value is not None and math.isfinite(value) for value in rows]
        values = np.array([value for value in rows if value is not None and math.isfinite(value)], dtype=np.float64)
        what, count = _impossible(name, values, sampled, alpha)
        if what:
            found[name] = Fault(name, f"{what} in {count} of {len(rows)} iterations", count)
        elif any(name in row for row in history) and (what := _missing(name, present)):
            found[name] = Fault(name, what, len(rows) - sum(present), missing=True)
    return found


def _sampled(history: Sequence[Row]) -> Mapping[str, float]:
    """Those of SAMPLED that are k1 in this history."""
    full = any(row.get(name) is not None for row in history for name in ("objective/kl", "objective/kl_k3"))
    return {name: about_zero for name, about_zero in SAMPLED.items() if name == "objective/kl_k1" or not full}


def _impossible(name: str, values: Floats, sampled: Mapping[str, float], alpha: float) -> tuple[str, int]:
    """What is wrong with these values, in words, and of how many it is true; nothing is wrong where that is none."""
    below = values < SMALLEST.get(name, -math.inf)
    what = "is below zero"
    if name in sampled:
        below = (values < 0) & negative_beyond_noise(values, sampled[name], alpha)
        what = "is below zero beyond its sampling noise"
    elif name in SHARES:
        below, what = (values < 0) | (values > 1), "is a share outside 0 to 1"
    elif name in POSITIVE:
        below, what = values <= 0, "is not above zero"
    count = int(below.sum())
    return (what, count) if count else ("", 0)


def negative_beyond_noise(values: Floats, about_zero: float, alpha: float) -> bool:
    """Whether a sampled KL ``(T,)`` is too low for sampling: the level of a third of it, or a single value.

    For samples y of π the mean of π_ref(y)/π(y) is at most 1, so log π/π_ref is below -c with a probability of at most
    exp(-c) (Markov), and so is the mean over any number of responses (Jensen).
    """
    if not len(values):
        return False
    thirds = np.array_split(values, 3) if len(values) >= MIN_ITERATIONS else []
    levels = [level(part, alpha / 3) for part in thirds]
    steady = any(part.high < 0 and part.value < about_zero for part in levels)
    return steady or float(values.min()) < -math.log(len(values) / CHANCE)


def _missing(name: str, present: Sequence[bool]) -> str:
    """What is wrong with where a metric has a number, in words; empty where nothing is."""
    lacking = len(present) - sum(present)
    if not any(present):
        return f"has no number in any of {lacking} iterations" if name in NAMES else ""
    if ends_early(present):
        last = math.ceil(LATE * len(present))
        lately = last - sum(present[-last:])
        return f"has no number in {lacking} of {len(present)} iterations, {lately} of the last {last} among them"
    return f"has a number in only {sum(present)} of {len(present)} iterations" if _few(present) else ""


def _few(present: Sequence[bool]) -> bool:
    return sum(present) < MIN_PRESENT * len(present)
