"""Recommended changes as arms beside a baseline: run, scored by each other's reward models, compared, written."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from prefect import task
from pydantic import BaseModel

from adapters.artefacts import Artefact, cache_key, folder, make
from adapters.dvc import Dataset
from adapters.log import logger, progress, show_markdown
from adapters.outcome import RemediesOutcome
from adapters.parallel import alone, one_server
from adapters.parameters import load
from adapters.settings import RUNS
from adapters.tracking import lineage
from kellet.config.file import dump_config
from kellet.config.run import Config
from kellet.errors import NotPromoted
from kellet.files import atomic_folder, write_json
from kellet.remedies.measure import BASELINE, Arm, Remedies, arms_of, compare_arms
from tasks.stages import decide, diagnose, evaluate, gather, read_card, train_judge, train_policy, train_reward

STAGES = ("reward_model", "policy", "evaluation")
"""The stages whose processor time is an arm's cost."""


class Plan(BaseModel):
    """An arm before it is run."""

    name: str
    config: Config
    changes: list[dict[str, Any]] = []
    patch: dict[str, Any] = {}


class Ran(BaseModel):
    """An arm after it was run, as far as it came: the artefacts of its stages."""

    plan: Plan
    stages: dict[str, Artefact]
    stopped: str = ""


def baseline_plan(config: Config) -> Plan:
    """The retraining as it is."""
    return Plan(name=BASELINE, config=config)


def plan_arms(baseline: Ran, params: str, overrides: tuple[str, ...]) -> list[Plan]:
    """The recommendations of the baseline's diagnosis, alone and together. Raises NotPromoted where it came to none."""
    if baseline.stopped:
        raise NotPromoted(f"the baseline came to no diagnosis: {baseline.stopped}")
    told = json.loads((baseline.stages["diagnosis"].path / "diagnosis.json").read_text(encoding="utf-8"))
    plans = []
    for name, changes, patch in arms_of(told["recommendations"]):
        more = tuple(f"{key}={json.dumps(value)}" for key, value in patch.items())
        config = load(params, (*overrides, *more, f"name={baseline.plan.config.name}-{name}"))
        plans.append(Plan(name=name, config=config, changes=[dict(change) for change in changes], patch=patch))
    return plans


@task(name="arm", task_run_name="arm-{plan.name}")
def run_arm(plan: Plan, data: Dataset, base: Artefact, champion: Artefact | None) -> Ran:
    """One retraining without registration. A 'no' on the way (no lift, an alarm) is this arm's result.

    Arms in one process, as threads of a worker are, wait for each other (adapters/parallel.py says why).
    """
    from kellet.reward.card import require_lift

    config, stages = plan.config, dict[str, Artefact]()
    origin = lineage(config, data)
    with alone():
        try:
            reward = stages["reward_model"] = train_reward(config, data, base)
            if config.reward_model.require_lift:
                require_lift(read_card(reward))
            policy = stages["policy"] = train_policy(config, data, base, reward)
            judge = train_judge(config, data, base) if config.evaluation.judge else None
            evaluation = stages["evaluation"] = evaluate(config, data, base, reward, policy, champion, judge)
            stages["gate"] = decide(config, reward, evaluation, origin)
            stages["diagnosis"] = diagnose(config, data, reward, policy, evaluation, origin)
        except NotPromoted as error:
            logger().warning("arm %s: %s", plan.name, error)
            return Ran(plan=plan, stages=stages, stopped=str(error))
    return Ran(plan=plan, stages=stages)


def run_arms(
    plans: Sequence[Plan], data: Dataset, base: Artefact, champion: Artefact | None, parallel: bool
) -> list[Ran]:
    """Run the arms, through the flow's task runner all at once, or one after another in this process."""
    if not parallel:
        return [run_arm(plan, data, base, champion) for plan in plans]
    with one_server():
        futures = [run_arm.submit(plan, data, base, champion) for plan in plans]
        return [future.result() for future in futures]


def score_all(config: Config, base: Artefact, arms: Sequence[Ran]) -> dict[str, Artefact]:
    """Every distinct reward model on every answer of every arm: reward model's hash -> scores."""
    evaluations = {ran.plan.name: ran.stages["evaluation"] for ran in arms if "evaluation" in ran.stages}
    rewards = {ran.stages["reward_model"].hash: ran.stages["reward_model"] for ran in arms if not ran.stopped}
    return {hash_: score(config, base, reward, evaluations) for hash_, reward in rewards.items()}


@task(name="rescoring", cache_key_fn=cache_key, persist_result=True, result_serializer="json")
def score(config: Config, base: Artefact, reward: Artefact, evaluations: dict[str, Artefact]) -> Artefact:
    """One reward model on the answers of all arms."""
    from kellet.reward import rescore as stage

    files = {name: item.path / "evaluation.parquet" for name, item in evaluations.items()}
    path = folder("rescoring", config, {"base": base, "reward": reward, "evaluations": evaluations})
    report = progress("rescoring")
    return make(path, lambda out: stage.rescore(config, base.path, reward.path, files, out, report))


@task(name="compare-arms")
def compare(config: Config, arms: Sequence[Ran], scores: dict[str, Artefact], origin: dict[str, str]) -> Remedies:
    """Measure every arm against baseline and reference."""
    import pandas as pd

    from kellet.reward.rescore import agreement

    tables = {hash_: pd.read_parquet(item.path / "scores.parquet") for hash_, item in scores.items()}
    names: dict[str, str] = {}
    for ran in arms:
        if not ran.stopped:
            names.setdefault(ran.stages["reward_model"].hash, ran.plan.name)
    timed = {
        item.path: item.cpu_seconds for ran in arms for item in ran.stages.values() if item.cpu_seconds is not None
    }
    told = [_arm(ran, {names[hash_]: table for hash_, table in tables.items()}, names, timed) for ran in arms]
    apart = {
        arm.name: agreement(tables[ran.stages["reward_model"].hash], arm.rows)
        for ran, arm in zip(arms, told, strict=True)
        if arm.rows is not None
    }
    return compare_arms(told, config.gate, {**origin, "rescored_from_text_mean_difference": apart})


@task(name="publish-remedies")
def publish(config: Config, found: Remedies, arms: Sequence[Ran]) -> RemediesOutcome:
    """Write runs/NAME-remedies, the measured effects into diagnosis.json, and the table into Prefect."""
    from kellet.remedies import text as remedies_text
    from kellet.report import remedies_page

    target = RUNS / f"{config.name}-remedies"
    with atomic_folder(target) as temporary:
        write_json(temporary / "remedies.json", remedies_text.to_dict(found))
        (temporary / "remedies.md").write_text(f"{remedies_text.as_markdown(found)}\n", encoding="utf-8")
        histories = {ran.plan.name: _history(ran) for ran in arms}
        remedies_page.write(temporary / "remedies.html", config.name, found, histories)
        for ran in arms:
            _copy(ran, temporary / ran.plan.name)
        if found.chosen:
            chosen = next(ran.plan for ran in arms if ran.plan.name == found.chosen)
            (temporary / "next.yaml").write_text(_next(config, chosen, found), encoding="utf-8")
        write_json(temporary / "diagnosis.json", _with_measured(temporary / BASELINE / "diagnosis.json", found))
    _tell_run(RUNS / config.name, target)
    outcome = RemediesOutcome(name=config.name, chosen=found.chosen, table=remedies_text.as_text(found), folder=target)
    show_markdown(remedies_text.as_markdown(found), f"remedies-{config.name}", str(found.chosen))
    return outcome


def _arm(ran: Ran, tables: Mapping[str, Any], names: Mapping[str, str], timed: Mapping[Path, float]) -> Arm:
    """What the comparison of the arms reads."""
    import pandas as pd

    from kellet.evaluation.file import check_evaluation
    from kellet.reward.rescore import rewards_of

    card = read_card(ran.stages["reward_model"]) if "reward_model" in ran.stages else {}
    common: dict[str, Any] = {"name": ran.plan.name, "changes": ran.plan.changes, "patch": ran.plan.patch, "card": card}
    if ran.stopped:
        return Arm(**common, stopped=ran.stopped)
    rows = check_evaluation(pd.read_parquet(ran.stages["evaluation"].path / "evaluation.parquet"))
    return Arm(
        **common,
        rows=rows,
        decision=json.loads((ran.stages["gate"].path / "gate.json").read_text(encoding="utf-8")),
        reward_model=names[ran.stages["reward_model"].hash],
        rewards={model: rewards_of(table, rows) for model, table in tables.items()},
        seconds={stage: timed.get(ran.stages[stage].path) for stage in STAGES},
    )


def _copy(ran: Ran, out: Path) -> None:
    """The files of an arm as a run's folder has them, for ``kellet compare``."""
    out.mkdir()
    gather(ran.plan.config, ran.stages, out)


def _history(ran: Ran) -> list[dict[str, Any]]:
    from kellet.diagnosis.history import read_history

    return list(read_history(ran.stages["policy"].path / "history.jsonl", gaps=True)) if "policy" in ran.stages else []


def _next(config: Config, chosen: Plan, found: Remedies) -> str:
    """The parameter file of the next retraining: the arm's, under the name of the baseline."""
    from kellet.remedies.text import ready

    parameters = chosen.config.model_copy(update={"name": config.name})
    changed = yaml.safe_dump(chosen.patch, sort_keys=True).splitlines() if chosen.patch else ["nothing"]
    comment = [ready(found), "Changed from the baseline:", *(f"  {line}" for line in changed)]
    return "\n".join([*(f"# {line}" for line in comment), dump_config(parameters)])


def _with_measured(file: Path, found: Remedies) -> dict[str, Any]:
    """The baseline's diagnosis with measured effects in its recommendations."""
    from kellet.remedies.measure import FIRST, SECOND
    from kellet.remedies.text import measured_effects

    diagnosis = dict(json.loads(file.read_text(encoding="utf-8")))
    for name, recommendation in zip((FIRST, SECOND), diagnosis["recommendations"], strict=True):
        recommendation["measured"] = measured_effects(found.arm(name), found)
    return diagnosis


def _tell_run(run: Path, target: Path) -> None:
    """Put the measured diagnosis into runs/NAME too, where that holds the same one."""
    theirs, ours = run / "diagnosis.json", target / "diagnosis.json"
    if theirs.is_file() and target.is_dir():
        old, new = (json.loads(file.read_text(encoding="utf-8")) for file in (theirs, ours))
        if old["inputs"].get("evaluation") == new["inputs"].get("evaluation"):
            write_json(theirs, new)
