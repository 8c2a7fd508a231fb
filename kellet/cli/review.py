"""The verbs for people who read answers: ``kellet chat``, ``kellet serve`` and ``kellet spot-check``."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kellet.cli.options import (
    FILE,
    base_of,
    evaluation_of,
    existing,
    in_project,
    needs,
    path_option,
    run_folder,
    with_params,
)
from kellet.errors import InputError
from kellet.extras import TRAINING

if TYPE_CHECKING:
    from kellet.config.run import Config
    from kellet.config.training import Text


@click.command(epilog="Example: kellet chat --policy runs/support/policy --blind --seed 1")
@needs(*TRAINING)
@with_params()
@click.option("--model", help="Registered model, NAME/VERSION or NAME@ALIAS; default: the champion of tracking.*.")
@click.option("--policy", type=FILE, help="A policy's folder, in place of a registered model.")
@path_option("--base", "with --policy: base_model.path if set, else base/ beside the policy")
@click.option("--seed", type=int, help="Sample with this seed; without it each answer is the most probable one.")
@click.option("--conversation", is_flag=True, help="Messages follow on each other; /new begins a new conversation.")
@click.option("--blind", is_flag=True, help="Hide who is who until you have said which answer is better.")
def chat(
    config: "Config",
    model: str | None,
    policy: Path | None,
    base: Path | None,
    seed: int | None,
    conversation: bool,
    blind: bool,
) -> None:
    """Ask a policy and its reference the same questions, side by side; by default the champion. Ctrl-D ends.

    Reads standard input, a message on each line, so that it works in a pipe too. A chat template of the base model's
    tokenizer, or --conversation, renders messages as a conversation.
    """
    if policy is not None and model is not None:
        raise InputError("--policy and --model both name a policy; give one of them")
    text, name = config.text, str(policy)
    if policy is None:
        policy, base, text, name = _registered(config, model)
    else:
        existing(policy / "adapter", "train-policy")
        base = base or (None if config.base_model.path else policy.parent / "base")
        base = base_of(config, policy.parent, base)
    from kellet.evaluation import chat as stage
    from kellet.models.sampling import load_policy

    trunk, tokenizer = load_policy(base, policy / "adapter", text.temperature, config.base_model)
    talking = stage.Chat(
        trunk, tokenizer, text, "policy", seed, conversation or bool(getattr(tokenizer, "chat_template", None))
    )
    if sys.stdin.isatty():
        how = "greedy" if seed is None else f"sampled with seed {seed}"
        click.echo(f"{name} beside its reference, {how}; ctrl-D ends", err=True)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    votes = (stage.talk_blind if blind else stage.talk)(talking, _read, click.echo, width)
    if sys.stdin.isatty():
        click.echo(err=True)  # after ctrl-D the cursor still stands behind the prompt
    if votes is None:
        return
    click.echo(f"better: policy {votes['policy']}, reference {votes['reference']}, tie {votes['tie']}")


@click.command(epilog="Example: kellet serve --model kellet-support/3 --port 5002")
@needs(*TRAINING)
@with_params()
@click.option("--model", help="Registered model, NAME/VERSION or NAME@ALIAS; default: the champion of tracking.*.")
@click.option("--port", type=click.IntRange(1, 65535), default=5001, show_default=True, help="On 127.0.0.1.")
def serve(config: "Config", model: str | None, port: int) -> None:
    """Serve a registered model with MLflow on loopback, until ctrl-C; by default the champion.

    Its files are first held against what was registered: a changed byte, code or a pickle among them is refused.
    """
    in_project("adapters.serve", model or config.tracking.registered_model, "--port", str(port), config=config)


def _registered(config: "Config", model: str | None) -> "tuple[Path, Path, Text, str]":
    """Policy, base, text parameters and name of a registered model, from the project's registry."""
    import json

    from kellet.config.training import Text

    wanted = model or config.tracking.registered_model
    entry = json.loads(in_project("adapters.registered", wanted, config=config, read=True))
    return Path(entry["policy"]), Path(entry["base"]), Text.model_validate(entry["text"]), str(entry["name"])


def _read(prompt: str) -> str:
    """A line of standard input, with a prompt only on a terminal."""
    return input(prompt if sys.stdin.isatty() else "")


@click.group()
def spot_check() -> None:
    """Verdicts of people: `export` draws a blind sheet of comparisons, `import` reads the sheets that come back."""


key_option = path_option("--key", "spot_checks/NAME.key.json, NAME being the run's")


@spot_check.command("export", epilog="Example: kellet spot-check export --pairs 60 --seed 1")
@click.argument("evaluation", type=FILE, required=False)
@with_params(optional=True)
@path_option("--run", "runs/NAME of the parameter name; its evaluation is drawn from")
@click.option("--against", type=click.Choice(["reference", "champion"]), default="reference", show_default=True)
@click.option("--pairs", type=click.IntRange(min=1), default=40, show_default=True, help="Comparisons, a prompt each.")
@click.option("--seed", type=int, default=0, show_default=True, help="Decides which prompts, and who is A.")
@path_option("--out", "spot_checks/NAME/comparisons.csv")
@key_option
def export_sheet(
    config: "Config",
    evaluation: Path | None,
    run: Path | None,
    against: str,
    pairs: int,
    seed: int,
    out: Path | None,
    key: Path | None,
) -> None:
    """Draw blind comparisons from an EVALUATION (.parquet, .csv) into a sheet; default: that of the run.

    Each reviewer gets a copy of the sheet, called after them, and writes a, b or tie into the column `better`. The key
    says who is who: keep it.
    """
    from kellet.evaluation import spot_check as stage
    from kellet.evaluation.file import read_evaluation
    from kellet.gate.checks import comparisons_needed

    source = evaluation or evaluation_of(config, run)
    name = run_folder(config, run).name
    out, key = out or Path("spot_checks", name, "comparisons.csv"), key or Path("spot_checks", f"{name}.key.json")
    sheet, identities = stage.draw(read_evaluation(source), against, pairs, seed)
    stage.write(sheet, {**identities, "evaluation": str(source)}, out, key)
    ties = len(identities["ties"])
    click.echo(f"{len(sheet)} comparisons in {out}, {ties} more are ties (equal answers); key in {key}")
    margin, alpha = config.gate.judge_margin, config.gate.alpha
    even, better = (comparisons_needed(rate - 0.5 + margin, rate, alpha) for rate in (0.5, 0.6))
    click.echo(f"the gate will need about {better} where people prefer the candidate in 60%, {even} where in 50%")


@spot_check.command("import", epilog="Example: kellet spot-check import anna.csv ben.csv")
@click.argument("sheets", type=FILE, nargs=-1, required=True)
@with_params(optional=True)
@path_option("--run", "runs/NAME of the parameter name")
@key_option
@path_option("--evaluation", "the one that the sheet was drawn from")
@path_option("--out", "spot_checks/NAME.parquet")
def import_sheets(
    config: "Config",
    sheets: tuple[Path, ...],
    run: Path | None,
    key: Path | None,
    evaluation: Path | None,
    out: Path | None,
) -> None:
    """Read filled SHEETS, a CSV of each reviewer, and write an evaluation with their verdicts for `kellet gate`.

    A sheet with a row that cannot be read is refused with row and column, and nothing is written. Prints what each
    reviewer preferred, how often two of them agreed, and the win rate that the gate will read.
    """
    from kellet.evaluation import reviewers
    from kellet.evaluation import spot_check as stage
    from kellet.evaluation.answers import answers_of, win_rate_by
    from kellet.evaluation.file import check_evaluation, read_evaluation
    from kellet.files import atomic_file
    from kellet.stats.format import in_words

    name = run_folder(config, run).name
    identities = stage.read_key(key or Path("spot_checks", f"{name}.key.json"))
    verdicts = stage.read_verdicts(sheets, identities)
    rows = stage.add_verdicts(read_evaluation(evaluation or Path(identities["evaluation"])), identities, verdicts)
    out = out or Path("spot_checks", f"{name}.parquet")
    with atomic_file(out) as temporary:
        rows.to_csv(temporary, index=False) if out.suffix == ".csv" else rows.to_parquet(temporary, index=False)
    against = identities["against"]
    for sentence in reviewers.summary(verdicts, len(identities["items"]), against, config.gate.alpha):
        click.echo(sentence)
    answers = answers_of(check_evaluation(rows))
    rate = win_rate_by(answers[against], answers[stage.CANDIDATE], stage.JUDGE, config.gate)["win_rate"]
    click.echo(f"win rate of the candidate over the {against}: {in_words(rate, 'win rate')}, equal answers as ties")
    click.echo(f"judged evaluation in {out}; next: kellet gate {out}, or flows.regate where the policy is registered")
