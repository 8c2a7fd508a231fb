"""The verbs of evaluation and gate."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kellet.cli.options import (
    FILE,
    base_of,
    base_option,
    evaluation_of,
    existing,
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
from kellet.errors import ConfigError, DataError, NotPromoted
from kellet.extras import TRAINING
from kellet.manifest import check_evaluated, renew
from kellet.progress import lines

if TYPE_CHECKING:
    import pandas as pd

    from kellet.config.run import Config
    from kellet.data.account import Entry
    from kellet.gate.verdict import GateDecision

MARKS = {True: "pass", False: "FAIL", None: "?"}


@click.command(epilog="Example: kellet evaluate --champion runs/last-week/policy")
@needs(*TRAINING)
@with_params()
@run_option
@preferences_option
@base_option
@path_option("--reward-model", "RUN/reward_model")
@path_option("--policy", "RUN/policy")
@click.option("--champion", type=FILE, help="Policy folder of the present champion; none without it.")
@click.option("--anchor", type=FILE, help="Policy folder of the anchor, where that is not the champion.")
@click.option(
    "--programme", type=FILE, help="State of kellet gate: with evaluation.rotation, ask the prompts of its next look."
)
@path_option("--judge", "RUN/judge when evaluation.judge is true, else none")
@path_option("--out", "RUN/evaluation")
def evaluate(
    config: "Config",
    run: Path | None,
    preferences: Path | None,
    base: Path | None,
    reward_model: Path | None,
    policy: Path | None,
    champion: Path | None,
    anchor: Path | None,
    programme: Path | None,
    judge: Path | None,
    out: Path | None,
) -> None:
    """Let candidate, reference, champion and anchor answer the held-out prompts."""
    table = table_of(config, preferences)
    base = base_of(config, run, base)
    reward_model = existing(reward_model or run_folder(config, run) / "reward_model", "train-reward")
    policy = existing(policy or run_folder(config, run) / "policy", "train-policy")
    champion, anchor = (existing(path, "train-policy") if path else None for path in (champion, anchor))
    if judge or config.evaluation.judge:
        judge = existing(judge or run_folder(config, run) / "judge", "train-reward --judge")
    look = 1
    if programme is not None:
        from kellet.gate.programme_file import read

        look = read(programme, config.gate.programme_level).next_number
    from kellet.evaluation import evaluate as stage

    out = output_folder(out or run_folder(config, run) / "evaluation", "evaluation.parquet")
    models = stage.Models(base, reward_model, policy, champion, judge, anchor, reward_base_of(config))
    stage.evaluate(config, table, models, out, lines("evaluation"), look)
    click.echo(f"evaluation in {out / 'evaluation.parquet'}")


@click.command(epilog="Example: kellet gate evaluation.parquet --json --set gate.kl_budget=8")
@click.argument("file", type=FILE, required=False)
@with_params(optional=True)
@run_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "markdown", "github", "junit"]),
    help="What is printed: text (the default); json, as in gate.json; for pull requests markdown, github, junit.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option(
    "--card", type=FILE, help="The reward model's card.json, for the criterion reward_trust; none without it."
)
@click.option(
    "--programme", type=FILE, help="Count this as a look of the programme in this JSON file, which is made if missing."
)
@click.option(
    "--candidate", help="Its name in the programme: judged again, it keeps its answers. Without it, FILE is a new one."
)
@path_option("--out", "RUN/gate.json of what 'kellet evaluate' wrote; of FILE and of a flow's run nothing is written")
def gate(
    config: "Config",
    file: Path | None,
    run: Path | None,
    form: str | None,
    as_json: bool,
    card: Path | None,
    programme: Path | None,
    candidate: str | None,
    out: Path | None,
) -> None:
    """Judge an evaluation FILE (.csv, .jsonl, .parquet and others), whoever made it; default: that of the run.

    Exits with 0 for promote, 3 for block and inconclusive. With --format github, the comment that markdown gives is
    appended to the file in GITHUB_STEP_SUMMARY too, if that is set.
    """
    if as_json and form not in (None, "json"):
        raise ConfigError(f"--json is --format json, and --format {form} was given too; give one of them")
    form = "json" if as_json else form or "text"
    evaluation = file or evaluation_of(config, run)
    from kellet.gate import verdict as stage
    from kellet.report.run import file_of, read_object

    folder = run_folder(config, run)
    if card is not None:
        existing(card, "train-reward")
    elif file is None and file_of(folder, "card.json").is_file():
        card = file_of(folder, "card.json")
    if candidate is not None and programme is None:
        raise ConfigError(f"--candidate {candidate} names a candidate of a programme; give --programme STATE.json too")
    check_evaluated(evaluation, None, card)
    rows, account = _read(evaluation)
    facts = read_object(card) if card else None
    if programme is not None and config.gate.programme:
        from kellet.gate.programme_file import judge

        decision = judge(programme, rows, config.gate, facts, candidate)
    else:
        decision = stage.decide(rows, config.gate, card=facts)
    published = evaluation.parent == folder  # by the flow, with the verdict that the registry knows
    if out is None and not file and not published:
        out = folder / "gate.json"
    if out is not None:
        decision.write(out)
        renew(out)
    _show(decision, form, account, evaluation)
    if not decision.promote:
        raise NotPromoted(f"{decision.verdict}: {decision.headline}")
    click.echo(f"promote: {decision.headline}", err=form != "text")


def _read(evaluation: Path) -> tuple["pd.DataFrame", list["Entry"]]:
    """The rows of a file and the account of its columns; what was left out is told on standard error."""
    from kellet.evaluation.columns import told
    from kellet.evaluation.file import read_accounted
    from kellet.report.pull_request import harmless

    notes: list[str] = []
    try:
        rows, account = read_accounted(evaluation, notes)
    except DataError as error:  # a text of the file in it may be a command to the runner of a CI job
        raise DataError(harmless(str(error))) from error
    warn([harmless(note) for note in (*notes, *told(account))])
    return rows, account


def _show(decision: "GateDecision", form: str, account: list["Entry"], evaluation: Path) -> None:
    """Print the decision; ``github`` also appends to the summary of the job's step."""
    from kellet.report import pull_request

    found = decision.to_dict()
    if form == "text":
        click.echo("\n".join(map(pull_request.harmless, _lines(decision))))
    elif form == "json":
        found["account"] = [entry.to_dict() for entry in account]
        click.echo(pull_request.harmless_json(found))
    elif form == "markdown":
        click.echo(pull_request.markdown(found, evaluation.name), nl=False)
    elif form == "junit":
        click.echo(pull_request.junit(found, evaluation.name), nl=False)
    else:
        click.echo(pull_request.workflow_commands(found, evaluation.name), nl=False)
        if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(pull_request.markdown(found, evaluation.name))


def _lines(decision: "GateDecision") -> list[str]:
    """The decision for a terminal, a line for each criterion."""
    lines = []
    for criterion in decision.criteria:
        mark = MARKS[criterion.passed] if criterion.counted else "-"
        lines.append(f"{mark:<5}{criterion.name:<18} {criterion.why}")
    if anchor := decision.comparison_with_anchor:
        lines.append(f"{MARKS[anchor.not_behind.passed]:<5}{'anchor':<18} {anchor.not_behind.why}")
    lines.append(f"     {'length':<18} {decision.length.sentence}")
    return [*lines, f"     {'programme':<18} {decision.programme['sentence']}"]


@click.command(epilog="Example: kellet gate-power --prompts 256 --replicates 200 --set gate.judge_margin=0.05")
@with_params(optional=True)
@click.option("--prompts", default="64,256", show_default=True, help="Numbers of prompts, with commas.")
@click.option("--replicates", default=1000, show_default=True, help="Evaluations drawn of each population and size.")
@click.option("--population", "names", multiple=True, help="Only this one; may be given several times.")
@click.option(
    "--year", is_flag=True, help="Judge 52 candidates one after another; --population then names a kind of year."
)
@click.option("--workers", default=1, show_default=True, help="Processes at once; the result does not depend on it.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def gate_power(
    config: "Config", prompts: str, replicates: int, names: tuple[str, ...], year: bool, workers: int, as_json: bool
) -> None:
    """Simulate policies whose true gain is known, and say how often the gate errs with these settings."""
    try:
        sizes = [int(text) for text in prompts.split(",")]
    except ValueError as error:
        raise ConfigError(f"--prompts got {prompts!r}; it takes numbers with commas, such as 64,256") from error
    if min(*sizes, replicates, workers) < 1:
        raise ConfigError("--prompts, --replicates and --workers take numbers from 1 on")
    settings: dict[str, Any] = {"workers": workers, "progress": lambda text: click.echo(text, err=True)}
    if year:
        from kellet.gate import year as stage

        years = stage.measure(config.gate, stage.chosen(names), sizes, replicates, **settings)
        output: Any = [item.to_dict() for item in years] if as_json else stage.year_table(years)
    else:
        from kellet.gate import power
        from kellet.gate.populations import chosen

        result = power.measure(config.gate, chosen(names), sizes, replicates, **settings)
        tables = (power.verdict_table(result.rates), power.coverage_table(result.coverages))
        output = result.to_dict() if as_json else "\n\n".join(tables).rstrip()
    click.echo(json.dumps(output, indent=2, ensure_ascii=False) if as_json else output)
