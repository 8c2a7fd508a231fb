"""The verbs that read what training left behind, here or elsewhere: ``kellet diagnose`` and ``kellet import-logs``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kellet.cli.options import FILE, path_option, prepared_folder, run_folder, warn, with_params
from kellet.errors import DataError, InputError
from kellet.manifest import renew

if TYPE_CHECKING:
    from kellet.config.run import Config
    from kellet.diagnosis.diagnose import Diagnosis

MARKS = {"supported": "yes", "not supported": "no", "cannot tell": "?"}


@click.command(epilog="Example: kellet diagnose evaluation.parquet --history history.jsonl --json")
@click.argument("evaluation", type=FILE, required=False)
@with_params(optional=True)
@path_option("--run", "runs/NAME of the parameter name; its files are read when none is named")
@click.option("--history", type=FILE, help="Training history, JSON lines (see docs/reference/metrics.md).")
@click.option("--preferences", type=FILE, help="Preference table: prompt, chosen, rejected.")
@click.option("--card", type=FILE, help="The reward model's card.json.")
@click.option("--json", "as_json", is_flag=True, help="Print the diagnosis as JSON, as in diagnosis.json.")
@path_option("--out", "RUN/diagnosis.json; with files named, nothing is written")
def diagnose(
    config: "Config",
    evaluation: Path | None,
    run: Path | None,
    history: Path | None,
    preferences: Path | None,
    card: Path | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Say why a run came out as it did, from files alone: EVALUATION (.parquet, .csv) and the options, each optional.

    Thirteen hypotheses, each with a statistic, an interval and a verdict; one explanation; two recommended changes.
    Names the file or figure that is missing where it keeps a hypothesis undecided. Writes RUN/diagnosis.json.
    """
    if not any((evaluation, history, preferences, card)):
        from kellet.report.run import file_of

        folder = run_folder(config, run)
        files = [file_of(folder, name) for name in ("evaluation.parquet", "history.jsonl", "card.json")]
        files.append(prepared_folder(config) / "preferences.parquet")
        evaluation, history, card, preferences = (file if file.is_file() else None for file in files)
        if evaluation is None and history is None:
            raise InputError(
                f"{folder} has no evaluation and no history; name the files, or make them (kellet evaluate)"
            )
        out = out or folder / "diagnosis.json"
    from kellet.diagnosis import diagnose as stage
    from kellet.diagnosis.evidence import read_evidence
    from kellet.report.pull_request import harmless, harmless_json

    notes: list[str] = []
    try:
        evidence = read_evidence(config, evaluation, history, preferences, card, notes)
    except DataError as error:  # a text of the file in it may be a command to the runner of a CI job
        raise DataError(harmless(str(error))) from error
    warn([harmless(note) for note in notes])
    diagnosis = stage.diagnose(evidence)
    if out is not None:
        diagnosis.write(out)
        renew(out)
    click.echo(harmless_json(diagnosis.to_dict()) if as_json else _text(diagnosis))


@click.command(epilog="Example: kellet import-logs trainer_state.json --out runs/theirs")
@click.argument("log", type=FILE, nargs=-1)
@with_params(optional=True)
@click.option(
    "--trainer",
    type=click.Choice(["trl-ppo", "trl-grpo", "trl-rloo", "openrlhf", "verl"]),
    help="Whose names the log has; recognised by them without it.",
)
@click.option(
    "--kl-estimator",
    type=click.Choice(["k1", "k2", "k3", "full"]),
    help="What their KL is; their default without it.",
)
@click.option(
    "--map",
    "mapped",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Read their metric as ours, such as tokens/response_mean=len; of answers their column, such as reward=rm.",
)
@click.option("--run-name", help="Which run of a log that holds several: of a W&B chart, a column or a folder.")
@click.option("--candidate", type=FILE, help="The trained policy's answers, one a row (.jsonl, .csv).")
@click.option("--reference", type=FILE, help="The reference's answers to the same prompts.")
@click.option("--json", "as_json", is_flag=True, help="Print account, notes, iterations and hypotheses as JSON.")
@path_option("--out", "RUN, which is runs/NAME; gets history.jsonl and evaluation.parquet")
def import_logs(
    config: "Config",
    log: tuple[Path, ...],
    trainer: str | None,
    kl_estimator: Any,
    mapped: tuple[str, ...],
    run_name: str | None,
    candidate: Path | None,
    reference: Path | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Translate a LOG of TRL, OpenRLHF or verl, and answers, for `kellet diagnose` and `kellet gate`.

    LOG is JSON lines, CSV, trainer_state.json, Parquet, TensorBoard event files, a .wandb file or printed text; several
    are of one run, such as W&B's chart of each metric. Says which hypotheses it lets `kellet diagnose` judge, what to
    log to judge the rest, and what each metric was taken for. Nothing is written before all is read and checked.
    """
    if not log and candidate is None:
        raise InputError("nothing to import; give a LOG, or --candidate and --reference")
    if (candidate is None) != (reference is None):
        raise InputError("--candidate and --reference belong together: answers are compared")
    from kellet.cli.imported import Foreign
    from kellet.report.pull_request import harmless, harmless_json

    try:
        foreign = Foreign.read(config, log, trainer, kl_estimator, mapped, run_name, candidate, reference)
    except DataError as error:  # as above
        raise DataError(harmless(str(error))) from error
    notes = foreign.write(out or run_folder(config, None))
    if as_json:
        click.echo(harmless_json(foreign.to_dict()))
        return
    click.echo("\n".join(foreign.written))
    warn([harmless(note) for note in (*notes, *foreign.notes)])
    click.echo("\n".join(map(harmless, foreign.text())))


def _text(diagnosis: "Diagnosis") -> str:
    """The diagnosis for a terminal."""
    lines = []
    for item in diagnosis.hypotheses:
        lines.append(f"{item.id}  {MARKS[item.verdict]:<4} {item.statement}")
        lines += [f"         {text}" for text in (item.evidence, item.needs and f"Would tell: {item.needs}.") if text]
    lines += ["", "\n\n".join(diagnosis.explanation), ""]
    for number, advice in enumerate(diagnosis.recommendations, 1):
        patch = " ".join(f"--set {key}={value}" for key, value in advice.patch.items())
        lines += [f"{number}. {advice.change}", *([f"   {patch}"] if patch else [])]
        lines += [f"   Expected: {advice.expected_effect}", f"   Price: {advice.tradeoff}"]
    return "\n".join(lines)
