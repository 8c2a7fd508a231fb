"""The verbs of evaluation and gate."""

import json
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
    run_folder,
    run_option,
    table_of,
    with_params,
)
from kellet.errors import ConfigError, NotPromoted
from kellet.extras import TRAINING
from kellet.progress import lines

if TYPE_CHECKING:
    from kellet.config.run import Config

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
    models = stage.Models(base, reward_model, policy, champion, judge, anchor)
    stage.evaluate(config, table, models, out, lines("evaluation"), look)
    click.echo(f"evaluation in {out / 'evaluation.parquet'}")


@click.command(epilog="Example: kellet gate evaluation.parquet --json --set gate.kl_budget=8")
@click.argument("file", type=FILE, required=False)
@with_params(optional=True)
@run_option
@click.option("--json", "as_json", is_flag=True, help="Print the decision as JSON, as in gate.json.")
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
    as_json: bool,
    card: Path | None,
    programme: Path | None,
    candidate: str | None,
    out: Path | None,
) -> None:
    """Judge an evaluation FILE (.parquet, .csv), whoever made it; default: that of the run.

    Exits with 0 for promote, 3 for block and inconclusive.
    """
    evaluation = file or evaluation_of(config, run)
    from kellet.evaluation.file import read_evaluation
    from kellet.gate import verdict as stage
    from kellet.report.run import file_of, read_object

    folder = run_folder(config, run)
    if card is not None:
        existing(card, "train-reward")
    elif file is None and file_of(folder, "card.json").is_file():
        card = file_of(folder, "card.json")
    if candidate is not None and programme is None:
        raise ConfigError(f"--candidate {candidate} names a candidate of a programme; give --programme STATE.json too")
    rows, facts = read_evaluation(evaluation), read_object(card) if card else None
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
    if as_json:
        click.echo(json.dumps(decision.to_dict(), indent=2, ensure_ascii=False))
    else:
        for criterion in decision.criteria:
            mark = MARKS[criterion.passed] if criterion.counted else "-"
            click.echo(f"{mark:<5}{criterion.name:<18} {criterion.why}")
        if anchor := decision.comparison_with_anchor:
            click.echo(f"{MARKS[anchor.not_behind.passed]:<5}{'anchor':<18} {anchor.not_behind.why}")
        click.echo(f"     {'length':<18} {decision.length.sentence}")
        click.echo(f"     {'programme':<18} {decision.programme['sentence']}")
    if not decision.promote:
        raise NotPromoted(f"{decision.verdict}: {decision.headline}")
    click.echo(f"promote: {decision.headline}", err=as_json)


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
