"""The computing stages as Prefect tasks: each calls one function of kellet and gives an Artefact.

A stage whose inputs, parameters and code are unchanged is not computed again (adapters/artefacts.py). None is retried:
the same inputs would fail the same way. kellet's modules are imported where they are used, so that a retraining that
recomputes nothing does not wait for torch.
"""

from pathlib import Path
from typing import Any

from prefect import task

from adapters.artefacts import Artefact, folder, make
from adapters.dvc import Dataset
from adapters.log import logger, progress
from kellet.config.run import Config
from kellet.files import atomic_folder, content_hash, read_json, write_json
from kellet.gate.programme import Look
from kellet.manifest import write_manifest


def base_model(config: Config, data: Dataset) -> Artefact:
    """The base model, which is also the reference: the one that the parameters name, or a trained one."""
    return given_base(config.base_model.path) if config.base_model.path else train_base(config, data)


def reward_base(config: Config, base: Artefact) -> Artefact:
    """The base of reward model and judge: the one that ``reward_model.base`` names, or the policy's, ``base``."""
    return given_base(config.reward_model.base) if config.reward_model.base else base


@task(name="given-base")
def given_base(named: str) -> Artefact:
    """The model that the parameters name: a local folder, or a hub name, whose snapshot is downloaded."""
    path = Path(named).expanduser()
    if not path.is_dir():
        from huggingface_hub import snapshot_download

        needed = ["*.json", "*.safetensors", "*.model", "*.txt"]
        path = Path(snapshot_download(named, allow_patterns=needed))
    return Artefact(stage="base_model", path=path, hash=content_hash(path))


@task(name="base_model")
def train_base(config: Config, data: Dataset) -> Artefact:
    """Train the small base model on the training texts."""
    from kellet.models import base_model as stage

    path = folder("base_model", config, {"data": data})
    return make(path, lambda out: stage.train_base(config, data.preferences, out, progress("base_model")))


@task(name="reward_model")
def train_reward(config: Config, data: Dataset, base: Artefact) -> Artefact:
    """Train the reward model on its base and write its card."""
    from kellet.reward import train as stage

    path = folder("reward_model", config, {"data": data, "base": base})
    report = progress("reward_model")
    return make(path, lambda out: stage.train_reward(config, data.preferences, base.path, out, report))


@task(name="policy")
def train_policy(config: Config, data: Dataset, base: Artefact, reward: Artefact, reward_base: Artefact) -> Artefact:
    """Train the policy by PPO against the reward model on ``reward_base``."""
    from kellet.policy import train as stage

    path = folder("policy", config, {"data": data, "base": base, "reward": reward, "reward_base": reward_base})
    inputs, own, report = (data.preferences, base.path, reward.path), own_base(reward_base, base), progress("policy")
    return make(path, lambda out: stage.train_policy(config, *inputs, out, report, own))


def own_base(reward_base: Artefact, base: Artefact) -> Path | None:
    """Where the reward model's base is; None where it is the policy's, which is then in memory once."""
    return None if reward_base.hash == base.hash else reward_base.path


@task(name="judge")
def train_judge(config: Config, data: Dataset, base: Artefact) -> Artefact:
    """Train the second reward model, which judges the answers of the evaluation; without lift it gives no scores."""
    from kellet.reward import judge_model as stage
    from kellet.reward.card import shows_lift

    path = folder("judge", config, {"data": data, "base": base})
    report = progress("judge")
    judge = make(path, lambda out: stage.train_judge(config, data.preferences, base.path, out, report))
    if not shows_lift(read_json(judge.path / "card.json")):
        logger().warning("judge: no lift over 'always the longer one' is shown; %s stays empty", stage.COLUMN)
    return judge


@task(name="evaluation")
def evaluate(
    config: Config,
    data: Dataset,
    base: Artefact,
    reward: Artefact,
    policy: Artefact,
    rivals: dict[str, Artefact],
    reward_base: Artefact,
    judge: Artefact | None = None,
    look: int | None = None,
) -> Artefact:
    """Sample answers of candidate, reference and rivals to the held-out prompts; score them, also by the judge.

    ``look``: the number of the look, where it decides which prompts are asked.
    """
    from kellet.evaluation import evaluate as stage

    inputs = {"data": data, "base": base, "reward": reward, "policy": policy, "rivals": rivals, "judge": judge}
    inputs["reward_base"] = reward_base
    optional = (rivals.get("champion"), judge, rivals.get("anchor"))
    paths = (*(artefact.path if artefact else None for artefact in optional), own_base(reward_base, base))
    models = stage.Models(base.path, reward.path, policy.path, *paths)
    path, report = folder("evaluation", config, {**inputs, "look": look}), progress("evaluation")
    return make(path, lambda out: stage.evaluate(config, data.preferences, models, out, report, look or 1))


@task(name="gate")
def decide(
    config: Config, reward: Artefact, evaluation: Artefact, origin: dict[str, str], look: Look | None = None
) -> Artefact:
    """Decide by the evaluation: promote, block or inconclusive (gate.json). Without a look it stands alone."""
    from kellet.evaluation.file import read_evaluation
    from kellet.gate import verdict as stage

    def write(out: Path) -> None:
        rows = read_evaluation(evaluation.path / "evaluation.parquet")
        facts = {**origin, "evaluation": evaluation.hash}
        decision = stage.decide(rows, config.gate, facts, read_json(reward.path / "card.json"), look)
        with atomic_folder(out) as temporary:
            write_json(temporary / "gate.json", decision.to_dict())
            write_manifest(temporary, "gate", evaluation=evaluation.path)

    inputs = {"reward": reward, "evaluation": evaluation, "origin": origin, "look": look}
    return make(folder("gate", config, inputs), write)


@task(name="diagnosis")
def diagnose(
    config: Config, data: Dataset, reward: Artefact, policy: Artefact, evaluation: Artefact, origin: dict[str, str]
) -> Artefact:
    """Explain the verdict from the files of the other stages (diagnosis.json)."""
    from kellet.diagnosis import diagnose as stage
    from kellet.diagnosis.evidence import Evidence, read_pairs
    from kellet.diagnosis.history import read_history
    from kellet.evaluation.file import read_evaluation

    def write(out: Path) -> None:
        evidence = Evidence(
            read_evaluation(evaluation.path / "evaluation.parquet"),
            read_history(policy.path / "history.jsonl", gaps=True),
            read_pairs(data.preferences),
            read_json(reward.path / "card.json"),
            config,
        )
        with atomic_folder(out) as temporary:
            stage.diagnose(evidence, {**origin, "evaluation": evaluation.hash}).write(temporary / "diagnosis.json")
            write_manifest(temporary, "diagnosis", evaluation=evaluation.path)

    inputs = {"data": data, "reward": reward, "policy": policy, "evaluation": evaluation, "origin": origin}
    return make(folder("diagnosis", config, inputs), write)


@task(name="report")
def write_report(
    config: Config,
    data: Dataset,
    reward: Artefact,
    policy: Artefact,
    evaluation: Artefact,
    gate: Artefact,
    diagnosis: Artefact,
    origin: dict[str, str],
    champion: dict[str, Any] | None,
) -> Artefact:
    """Write report.html, beside the files that it is made from."""
    from kellet.report import page as stage
    from kellet.report.run import gather, read_run

    stages = {"reward": reward, "policy": policy, "evaluation": evaluation, "gate": gate, "diagnosis": diagnosis}

    def write(out: Path) -> None:
        with atomic_folder(out) as temporary:
            folders = {name: artefact.path for name, artefact in stages.items()}
            gather(config, {**folders, "reward_model": reward.path}, temporary)
            run = read_run(temporary, answers=True)
            stage.write_report(temporary / "report.html", run, data.summary, champion)
            write_manifest(temporary, "report")

    return make(folder("report", config, {"data": data, **stages, "origin": origin, "champion": champion}), write)
