"""Recommended changes as arms beside a baseline, as Prefect tasks: run, rescored, compared, published."""

from collections.abc import Sequence

from prefect import task

from adapters.arms import ArmRun, Plan, read_arms
from adapters.artefacts import Artefact, folder, make
from adapters.dvc import Dataset
from adapters.log import logger, progress, show_markdown
from adapters.outcome import RemediesOutcome
from adapters.parallel import alone, one_server
from adapters.settings import RUNS
from adapters.tracking import lineage
from kellet.config.run import Config
from kellet.errors import NotPromoted
from kellet.files import read_json
from kellet.remedies import measure
from kellet.remedies.measure import Remedies
from tasks.stages import decide, diagnose, evaluate, reward_base, train_judge, train_policy, train_reward


@task(name="arm", task_run_name="arm-{plan.name}")
def run_arm(plan: Plan, data: Dataset, base: Artefact, rivals: dict[str, Artefact], look: int | None) -> ArmRun:
    """One retraining without registration, on the prompts of look ``look`` where the looks' prompts differ.

    A 'no' on the way (no lift, an alarm) is this arm's result. Its verdict stands alone, as no look of the programme.

    Arms in one process, as threads of a worker are, wait for each other (adapters/parallel.py says why).
    """
    from kellet.reward.card import require_lift

    config, stages = plan.config, dict[str, Artefact]()
    origin = lineage(config, data)
    with alone():
        try:
            scored_on = reward_base(config, base)
            reward = stages["reward_model"] = train_reward(config, data, scored_on)
            if config.reward_model.require_lift:
                require_lift(read_json(reward.path / "card.json"))
            policy = stages["policy"] = train_policy(config, data, base, reward, scored_on)
            judge = train_judge(config, data, scored_on) if config.evaluation.judge else None
            drawn = evaluate(config, data, base, reward, policy, rivals, scored_on, judge, look)
            evaluation = stages["evaluation"] = drawn
            stages["gate"] = decide(config, reward, evaluation, origin)
            stages["diagnosis"] = diagnose(config, data, reward, policy, evaluation, origin)
        except NotPromoted as error:
            logger().warning("arm %s: %s", plan.name, error)
            return ArmRun(plan=plan, stages=stages, stopped=str(error))
    return ArmRun(plan=plan, stages=stages)


def run_arms(
    plans: Sequence[Plan],
    data: Dataset,
    base: Artefact,
    rivals: dict[str, Artefact],
    look: int | None,
    parallel: bool,
) -> list[ArmRun]:
    """Run the arms, through the flow's task runner all at once, or one after another in this process."""
    if not parallel:
        return [run_arm(plan, data, base, rivals, look) for plan in plans]
    with one_server():
        futures = [run_arm.submit(plan, data, base, rivals, look) for plan in plans]
        return [future.result() for future in futures]


def rescore_all(config: Config, base: Artefact, runs: Sequence[ArmRun]) -> dict[str, Artefact]:
    """Score every answer of every arm by each distinct reward model: reward model's hash -> scores."""
    evaluations = {run.plan.name: run.stages["evaluation"] for run in runs if "evaluation" in run.stages}
    rewards = {run.stages["reward_model"].hash: run.stages["reward_model"] for run in runs if not run.stopped}
    scored_on = reward_base(config, base)
    return {hash_: rescore(config, scored_on, reward, evaluations) for hash_, reward in rewards.items()}


@task(name="rescoring")
def rescore(config: Config, base: Artefact, reward: Artefact, evaluations: dict[str, Artefact]) -> Artefact:
    """Score the answers of all arms by one reward model."""
    from kellet.reward import rescore as stage

    files = {name: evaluation.path / "evaluation.parquet" for name, evaluation in evaluations.items()}
    path = folder("rescoring", config, {"base": base, "reward": reward, "evaluations": evaluations})
    report = progress("rescoring")
    return make(path, lambda out: stage.rescore(config, base.path, reward.path, files, out, report))


@task(name="compare-arms")
def compare_arms(
    config: Config, runs: Sequence[ArmRun], scores: dict[str, Artefact], origin: dict[str, str]
) -> Remedies:
    """Measure every arm against baseline and reference."""
    arms, differences = read_arms(runs, scores)
    return measure.compare_arms(arms, config.gate, {**origin, "rescored_from_text_mean_difference": differences})


@task(name="publish-remedies")
def publish(config: Config, remedies: Remedies, runs: Sequence[ArmRun]) -> RemediesOutcome:
    """Write runs/NAME-remedies, the measured effects into diagnosis.json, and the table into Prefect."""
    from kellet.remedies import text
    from kellet.report.remedies_folder import ArmFiles, add_effects, write_remedies

    target = RUNS / f"{config.name}-remedies"
    folders = {run.plan.name: {stage: artefact.path for stage, artefact in run.stages.items()} for run in runs}
    arms = {run.plan.name: ArmFiles(run.plan.config, folders[run.plan.name]) for run in runs}
    write_remedies(target, config.name, remedies, arms)
    add_effects(RUNS / config.name, target)
    show_markdown(text.as_markdown(remedies), f"remedies-{config.name}", str(remedies.chosen))
    return RemediesOutcome(name=config.name, chosen=remedies.chosen, table=text.as_text(remedies), folder=target)
