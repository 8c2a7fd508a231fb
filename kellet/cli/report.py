"""The verbs that write pages: ``kellet report`` of one run, ``kellet compare`` of several."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kellet.cli.options import FILE, existing, path_option, run_folder, with_params
from kellet.errors import InputError
from kellet.manifest import renew

if TYPE_CHECKING:
    from kellet.config.run import Config


@click.command(epilog="Example: kellet report --run runs/naive --champion runs/support --out compared.html")
@with_params(optional=True)
@path_option("--run", "runs/NAME of the parameter name")
@click.option("--champion", type=FILE, help="Run folder of the champion, to show what differs; none without it.")
@path_option("--out", "RUN/report.html")
def report(config: "Config", run: Path | None, champion: Path | None, out: Path | None) -> None:
    """Write one self-contained page: the verdict, the criteria, why, curves and answers side by side.

    Needs gate.json and the evaluation; says more with history.jsonl, token_kl.json, diagnosis.json, card.json and the
    data's summary.json. Where the run's folder has a params.yaml, as flows leave it, that counts and --params does not.
    """
    from kellet.report.page import write_report
    from kellet.report.run import file_of, read_object, read_run

    folder = run_folder(config, run)
    existing(file_of(folder, "gate.json"), "gate")
    existing(file_of(folder, "evaluation.parquet"), "evaluate")
    content = read_run(folder, answers=True)
    if not content.params:
        content = replace(content, params=config.model_dump(mode="json"))
    rival = None
    if champion:
        params = file_of(champion, "params.yaml")
        if not params.is_file():
            raise InputError(f"{params} does not exist; give --champion a run folder that flows.retrain wrote")
        lineage = read_object(file_of(champion, "gate.json")).get("inputs", {})
        rival = {"name": champion.name, "config": read_object(params), "lineage": lineage}
    summary = read_object(Path("data/prepared", content.params["data"]["name"], "summary.json"))
    out = out or folder / "report.html"
    write_report(out, content, summary, rival)
    renew(out)
    click.echo(f"report in {out}")


@click.command("compare", epilog="Example: kellet compare runs/naive runs/support --out naive-support.html")
@click.argument("runs", type=FILE, nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--out", type=FILE, default=Path("compare.html"), show_default=True, help="The page.")
def compare_runs(runs: tuple[Path, ...], out: Path) -> None:
    """Put several RUN folders (runs/NAME) into one self-contained page, and print what comes first.

    Verdicts, criteria with intervals, curves over each other, what differs in the parameters, style, causes. A folder
    needs gate.json; the other files may be missing.
    """
    from kellet.report.compare import as_text
    from kellet.report.compare_page import write_comparison
    from kellet.report.run import read_runs

    contents = read_runs(runs)
    write_comparison(out, contents)
    click.echo(as_text(contents))
    click.echo(f"page in {out}")
