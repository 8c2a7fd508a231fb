"""The diagnosis on real trainings of the support world that are made to have one cause at a time.

    python benchmarks/diagnosis_world.py --seeds 5 6 7 8 9

Eight causes and a run without one. CAUSES says, for each, which hypotheses must be supported (``names``) and which
must not (``absent``); it was written before these seeds were run. Seeds 0 to 4 served to find what was wrong with the
plants and with the diagnosis (docs/measured/diagnosis.md) and are not evidence. What is in neither list may follow from the
cause (a policy that drifts far is asked outside the data, and does so in many small steps) and is shown, not counted.
To save time all runs share the world, the base model and the reward models (but that of few pairs); a seed decides PPO,
the evaluation's answers and who judges which of them. Model and training are smaller than the default's.

A seed takes about four minutes of processor time, what the seeds share three.

Every stage is kept under ``--into`` and not run again; the verdicts are made anew from the files, so that a changed
statistic is tabled without training. ``--read`` only tables what is there.
"""

import argparse
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from kellet.config.run import Config
from kellet.data.prepare import split_of
from kellet.data.world import gold, synthesise
from kellet.diagnosis.diagnose import HYPOTHESES, diagnose
from kellet.diagnosis.evidence import read_evidence
from kellet.diagnosis.reward_hypotheses import word_counts
from kellet.evaluation.evaluate import Models, evaluate
from kellet.files import atomic_file, atomic_folder, write_json
from kellet.models import sampling as rollout
from kellet.models.base_model import train_base
from kellet.models.trunk import load_base, logits_of
from kellet.policy import train as train_policy
from kellet.policy.controller import AdaptiveKLController
from kellet.reward.card import reward_card
from kellet.reward.model import load_scorer
from kellet.reward.train import train_reward
from kellet.stats.bootstrap import Floats
from kellet.stats.style import style

ROOT = Path(__file__).resolve().parents[1]
IDS = tuple(judge.__name__.split("_")[0].upper() for judge in HYPOTHESES)
SETTINGS: dict[str, Any] = {
    "data": {"world": {"prompts": 1200}},
    "text": {"max_response_tokens": 80},
    "base_model": {"steps": 320, "heads": 8},
    "reward_model": {"length_control": "none"},
    "policy": {
        "iterations": 32,
        "batch_size": 48,
        "minibatch_size": 24,
        "epochs": 1,
        "learning_rate": 1.5e-3,
        "lam": 1.0,
    },
    "evaluation": {"prompts": 128, "batch_size": 256},
    "gate": {"kl_budget": 4.0},
}
"""What differs from the defaults (kellet/config/) in every run."""
HELD = {"controller": "fixed", "init_coef": 0.3}
"""A penalty that keeps KL within the budget of 4 nats, which is half of the default's in so short a training: there is
no drift to explain. An adaptive controller does not do it here: KL is near 0 in the first ten of so few iterations, and
β is wound down by then."""
STEERED = {"controller": "adaptive", "init_coef": 0.1, "target": 3.0, "horizon": 100.0}
FEW = 40
"""Pairs of a reward model that has too few ..."""
FEW_EPOCHS = 40
"""... and passes over them, until it has them by heart."""
SHARED_SEED = 100
"""Of the world, the base model and the reward models that the seeds share."""
COURTESY_TASTE = 3.0
"""Logits that labels add for one courtesy more. What that adds for length is taken off again: a courtesy is 14 words
long, so that labels which like it like length too, and so does the reward model that learns from them."""
DRIFT, HELD_BACK = ("A1", "A2", "A4", "A5", "C4", "C5"), ("B2", "C1", "C2", "C3", "C4", "C5")


@dataclass(frozen=True)
class Cause:
    """One way in which a retraining goes wrong."""

    what: str
    names: tuple[tuple[str, ...], ...]
    """Hypotheses that must be supported: one of each group."""
    absent: tuple[str, ...]
    """Hypotheses that are false by the way the run was made."""
    labels: str = "honest"
    controller: dict[str, Any] = field(default_factory=lambda: HELD)
    scale: float = 1.0
    """Factor of the reward."""
    per_token: bool = False
    """The controller is told the KL of a token, times the first batch's mean length."""
    temperature: float = 1.0
    """Of sampling in training."""


CAUSES = {
    "labels": Cause("labels like length (λ = 1)", (("A1",), ("A2",)), ("A5", *HELD_BACK), "length"),
    "few": Cause(f"honest labels, {FEW} pairs", (("A3",),), ("A1", "C1", "C4", "C5"), "few"),
    "beta": Cause("β too small", (("C1",),), DRIFT, controller={"controller": "fixed", "init_coef": 0.005}),
    "courtesy": Cause("labels like courtesy, not length", (("A5",),), ("A1", "A2", "A4", *HELD_BACK), "courtesy"),
    "scale": Cause(
        "reward scale doubled", (("C1", "C2"),), DRIFT, controller={"controller": "fixed", "init_coef": 0.05}, scale=2.0
    ),
    "horizon": Cause(
        "controller's horizon 100 times as long, β from 0.005",
        (("C4",),),
        ("A1", "A2", "A4", "A5", "C5"),
        controller=STEERED | {"init_coef": 0.005, "horizon": 30_000.0},
    ),
    "per_token": Cause(
        "target per token, answers that grow",
        (("C2",),),
        ("A5", "C5"),
        "length",
        controller=STEERED | {"init_coef": 0.3},
        per_token=True,
    ),
    "sampling": Cause(
        "sampled at temperature 0.6", (("C5",),), ("A1", "A2", "A4", "A5", "C1", "C2", "C4"), temperature=0.6
    ),
    "none": Cause("nothing", (), ("A1", "A2", "A3", "A4", "A5", *HELD_BACK)),
}
"""In the order in which they are run. The doubled reward is told by C1 or C2: at a fixed β it is the same objective as
half of β for the old reward, and which of the two is called wrong is a matter of taste."""


class PerToken(AdaptiveKLController):
    """Steered by the KL of a token: right while answers keep the length of the first batch."""

    length = first = 0.0

    def update(self, current: float, n_steps: int) -> None:
        """As the adaptive one, with the KL that answers of the first batch's length would have had."""
        super().update(current * self.first / self.length, n_steps)


def cooled(temperature: float) -> Any:
    """Logits that answers are drawn from, at another temperature; the log-probabilities that PPO takes stay at 1."""

    def logits(model: Any, states: Any) -> Any:
        return logits_of(model, states) / temperature

    return logits


def without_length(logit: Floats, longer: Floats) -> Floats:
    """``logit`` (P,) of the first answer, less a price of length at which the longer one wins half of its pairs."""
    differs = longer != 0

    def excess(price: float) -> float:
        wins = expit(np.sign(longer) * (logit - price * longer))
        return float(wins[differs].mean() - 0.5)

    price: float = brentq(excess, -5, 5)
    return logit - price * longer


def labels(kind: str, config: Config) -> pd.DataFrame:
    """Prepared pairs of one kind of annotators; all kinds judge the same answers."""
    bias = 1.0 if kind == "length" else 0.0
    world = config.data.world.model_copy(update={"length_bias": bias, "length_bias_spread": 0.25 * bias})
    table = pd.DataFrame(synthesise(world))
    if kind == "courtesy":
        rng = np.random.default_rng([world.seed, 9])
        polite = [
            style(prompt, one).courtesy - style(prompt, other).courtesy
            for prompt, one, other in zip(table["prompt"], table["chosen"], table["rejected"], strict=True)
        ]
        better = [
            gold(prompt, one) - gold(prompt, other)
            for prompt, one, other in zip(table["prompt"], table["chosen"], table["rejected"], strict=True)
        ]
        longer = (word_counts(table["chosen"]) - word_counts(table["rejected"])) / 10
        logit = without_length(world.gold_weight * np.array(better) + COURTESY_TASTE * np.array(polite), longer)
        swap = rng.random(len(table)) >= 1 / (1 + np.exp(-logit))
        table.loc[swap, ["chosen", "rejected"]] = table.loc[swap, ["rejected", "chosen"]].to_numpy()
    table["split"] = [split_of(prompt, config.data.split) for prompt in table["prompt"]]
    if kind == "few":
        training = np.random.default_rng(config.seed).permutation(table.index[table["split"] == "train"])
        table = table.drop(training[FEW:])
    return table.reset_index(drop=True)


def write_labels(file: Path, kind: str, config: Config) -> None:
    """The pairs as a file, unless it is there."""
    if not file.exists():
        with atomic_file(file) as temporary:
            labels(kind, config).to_parquet(temporary, index=False)


def given_to(cause: Cause, seed: int, into: Path) -> tuple[Path, Path]:
    """Labels and reward model of a run. Few pairs are drawn anew by each seed, the others are shared by all seeds."""
    home = into / f"seed-{seed}" if cause.labels == "few" else into
    model = home / f"reward-{cause.labels}"
    if cause.scale != 1:
        model = model.with_name(f"{model.name}-{cause.scale:g}")
    return home / f"labels-{cause.labels}.parquet", model


def share(cause: Cause, seed: int, into: Path) -> None:
    """Make the labels, base model and reward model of a run where they are missing."""
    shared = configured(cause, SHARED_SEED)
    write_labels(into / "labels-honest.parquet", "honest", shared)
    if not (into / "base").exists():
        train_base(shared, into / "labels-honest.parquet", into / "base")
    table, model = given_to(replace(cause, scale=1.0), seed, into)
    own = configured(cause, seed) if cause.labels == "few" else shared
    write_labels(table, cause.labels, own)
    if not model.exists():
        epochs = FEW_EPOCHS if cause.labels == "few" else own.reward_model.epochs
        update = {"reward_model": own.reward_model.model_copy(update={"epochs": epochs})}
        train_reward(own.model_copy(update=update), table, into / "base", model)
    scaled = given_to(cause, seed, into)[1]
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
    """The policy, with what the cause replaces."""
    controller = PerToken(*(getattr(config.policy.kl, name) for name in ("init_coef", "target", "horizon")))

    def measured(*given: Any) -> Any:
        batch, states = rollout.sample_states(*given)
        controller.length = float(batch.response_mask.sum(1).float().mean())
        controller.first = controller.first or controller.length
        return batch, states

    with ExitStack() as replaced:
        if cause.per_token:
            replaced.enter_context(patch.object(train_policy, "build_controller", lambda _: controller))
            replaced.enter_context(patch.object(train_policy, "sample_states", measured))
        if cause.temperature != 1:
            replaced.enter_context(patch.object(rollout, "logits_of", cooled(cause.temperature)))
        train_policy.train_policy(config, prompts, base, model, out)


def configured(cause: Cause, seed: int) -> Config:
    """The parameters of a run."""
    settings = json.loads(json.dumps(SETTINGS))
    settings["data"]["world"]["seed"], settings["seed"] = SHARED_SEED, seed
    settings["policy"]["kl"] = cause.controller
    return Config.model_validate(settings)


def run(name: str, seed: int, into: Path) -> None:
    """All stages of one run that are not there yet."""
    cause, home, started = CAUSES[name], into / f"seed-{seed}" / name, time.process_time()
    if (home / "evaluation").exists():
        return
    config = configured(cause, seed)
    share(cause, seed, into)
    shared = time.process_time() - started
    prompts, base, model = into / "labels-honest.parquet", into / "base", given_to(cause, seed, into)[1]
    if not (home / "policy").exists():
        train(cause, config, prompts, base, model, home / "policy")
    evaluate(config, prompts, Models(base, model, home / "policy"), home / "evaluation")
    used = time.process_time() - started
    print(f"seed {seed}, {name}: {used:.0f} s of processor, {shared:.0f} s of it for what runs share", flush=True)


def verdicts(name: str, seed: int, into: Path) -> tuple[dict[str, str], str] | None:
    """Verdict by hypothesis, and what became of the policy; None when the run is not there."""
    cause, home = CAUSES[name], into / f"seed-{seed}"
    evaluation = home / name / "evaluation" / "evaluation.parquet"
    if not evaluation.exists():
        return None
    table, model = given_to(cause, seed, into)
    files = (home / name / "policy/history.jsonl", table, model / "card.json")
    evidence = read_evidence(configured(cause, seed), evaluation, *files)
    found = diagnose(evidence)
    with atomic_file(home / name / "diagnosis.json") as temporary:
        temporary.write_text(json.dumps(found.to_dict(), indent=1, default=str))
    mean = pd.read_parquet(evaluation).groupby("system")[["reward", "judge_gold", "length_tokens", "kl_nats"]].mean()
    change = mean.loc["candidate"] - mean.loc["reference"]
    longer = change["length_tokens"] / mean.loc["reference", "length_tokens"]
    became = (
        f"reward {change['reward']:+.2f}, gold {change['judge_gold']:+.2f}, length {longer:+.0%}, "
        f"KL {mean.loc['candidate', 'kl_nats']:.1f}"
    )
    return {item.id: item.verdict for item in found.hypotheses}, became


def table(runs: dict[tuple[str, int], tuple[dict[str, str], str]], seeds: list[int]) -> Iterator[str]:
    """Markdown: runs in which each hypothesis was supported, named ones in bold, absent ones marked; and both rates."""
    marks = {"supported": "x", "not supported": "-", "cannot tell": "?"}
    yield f"| cause | runs | named | {' | '.join(IDS)} |"
    yield "|---" * (len(IDS) + 3) + "|"
    hits = made = false = absent = 0
    wrong = dict.fromkeys(IDS, 0)
    asked = dict.fromkeys(IDS, 0)
    for name, cause in CAUSES.items():
        mine = [runs[name, seed][0] for seed in seeds if (name, seed) in runs]
        named = [all(any(each[id_] == "supported" for id_ in group) for group in cause.names) for each in mine]
        cells = []
        for id_ in IDS:
            count = sum(each[id_] == "supported" for each in mine)
            cells.append(f"**{count}**" if any(id_ in group for group in cause.names) else f"{count}")
            if id_ in cause.absent:
                cells[-1] = f"{count}!" if count else "·"
                wrong[id_], asked[id_] = wrong[id_] + count, asked[id_] + len(mine)
        yield f"| {cause.what} | {len(mine)} | {sum(named) if cause.names else '–'} | {' | '.join(cells)} |"
        if cause.names:
            hits, made = hits + sum(named), made + len(mine)
    false, absent = sum(wrong.values()), sum(asked.values())
    yield f"\nThe cause is among the supported hypotheses in {hits} of {made} runs ({hits / max(made, 1):.0%})."
    yield f"An absent one is called supported in {false} of {absent} cases ({false / max(absent, 1):.1%}); of these"
    yield ", ".join(f"{id_} {wrong[id_]} of {asked[id_]}" for id_ in IDS if asked[id_])
    yield f"\n| run | what became of it | {' | '.join(IDS)} |"
    yield "|---" * (len(IDS) + 2) + "|"
    for (name, seed), (told, became) in runs.items():
        yield f"| {name} {seed} | {became} | {' | '.join(marks[told[id_]] for id_ in IDS)} |"


def main() -> None:
    """Run what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--causes", nargs="+", choices=list(CAUSES), default=list(CAUSES))
    parser.add_argument("--into", type=Path, default=ROOT / "artifacts" / "diagnosis_world")
    parser.add_argument("--read", action="store_true", help="train nothing, table what is there")
    given = parser.parse_args()
    for seed in given.seeds:
        for name in [] if given.read else given.causes:
            run(name, seed, given.into)
    found = {
        (name, seed): told
        for seed in given.seeds
        for name in given.causes
        if (told := verdicts(name, seed, given.into)) is not None
    }
    print("\n".join(table(found, given.seeds)))


if __name__ == "__main__":
    main()
