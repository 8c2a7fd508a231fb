"""Recommended changes as arms beside the baseline: their effects measured instead of expected.

Every arm is a whole retraining on the same data with the same seeds, and answers the same prompts. Its parameters
differ from the baseline's by one recommendation of the diagnosis (kellet/diagnosis/recommend.py), or by both. Each arm
is compared with the reference and with the baseline (kellet/remedies/effects.py): by judges, by length, KL and style,
and by each arm's reward model, which scores the answers of all. A reward by an arm's own reward model is reported, and
never compared with a reward by another one.
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
"""The true helpfulness in the support world: effects are measured by it, and no arm is chosen by it."""
RULE = (
    "Of the arms that the gate promotes, the one with the largest mean gain over the reference by gate.judge; "
    "where that judge scored nothing, or as much, the one with fewer changes. None is ready when none is promoted."
)


@dataclass(frozen=True)
class Arm:
    """One retraining: its changes, and what came of it as far as it got."""

    name: str
    changes: Sequence[Mapping[str, Any]]
    """The recommendations of diagnosis.json that it carries out; none for the baseline."""
    patch: Mapping[str, Any]
    """Parameters that differ from the baseline's, dotted."""
    stopped: str = ""
    """Why it has no evaluation (a reward model without lift, an alarm); empty when it has one."""
    rows: pd.DataFrame | None = None
    """Checked rows of its evaluation."""
    decision: Mapping[str, Any] = field(default_factory=dict)
    """gate.json"""
    card: Mapping[str, Any] = field(default_factory=dict)
    """card.json"""
    reward_model: str = ""
    """Name of the first arm that has the same reward model; its own name when it is the first."""
    rewards: Mapping[str, Floats] = field(default_factory=dict)
    """By reward model: its rewards of ``rows``."""
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    """By stage: processor seconds that it took; None where it was not timed."""

    @property
    def verdict(self) -> str:
        """The gate's verdict, or ``stopped``."""
        return "stopped" if self.stopped else str(self.decision["verdict"])

    @property
    def cost(self) -> float | None:
        """Processor seconds of all stages; None where one was not timed."""
        timed = [value for value in self.seconds.values() if value is not None]
        return sum(timed) if timed and len(timed) == len(self.seconds) else None


@dataclass(frozen=True)
class MeasuredArm:
    """One arm with its effects."""

    arm: Arm
    reference: Mapping[str, Effect]
    """Against the reference."""
    baseline: Mapping[str, Effect]
    """Against the baseline's policy; empty for the baseline itself."""
    further_axes: tuple[str, ...]
    """Style axes on which it is shown to differ from the reference, and from the baseline in the same direction ..."""
    paid_axes: tuple[str, ...]
    """... and those of them on which its own reward model is shown to pay for that direction, be it more or less."""

    def worse(self, names: Sequence[str]) -> list[Effect]:
        """Those effects that are shown to be worse than the baseline's."""
        return [
            self.baseline[name] for name in names if name in self.baseline and self.baseline[name].improved is False
        ]


@dataclass(frozen=True)
class Remedies:
    """All arms side by side, the baseline first."""

    arms: tuple[MeasuredArm, ...]
    judge: str
    """The judge that is shown first: GOLD where it exists, else ``gate.judge``, else any other; empty without one."""
    reward_models: Mapping[str, tuple[str, ...]]
    """Reward model -> the arms that were trained against it."""
    chosen: str | None
    """The arm that RULE chooses; None when none is promoted."""
    prompts: int
    gate: Gate
    inputs: Mapping[str, Any]

    def arm(self, name: str) -> MeasuredArm:
        """Look an arm up by name; KeyError when there is none."""
        return {item.arm.name: item for item in self.arms}[name]

    @property
    def front(self) -> tuple[str, ...]:
        """The Pareto front, by estimates: arms for which no other has both less KL and more wins."""
        points = {name: point for name, point in self.points().items() if point is not None}
        return tuple(
            name
            for name, (kl, rate) in points.items()
            if not any(k <= kl and r >= rate and (k, r) != (kl, rate) for k, r in points.values())
        )

    def points(self) -> dict[str, tuple[float, float] | None]:
        """KL and win rate over the reference by ``judge``, for each arm; None where one of them is unknown."""
        points: dict[str, tuple[float, float] | None] = {}
        for item in self.arms:
            pair = [item.reference.get(name) for name in ("kl", f"{self.judge}/win_rate")]
            values = [effect.estimate.value for effect in pair if effect is not None and effect.estimate is not None]
            points[item.arm.name] = (values[0], values[1]) if len(values) == len(pair) else None
        return points


def arms_of(recommendations: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]], dict[str, Any]]]:
    """Name, changes and patch of each arm: the first recommendation, the second, both (where they clash, the first).

    A recommendation without a patch asks for evidence and changes no parameter, so it has no arm, nor has 'both' then.
    """
    first, second = recommendations
    plans = [(FIRST, [first]), (SECOND, [second]), (BOTH, [first, second])]
    return [
        (name, changes, {key: value for change in reversed(changes) for key, value in change["patch"].items()})
        for name, changes in plans
        if all(change["patch"] for change in changes)
    ]


def compare_arms(arms: Sequence[Arm], gate: Gate, inputs: Mapping[str, Any]) -> Remedies:
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
    measured = tuple(_measured(arm, systems, gate) for arm in arms)
    judges = judges_of(systems[BASELINE]["reference"][0], systems[BASELINE]["candidate"][0])
    judge = next((name for name in (GOLD, gate.judge, *judges) if name in judges), "")
    reference_answers = {tuple(answers["reference"][0].response) for answers in systems.values()}
    inputs = {**inputs, "reference_answers_alike": len(reference_answers) == 1}
    return Remedies(measured, judge, users, choose(arms, gate), len(shared), gate, inputs)


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


def _measured(arm: Arm, systems: Mapping[str, Mapping[str, tuple[Answers, Rewards]]], gate: Gate) -> MeasuredArm:
    """An arm's effects against the reference and against the baseline's policy, on the shared prompts."""
    if arm.rows is None:
        return MeasuredArm(arm, {}, {}, (), ())
    (a, rewards_a), (b, rewards_b) = systems[arm.name]["reference"], systems[arm.name]["candidate"]
    rewards = {model: (rewards_a[model], rewards_b[model], rewards_a[model]) for model in rewards_b}
    reference = effects(a, b, a, rewards, gate)
    if arm.name == BASELINE:
        return MeasuredArm(arm, reference, {}, (), ())
    rival, rewards_rival = systems[BASELINE]["candidate"]
    rewards = {model: (rewards_rival[model], rewards_b[model], rewards_a[model]) for model in rewards_b}
    baseline = effects(rival, b, a, rewards, gate)
    further = tuple(
        name.removeprefix("style/")
        for name, effect in baseline.items()
        if name.startswith("style/") and effect.direction and effect.direction == reference[name].direction
    )
    paying = {axis["axis"] for axis in arm.decision["style"]["axes"] if axis["paid"]}
    return MeasuredArm(arm, reference, baseline, further, tuple(axis for axis in further if axis in paying))


def choose(arms: Sequence[Arm], gate: Gate) -> str | None:
    """The arm that RULE chooses: by ``gate.judge``, never by the truth that only the support world has."""

    def rank(arm: Arm) -> tuple[float, int]:
        gain = _judged_gain(arm, gate)
        return (float("-inf") if gain is None else gain.value, -len(arm.changes))

    promoted = [arm for arm in arms if arm.verdict == "promote"]
    return max(promoted, key=rank).name if promoted else None


def _judged_gain(arm: Arm, gate: Gate) -> Estimate | None:
    """Mean gain over the reference by ``gate.judge``; None where it scored nothing."""
    if arm.rows is None:
        return None
    answers = answers_of(arm.rows)
    return win_rate_by(answers["reference"], answers["candidate"], gate.judge, gate).get("mean_gain")
