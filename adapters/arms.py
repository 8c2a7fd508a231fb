"""The arms of flows/remedies.py: planned from a diagnosis, and read from the artefacts that running them left."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from adapters.artefacts import Artefact
from adapters.parameters import load
from kellet.config.run import Config
from kellet.errors import NotPromoted
from kellet.files import read_json
from kellet.remedies.measure import BASELINE, Arm, arms_of

TIMED = ("reward_model", "policy", "evaluation")
"""The stages whose processor time is an arm's cost."""


class Plan(BaseModel):
    """An arm before it is run."""

    name: str
    config: Config
    changes: list[dict[str, Any]] = []
    patch: dict[str, Any] = {}


class ArmRun(BaseModel):
    """An arm after it was run: the artefacts of its stages, as far as it came."""

    plan: Plan
    stages: dict[str, Artefact]
    stopped: str = ""
    """Why it came to no verdict; empty when it has one."""


def plan_baseline(config: Config) -> Plan:
    """The retraining without any change."""
    return Plan(name=BASELINE, config=config)


def plan_arms(baseline: ArmRun, params: str, overrides: tuple[str, ...]) -> list[Plan]:
    """The recommendations of the baseline's diagnosis, alone and together.

    Raises NotPromoted where it has no diagnosis, and where neither recommendation changes a parameter.
    """
    if baseline.stopped:
        raise NotPromoted(f"the baseline came to no diagnosis: {baseline.stopped}")
    diagnosis = read_json(baseline.stages["diagnosis"].path / "diagnosis.json")
    plans = []
    for name, changes, patch in arms_of(diagnosis["recommendations"]):
        changed = tuple(f"{key}={json.dumps(value)}" for key, value in patch.items())
        config = load(params, (*overrides, *changed, f"name={baseline.plan.config.name}-{name}"))
        plans.append(Plan(name=name, config=config, changes=[dict(change) for change in changes], patch=patch))
    if not plans:
        asked = "; ".join(str(item["change"]) for item in diagnosis["recommendations"])
        raise NotPromoted(f"there is nothing to measure: no recommendation changes a parameter. First: {asked}")
    return plans


def read_arms(runs: Sequence[ArmRun], scores: Mapping[str, Artefact]) -> tuple[list[Arm], dict[str, float]]:
    """The arms as kellet.remedies compares them, and by arm how far rescoring its texts is from its own rewards.

    ``scores``: by the hash of a reward model, its scores of all arms' answers. A reward model has the name of the first
    arm that was trained against it.
    """
    import pandas as pd

    from kellet.reward.rescore import agreement

    tables = {hash_: pd.read_parquet(artefact.path / "scores.parquet") for hash_, artefact in scores.items()}
    names: dict[str, str] = {}
    for run in runs:
        if not run.stopped:
            names.setdefault(run.stages["reward_model"].hash, run.plan.name)
    by_name = {names[hash_]: table for hash_, table in tables.items()}
    seconds = _cpu_seconds(runs)
    arms = [_arm(run, by_name, names, seconds) for run in runs]
    differences = {arm.name: agreement(by_name[arm.reward_model], arm.rows) for arm in arms if arm.rows is not None}
    return arms, differences


def _arm(run: ArmRun, tables: Mapping[str, Any], names: Mapping[str, str], seconds: Mapping[str, float]) -> Arm:
    from kellet.evaluation.file import read_evaluation
    from kellet.reward.rescore import rewards_of

    stages, plan = run.stages, run.plan
    card = read_json(stages["reward_model"].path / "card.json") if "reward_model" in stages else {}
    if run.stopped:
        return Arm(plan.name, plan.changes, plan.patch, card=card, stopped=run.stopped)
    rows = read_evaluation(stages["evaluation"].path / "evaluation.parquet")
    return Arm(
        plan.name,
        plan.changes,
        plan.patch,
        rows=rows,
        decision=read_json(stages["gate"].path / "gate.json"),
        card=card,
        reward_model=names[stages["reward_model"].hash],
        rewards={model: rewards_of(table, rows) for model, table in tables.items()},
        seconds={stage: seconds.get(str(stages[stage].path)) for stage in TIMED},
    )


def _cpu_seconds(runs: Sequence[ArmRun]) -> dict[str, float]:
    """Processor seconds by folder of an artefact; of arms that share one, only the arm that made it was timed."""
    artefacts = [artefact for run in runs for artefact in run.stages.values()]
    return {str(item.path): item.cpu_seconds for item in artefacts if item.cpu_seconds is not None}
