"""Recommended changes as arms beside the baseline: measured effects in the place of expected ones.

Every arm is a whole retraining on the same data, with the same seeds, and answers the same prompts; only its parameters
differ, by one recommendation of the diagnosis (kellet/diagnosis/recommend.py), or by both. An arm is compared with the baseline
and with the reference (kellet/remedies/effects.py): by judges, by every arm's reward model on everybody's answers, by length, KL
and style. A reward by an arm's own reward model is told, and never compared with another's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from kellet.config.judgement import Gate
from kellet.errors import DataError
from kellet.evaluation.answers import Answers, answers_of, win_rate_by
from kellet.remedies.effects import Effect, effects, judges_of
from kellet.stats.bootstrap import Estimate, Floats

BASELINE, FIRST, SECOND, BOTH = "baseline", "first", "second", "both"
GOLD = "judge_gold"
"""The true helpfulness, in the support world: measured by, never chosen by."""
RULE = (
    "Of the arms that the gate promotes, the one with the largest mean gain over the reference by gate.judge; "
    "where that judge scored nothing, or as much, the one with fewer changes. None is ready when none is promoted."
)


@dataclass(frozen=True)
class Arm:
    """One retraining with its files. ``rows`` are checked rows of its evaluation; all but the first lines may lack."""

    name: str
    changes: Sequence[Mapping[str, Any]]
    """Recommendations of diagnosis.json that it carries out; none for the baseline."""
    patch: Mapping[str, Any]
    """Parameters that differ from the baseline's, dotted."""
    stopped: str = ""
    """Why it did not come to an evaluation: a reward model without lift, an alarm."""
    rows: pd.DataFrame | None = None
    decision: Mapping[str, Any] = field(default_factory=dict)
    """gate.json"""
    card: Mapping[str, Any] = field(default_factory=dict)
    """card.json"""
    reward_model: str = ""
    """The arm whose reward model this one has too; its own name where no arm before it has the same."""
    rewards: Mapping[str, Floats] = field(default_factory=dict)
    """By reward model: rewards of ``rows``."""
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    """By stage: processor time that computing it took; None where it was not timed."""

    @property
    def verdict(self) -> str:
        """The gate's, or ``stopped``."""
        return "stopped" if self.stopped else str(self.decision["verdict"])

    @property
    def cost(self) -> float | None:
        """Processor seconds of all stages; None where one was not timed."""
        known = [value for value in self.seconds.values() if value is not None]
        return sum(known) if known and len(known) == len(self.seconds) else None


@dataclass(frozen=True)
class Measured:
    """One arm with its effects."""

    arm: Arm
    reference: Mapping[str, Effect]
    """Against the reference."""
    baseline: Mapping[str, Effect]
    """Against the baseline's policy; empty for the baseline itself."""
    elsewhere: tuple[str, ...]
    """Style axes on which it is shown further from the reference than the baseline is, in the same direction ..."""
    paid: tuple[str, ...]
    """... and those of them on which its own reward model is shown to pay for that direction, be it more or less."""

    def worse(self, names: Sequence[str]) -> list[Effect]:
        """Effects against the baseline that are shown worse."""
        return [
            self.baseline[name] for name in names if name in self.baseline and self.baseline[name].improved is False
        ]


@dataclass(frozen=True)
class Remedies:
    """All arms side by side, the baseline first."""

    arms: tuple[Measured, ...]
    judge: str
    """By whom arms are measured first: GOLD where there is one, else ``gate.judge``; empty without either."""
    reward_models: Mapping[str, tuple[str, ...]]
    """Reward model -> the arms that were trained against it."""
    chosen: str | None
    """The arm that RULE chooses; None when none is promoted."""
    prompts: int
    gate: Gate
    inputs: Mapping[str, Any]

    def arm(self, name: str) -> Measured:
        """Look an arm up by name; KeyError when there is none."""
        return {item.arm.name: item for item in self.arms}[name]

    @property
    def front(self) -> tuple[str, ...]:
        """Arms that no other beats in KL and win rate alike, by their estimates."""
        points = {name: place for name, place in self.places().items() if place is not None}
        return tuple(
            name
            for name, (kl, rate) in points.items()
            if not any(k <= kl and r >= rate and (k, r) != (kl, rate) for k, r in points.values())
        )

    def places(self) -> dict[str, tuple[float, float] | None]:
        """(KL, win rate over the reference by ``judge``) of each arm, where both are known."""
        found: dict[str, tuple[float, float] | None] = {}
        for item in self.arms:
            pair = [item.reference.get(name) for name in ("kl", f"{self.judge}/win_rate")]
            known = [effect.estimate.value for effect in pair if effect is not None and effect.estimate is not None]
            found[item.arm.name] = (known[0], known[1]) if len(known) == len(pair) else None
        return found


def arms_of(recommendations: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]], dict[str, Any]]]:
    """Name, changes and patch of each arm: the first recommendation, the second, both (the first has the last word)."""
    first, second = recommendations
    plans = [(FIRST, [first]), (SECOND, [second]), (BOTH, [first, second])]
    return [
        (name, changes, {key: value for change in reversed(changes) for key, value in change["patch"].items()})
        for name, changes in plans
    ]


def measure(arms: Sequence[Arm], gate: Gate, inputs: Mapping[str, Any]) -> Remedies:
    """Compare the arms, the baseline first, on the prompts that all of them answered.

    Raises DataError when the baseline has no evaluation or the arms share no prompt.
    """
    baseline = arms[0]
    if baseline.rows is None:
        raise DataError(f"the baseline has no evaluation: {baseline.stopped or 'it was not made'}")
    shared = set.intersection(*(set(arm.rows["prompt_id"]) for arm in arms if arm.rows is not None))
    if not shared:
        raise DataError("the arms answered different prompts; they can be compared only on the same")
    users: dict[str, tuple[str, ...]] = {}
    for arm in arms:
        if arm.reward_model:
            users[arm.reward_model] = (*users.get(arm.reward_model, ()), arm.name)
    systems = {arm.name: _systems(arm, shared) for arm in arms if arm.rows is not None}
    told = tuple(_measured(arm, systems, gate) for arm in arms)
    known = judges_of(systems[BASELINE]["reference"][0], systems[BASELINE]["candidate"][0])
    judge = next((name for name in (GOLD, gate.judge, *known) if name in known), "")
    said = {tuple(answers["reference"][0].response) for answers in systems.values()}
    facts = {**inputs, "reference_answers_alike": len(said) == 1}
    return Remedies(told, judge, users, choose(arms, gate), len(shared), gate, facts)


Rewards = Mapping[str, Floats]


def _systems(arm: Arm, shared: set[str]) -> dict[str, tuple[Answers, Rewards]]:
    """Answers of candidate and reference to the shared prompts, with their rewards by each reward model."""
    assert arm.rows is not None  # noqa: S101
    columns = {f"reward of {model}": values for model, values in arm.rewards.items()}
    rows = arm.rows.assign(**columns)
    rows = rows[rows["prompt_id"].isin(shared) & rows["system"].isin(["candidate", "reference"])]
    answers = answers_of(rows.reset_index(drop=True))
    return {
        system: (
            answers[system],
            {model: rows.loc[rows["system"] == system, f"reward of {model}"].to_numpy(float) for model in arm.rewards},
        )
        for system in ("candidate", "reference")
    }


def _measured(arm: Arm, systems: Mapping[str, Mapping[str, tuple[Answers, Rewards]]], gate: Gate) -> Measured:
    if arm.rows is None:
        return Measured(arm, {}, {}, (), ())
    (a, rewards_a), (b, rewards_b) = systems[arm.name]["reference"], systems[arm.name]["candidate"]
    own = {model: (rewards_a[model], rewards_b[model], rewards_a[model]) for model in rewards_b}
    reference = effects(a, b, a, own, gate)
    if arm.name == BASELINE:
        return Measured(arm, reference, {}, (), ())
    rival, rewards_rival = systems[BASELINE]["candidate"]
    both = {model: (rewards_rival[model], rewards_b[model], rewards_a[model]) for model in rewards_b}
    baseline = effects(rival, b, a, both, gate)
    further = tuple(
        name.removeprefix("style/")
        for name, effect in baseline.items()
        if name.startswith("style/") and effect.direction and effect.direction == reference[name].direction
    )
    paying = {axis["axis"] for axis in arm.decision["style"]["axes"] if axis["paid"]}
    return Measured(arm, reference, baseline, further, tuple(axis for axis in further if axis in paying))


def choose(arms: Sequence[Arm], gate: Gate) -> str | None:
    """The arm that RULE names; its judge is ``gate.judge``, and never the truth that only a simulated world has."""

    def rank(arm: Arm) -> tuple[float, int]:
        gain = _judged_gain(arm, gate)
        return (float("-inf") if gain is None else gain.value, -len(arm.changes))

    promoted = [arm for arm in arms if arm.verdict == "promote"]
    return max(promoted, key=rank).name if promoted else None


def _judged_gain(arm: Arm, gate: Gate) -> Estimate | None:
    if arm.rows is None:
        return None
    answers = answers_of(arm.rows)
    return win_rate_by(answers["reference"], answers["candidate"], gate.judge, gate).get("mean_gain")
