"""The verbs of the data."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kellet.cli.options import (
    FILE,
    PARAMS,
    in_project,
    mapped_columns,
    needs,
    output_folder,
    path_option,
    prepared_folder,
    told_reading,
    warn,
    with_params,
)
from kellet.errors import ConfigError, InputError, KelletError
from kellet.extras import DATA_DOCS, require
from kellet.progress import lines

if TYPE_CHECKING:
    from kellet.config.run import Config


@click.command(epilog="Example: kellet synthesise --set data.world.length_bias=0")
@with_params()
@path_option("--out", "the first of data.files")
def synthesise(config: "Config", out: Path | None) -> None:
    """Make the preferences of the support world."""
    from kellet.data.world import write_world

    if config.data.source != "world":
        raise ConfigError(f"data.source is {config.data.source!r}: its files are given; only 'world' is synthesised")
    path = out or Path(config.data.files[0])
    click.echo(f"{write_world(config.data.world, path):,} pairs in {path}")


@click.command(epilog="Example: kellet prepare --params profiles/hh-rlhf.yaml")
@needs(*DATA_DOCS)
@with_params()
@path_option("--out", "data/prepared/NAME")
@path_option("--docs", "artifacts/data_docs/NAME")
def prepare(config: "Config", out: Path | None, docs: Path | None) -> None:
    """Check raw preferences, quarantine bad rows, split by prompt, and write the table."""
    from kellet.data import prepare as stage

    out = output_folder(out or prepared_folder(config), "summary.json")
    docs = output_folder(docs or Path("artifacts/data_docs", config.data.name), "rows.html")
    summary = stage.prepare(config.data, Path.cwd(), out, docs, lines("prepare", ("rows",)))
    click.echo(_counts(summary) + f"; {out}, Data Docs in {docs / 'index.html'}")
    warn(summary.get("notes", []))
    for name, columns in summary.get("left_out", {}).items():
        click.echo(f"{name}: left out {', '.join(map(repr, columns))}; 'kellet validate' says why")
    warn(summary["warnings"])


@click.command(epilog="Example: kellet validate export.csv --map prompt=question --set data.validation.min_pairs=50")
@click.argument("files", type=FILE, nargs=-1, required=True)
@with_params(optional=True)
@click.option("--map", "mapped", multiple=True, metavar="OURS=THEIRS", help="Name a column, such as prompt=question.")
@click.option(
    "--map-values",
    "values",
    multiple=True,
    metavar="VALUE=SIDE",
    help="Who wins by a value (a, b, tie), such as 0=b,1=a.",
)
@click.option("--ignore", "ignored", multiple=True, metavar="COLUMN", help="A column that is no part of the pairs.")
@click.option("--accept", is_flag=True, help="Confirm how the files are read, and keep it in the file of --params.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option(
    "--docs", type=FILE, help="Folder for Great Expectations' Data Docs (needs kellet[train]); none without it."
)
def validate(
    config: "Config",
    files: tuple[Path, ...],
    mapped: tuple[str, ...],
    values: tuple[str, ...],
    ignored: tuple[str, ...],
    accept: bool,
    as_json: bool,
    docs: Path | None,
) -> None:
    """Say whether preference FILES can be used, and what is wrong with them; writes --docs and --accept alone.

    Columns are prompt, chosen and rejected, or prompt, answer_a, answer_b and preferred (who won), and if given
    annotator, created_at, margin. Ends with the account: what each column of a file was taken for, or why it is left
    out. Exits with 0 when the files can be used together as one data set, 2 when not.
    """
    import tempfile

    from kellet.data import prepare as stage
    from kellet.data.account_table import account_text

    try:
        if docs:
            require("kellet validate --docs", *DATA_DOCS)
        data = told_reading(mapped_columns(config.data, mapped), values, ignored, accept)
        docs = docs and output_folder(docs, "rows.html")
        with tempfile.TemporaryDirectory() as folder:
            named = [(str(path), path) for path in files]
            result = stage.examine(named, data, Path(folder), docs, lines("validate", ("rows",)))
    except KelletError as error:
        if as_json:
            click.echo(json.dumps({"usable": False, "error": str(error)}, indent=2, ensure_ascii=False))
        raise
    warn(result.notes())
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2, ensure_ascii=False))
    else:
        for name, columns in result.columns.items():
            click.echo(f"{name}: read " + ", ".join(f"{ours} from {theirs!r}" for ours, theirs in columns.items()))
        click.echo(_counts(result.summary))
        for check in result.report.checks:
            click.echo(f"{'ok  ' if check.passed else 'FAIL' if check.severity == 'critical' else 'warn'} {check}")
        for sentence in result.summary["warnings"][len(result.report.warnings) :]:
            click.echo(f"warn {sentence}")
        for name, form in result.forms.items():
            click.echo("\n".join(["", f"{name}:", *account_text(form.account)]))
            if form.options():
                click.echo(f"the same reading as options: {form.options()}")
    result.raise_if_failed(docs)
    if accept:
        click.echo(_kept([form.parameters() for form in result.forms.values()]), err=as_json)


def _kept(readings: list[dict[str, Any]]) -> str:
    """Write how files are read to the file of --params, where one is named; say what was kept, or what to add."""
    from kellet.config.keep import as_yaml, keep_data

    context = click.get_current_context()
    if any(reading != readings[0] for reading in readings):
        raise InputError("--accept: the files are read differently; accept them one at a time")
    if not readings[0]:
        return "there is nothing to keep: the file has the contract's own columns"
    if context.get_parameter_source("params") != click.core.ParameterSource.COMMANDLINE:
        added = as_yaml(readings[0])
        return f"add this to the parameter file, or name it with --params, and it is written there:\n{added}"
    keep_data(context.params["params"], readings[0])
    return f"kept in {context.params['params']}: data.{', data.'.join(readings[0])}"


@click.group()
def data() -> None:
    """Versions of the prepared data: their history, and how to get one back. In the project root."""


@data.command(epilog="Example: kellet data history --data hh-rlhf")
@click.option("--params", type=FILE, default=PARAMS, show_default=True, help="Parameter file.")
@click.option("--data", "name", help="Default: data.name of the parameter file.")
@click.option("--json", "as_json", is_flag=True, help="Print the versions as JSON, with each summary.")
def history(params: Path, name: str | None, as_json: bool) -> None:
    """List the versions of a data set: md5, size, length bias, and the models that learned from each."""
    which = ("--data", name) if name else ()
    in_project("adapters.data_history", "history", "--params", str(params), *which, *(["--json"] if as_json else []))


@data.command(epilog="Example: kellet data restore kellet-support/3")
@click.argument("model")
@click.option("--params", type=FILE, default=PARAMS, show_default=True, help="Parameter file, for MLflow's address.")
@click.option("--out", type=FILE, help="Default: data/restored/NAME-VERSION.")
def restore(model: str, params: Path, out: Path | None) -> None:
    """Bring back the data that a registered MODEL (NAME/VERSION) learned from, into a new folder."""
    in_project(
        "adapters.data_history", "restore", model, "--params", str(params), *(("--out", str(out)) if out else ())
    )


def _counts(summary: Mapping[str, Any]) -> str:
    """The counts of summary.json as a phrase."""
    text = (
        f"{summary['rows_in']:,} rows: {summary['accepted']:,} pairs accepted, {summary['quarantined']:,} quarantined"
    )
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary["reasons"].items())
    text += f" ({reasons})" if reasons else ""
    if prompts := summary.get("prompt_files"):
        counts = prompts["accepted"]
        text += f"; prompts: {counts['train']:,} for training, {counts['test']:,} for evaluation"
        text += f", {prompts['quarantined']:,} quarantined"
    return text
