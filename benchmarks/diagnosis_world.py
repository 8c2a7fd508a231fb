"""The diagnosis on real trainings of the support world that are made to have one cause at a time.

    python benchmarks/diagnosis_world.py --seeds 5 6 7 8 9

Eight causes and a run without one: benchmarks/diagnosis_causes.py, which was written before these seeds were run. Seeds
0 to 4 served to find faults of the planted causes and of the diagnosis (docs/measured/diagnosis.md) and are not
evidence. A hypothesis that a cause neither names nor excludes may follow from it (a policy that drifts far answers
outside the data, and does so in many small steps); it is shown, not counted. To save time all runs share the world, the
base model and the reward models (but that of few pairs); a seed decides PPO, the evaluation's answers and which of them
are judged. Model and training are smaller than the default's.

A seed takes about four minutes of processor time; what the seeds share takes three.

Every stage is kept under ``--into`` and not run again. The verdicts are always computed from the files, so a changed
statistic needs no training. ``--read`` only prints the tables of the runs that exist.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
from diagnosis_causes import CAUSES, FEW_EPOCHS, SHARED_SEED, Cause, configured, labels

from kellet.config.run import Config
from kellet.diagnosis.diagnose import HYPOTHESES, diagnose
from kellet.diagnosis.evidence import read_evidence
from kellet.evaluation.evaluate import Models, evaluate
from kellet.files import atomic_file, atomic_folder, write_json
from kellet.models import sampling
from kellet.models.base_model import train_base
from kellet.models.trunk import load_base, logits_of
from kellet.policy import train as train_policy
from kellet.policy.controller import AdaptiveKLController
from kellet.reward.card import reward_card
from kellet.reward.model import load_scorer
from kellet.reward.train import train_reward

ROOT = Path(__file__).resolve().parents[1]
IDS = tuple(judge.__name__.split("_")[0].upper() for judge in HYPOTHESES)


class PerToken(AdaptiveKLController):
    """Adapts to the KL per token, which is right only while answers keep the length of the first batch."""

    length = first = 0.0

    def update(self, current: float, n_steps: int) -> None:
        """As the adaptive one, with the KL of answers as long as the first batch's."""
        super().update(current * self.first / self.length, n_steps)


def cooled(temperature: float) -> Any:
    """Logits to sample answers from at another temperature; PPO's log-probabilities stay at temperature 1."""

    def logits(model: Any, states: Any) -> Any:
        return logits_of(model, states) / temperature

    return logits


def write_labels(file: Path, kind: str, config: Config) -> None:
    """Write the labelled pairs, unless the file exists."""
    if not file.exists():
        with atomic_file(file) as temporary:
            labels(kind, config).to_parquet(temporary, index=False)


def labels_and_model(cause: Cause, seed: int, into: Path) -> tuple[Path, Path]:
    """Paths of a run's labels and reward model. Every seed draws its own few pairs; all else is shared by the seeds."""
    home = into / f"seed-{seed}" if cause.labels == "few" else into
    model = home / f"reward-{cause.labels}"
    if cause.scale != 1:
        model = model.with_name(f"{model.name}-{cause.scale:g}")
    return home / f"labels-{cause.labels}.parquet", model


def make_inputs(cause: Cause, seed: int, into: Path) -> None:
    """Make the labels, base model and reward model of a run where they are missing."""
    shared = configured(cause, SHARED_SEED)
    write_labels(into / "labels-honest.parquet", "honest", shared)
    if not (into / "base").exists():
        train_base(shared, into / "labels-honest.parquet", into / "base")
    table, model = labels_and_model(replace(cause, scale=1.0), seed, into)
    config = configured(cause, seed) if cause.labels == "few" else shared
    write_labels(table, cause.labels, config)
    if not model.exists():
        epochs = FEW_EPOCHS if cause.labels == "few" else config.reward_model.epochs
        update = {"reward_model": config.reward_model.model_copy(update={"epochs": epochs})}
        train_reward(config.model_copy(update=update), table, into / "base", model)
    scaled = labels_and_model(cause, seed, into)[1]
    if not scaled.exists():
        with atomic_folder(scaled) as folder:
            shutil.copytree(model, folder, dirs_exist_ok=True)
            settings = json.loads((folder / "reward_model.json").read_text())
            settings["temperature"] /= cause.scale
            (folder / "reward_model.json").write_text(json.dumps(settings))
            causal, tokenizer = load_base(into / "base")
            scorer = load_scorer(causal, folder, tokenizer.eos_token_id)
            pairs = pd.read_parquet(table)
            write_json(
                folder / "card.json", reward_card(scorer, tokenizer, pairs[pairs["split"] == "validation"], shared)
            )


def train(cause: Cause, config: Config, prompts: Path, base: Path, model: Path, out: Path) -> None:
    """Train the policy, with the parts that the cause replaces."""
    controller = PerToken(*(getattr(config.policy.kl, name) for name in ("init_coef", "target", "horizon")))

    def measured(*given: Any) -> Any:
        batch, states = sampling.sample_states(*given)
        controller.length = float(batch.response_mask.sum(1).float().mean())
        controller.first = controller.first or controller.length
        return batch, states

    with ExitStack() as replaced:
        if cause.per_token:
            replaced.enter_context(patch.object(train_policy, "build_controller", lambda _: controller))
            replaced.enter_context(patch.object(train_policy, "sample_states", measured))
        if cause.temperature != 1:
            replaced.enter_context(patch.object(sampling, "logits_of", cooled(cause.temperature)))
        train_policy.train_policy(config, prompts, base, model, out)


def run(name: str, seed: int, into: Path) -> None:
    """Run all stages of one run whose output does not exist."""
    cause, home, started = CAUSES[name], into / f"seed-{seed}" / name, time.process_time()
    if (home / "evaluation").exists():
        return
    config = configured(cause, seed)
    make_inputs(cause, seed, into)
    shared = time.process_time() - started
    prompts, base, model = into / "labels-honest.parquet", into / "base", labels_and_model(cause, seed, into)[1]
    if not (home / "policy").exists():
        train(cause, config, prompts, base, model, home / "policy")
    evaluate(config, prompts, Models(base, model, home / "policy"), home / "evaluation")
    used = time.process_time() - started
    print(f"seed {seed}, {name}: {used:.0f} s of processor, {shared:.0f} s of it for what runs share", flush=True)


def verdicts(name: str, seed: int, into: Path) -> tuple[dict[str, str], str] | None:
    """Verdict by hypothesis, and how the policy changed, in words; None when the run does not exist."""
    cause, home = CAUSES[name], into / f"seed-{seed}"
    evaluation = home / name / "evaluation" / "evaluation.parquet"
    if not evaluation.exists():
        return None
    table, model = labels_and_model(cause, seed, into)
    files = (home / name / "policy/history.jsonl", table, model / "card.json")
    evidence = read_evidence(configured(cause, seed), evaluation, *files)
    diagnosis = diagnose(evidence)
    with atomic_file(home / name / "diagnosis.json") as temporary:
        temporary.write_text(json.dumps(diagnosis.to_dict(), indent=1, default=str))
    mean = pd.read_parquet(evaluation).groupby("system")[["reward", "judge_gold", "length_tokens", "kl_nats"]].mean()
    change = mean.loc["candidate"] - mean.loc["reference"]
    longer = change["length_tokens"] / mean.loc["reference", "length_tokens"]
    changes = (
        f"reward {change['reward']:+.2f}, gold {change['judge_gold']:+.2f}, length {longer:+.0%}, "
        f"KL {mean.loc['candidate', 'kl_nats']:.1f}"
    )
    return {item.id: item.verdict for item in diagnosis.hypotheses}, changes


def table(runs: dict[tuple[str, int], tuple[dict[str, str], str]], seeds: list[int]) -> Iterator[str]:
    """Markdown: counts of runs that support a hypothesis, named ones in bold, absent ones marked; and both rates."""
    marks = {"supported": "x", "not supported": "-", "cannot tell": "?"}
    yield f"| cause | runs | named | {' | '.join(IDS)} |"
    yield "|---" * (len(IDS) + 3) + "|"
    hits = made = false = absent = 0
    wrong = dict.fromkeys(IDS, 0)
    asked = dict.fromkeys(IDS, 0)
    for name, cause in CAUSES.items():
        of_cause = [runs[name, seed][0] for seed in seeds if (name, seed) in runs]
        named = [all(any(run[id_] == "supported" for id_ in group) for group in cause.names) for run in of_cause]
        cells = []
        for id_ in IDS:
            count = sum(run[id_] == "supported" for run in of_cause)
            cells.append(f"**{count}**" if any(id_ in group for group in cause.names) else f"{count}")
            if id_ in cause.absent:
                cells[-1] = f"{count}!" if count else "·"
                wrong[id_], asked[id_] = wrong[id_] + count, asked[id_] + len(of_cause)
        yield f"| {cause.what} | {len(of_cause)} | {sum(named) if cause.names else '–'} | {' | '.join(cells)} |"
        if cause.names:
            hits, made = hits + sum(named), made + len(of_cause)
    false, absent = sum(wrong.values()), sum(asked.values())
    yield f"\nThe cause is among the supported hypotheses in {hits} of {made} runs ({hits / max(made, 1):.0%})."
    yield f"An absent one is called supported in {false} of {absent} cases ({false / max(absent, 1):.1%}); of these"
    yield ", ".join(f"{id_} {wrong[id_]} of {asked[id_]}" for id_ in IDS if asked[id_])
    yield f"\n| run | what became of it | {' | '.join(IDS)} |"
    yield "|---" * (len(IDS) + 2) + "|"
    for (name, seed), (verdict, changes) in runs.items():
        yield f"| {name} {seed} | {changes} | {' | '.join(marks[verdict[id_]] for id_ in IDS)} |"


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--causes", nargs="+", choices=list(CAUSES), default=list(CAUSES))
    parser.add_argument("--into", type=Path, default=ROOT / "artifacts" / "diagnosis_world")
    parser.add_argument("--read", action="store_true", help="train nothing, print the tables of the runs that exist")
    given = parser.parse_args()
    for seed in given.seeds:
        for name in [] if given.read else given.causes:
            run(name, seed, given.into)
    runs = {
        (name, seed): result
        for seed in given.seeds
        for name in given.causes
        if (result := verdicts(name, seed, given.into)) is not None
    }
    print("\n".join(table(runs, given.seeds)))


if __name__ == "__main__":
    main()
