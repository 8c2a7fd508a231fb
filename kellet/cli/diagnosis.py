"""The verbs that read what training left behind, here or elsewhere: ``kellet diagnose`` and ``kellet import-logs``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kellet.cli.options import FILE, path_option, prepared_folder, run_folder, warn, with_params
from kellet.errors import InputError

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

    diagnosis = stage.diagnose(read_evidence(config, evaluation, history, preferences, card))
    if out is not None:
        diagnosis.write(out)
    click.echo(json.dumps(diagnosis.to_dict(), indent=2, ensure_ascii=False) if as_json else _text(diagnosis))


@click.command(epilog="Example: kellet import-logs trainer_state.json --out runs/theirs")
@click.argument("log", type=FILE, required=False)
@with_params(optional=True)
@click.option(
    "--trainer",
    type=click.Choice(["trl-ppo", "trl-grpo", "openrlhf", "verl"]),
    help="Whose names the log has; recognised by them without it.",
)
@click.option("--kl-estimator", type=click.Choice(["k1", "k3"]), help="What their KL is; their default without it.")
@click.option("--candidate", type=FILE, help="The trained policy's answers, one a row (.jsonl, .csv).")
@click.option("--reference", type=FILE, help="The reference's answers to the same prompts.")
@path_option("--out", "RUN, which is runs/NAME; gets history.jsonl and evaluation.parquet")
def import_logs(
    config: "Config",
    log: Path | None,
    trainer: str | None,
    kl_estimator: Any,
    candidate: Path | None,
    reference: Path | None,
    out: Path | None,
) -> None:
    """Translate a LOG of TRL, OpenRLHF or verl, and answers, for `kellet diagnose` and `kellet gate`.

    LOG is JSON lines, CSV or trainer_state.json. Says which hypotheses it lets `kellet diagnose` judge, and what to log
    to judge the rest.
    """
    if log is None and candidate is None:
        raise InputError("nothing to import; give a LOG, or --candidate and --reference")
    if (candidate is None) != (reference is None):
        raise InputError("--candidate and --reference belong together: answers are compared")
    from kellet.diagnosis import diagnose as diagnosis
    from kellet.diagnosis import import_logs as stage
    from kellet.diagnosis.evidence import Evidence
    from kellet.evaluation.file import check_evaluation
    from kellet.evaluation.samples import import_samples
    from kellet.files import atomic_file

    folder = out or run_folder(config, None)
    history: list[dict[str, float | None]] = []
    rows = None
    if log is not None:
        imported = stage.import_history(stage.read_log(log), trainer, kl_estimator)
        history = imported.rows
        with atomic_file(folder / "history.jsonl") as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in history), encoding="utf-8")
        click.echo(f"{imported.trainer.title}: {len(history)} iterations in {folder / 'history.jsonl'}")
        for theirs, ours in imported.names.items():
            click.echo(f"  {theirs} -> {ours}")
        warn(list(imported.notes))
    if candidate is not None and reference is not None:
        table, notes = import_samples(candidate, reference)
        rows = check_evaluation(table)
        with atomic_file(folder / "evaluation.parquet") as temporary:
            table.to_parquet(temporary, index=False)
        click.echo(f"{len(rows):,} answers in {folder / 'evaluation.parquet'}")
        warn(list(notes))
    for item in diagnosis.diagnose(Evidence(rows, history, config=config)).hypotheses:
        verdict = item.verdict if not item.needs else f"cannot be told; needs {item.needs}"
        click.echo(f"{item.id}  {item.statement} {verdict}")


def _text(diagnosis: "Diagnosis") -> str:
    """The diagnosis for a terminal."""
    lines = []
    for item in diagnosis.hypotheses:
        lines.append(f"{item.id}  {MARKS[item.verdict]:<4} {item.statement}")
        lines += [f"         {text}" for text in (item.evidence, item.needs and f"Would tell: {item.needs}.") if text]
    lines += ["", "\n\n".join(diagnosis.explanation), ""]
    for number, advice in enumerate(diagnosis.recommendations, 1):
        patch = " ".join(f"--set {key}={value}" for key, value in advice.patch.items())
        lines += [f"{number}. {advice.change}", f"   {patch}"]
        lines += [f"   Expected: {advice.expected_effect}", f"   Price: {advice.tradeoff}"]
    return "\n".join(lines)
