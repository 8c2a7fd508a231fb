"""The verbs that write pages: ``kellet report`` of one run, ``kellet compare`` of several."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kellet.cli.options import FILE, path_option, run_folder, there, with_params

if TYPE_CHECKING:
    from kellet.config.run import Config


@click.command(epilog="Example: kellet report --run runs/naive --champion runs/support --out compared.html")
@with_params()
@path_option("--run", "runs/NAME of the parameter name")
@click.option("--champion", type=FILE, help="Run folder of the champion, to show what differs; none without it.")
@path_option("--out", "RUN/report.html")
def report(config: "Config", run: Path | None, champion: Path | None, out: Path | None) -> None:
    """Write one self-contained page: the verdict, the criteria, why, curves and answers side by side.

    Needs gate.json and the evaluation; says more with history.jsonl, token_kl.json, diagnosis.json, card.json and the
    data's summary.json. A run folder's own params.yaml, as the flow leaves it, stands before --params.
    """
    import yaml

    from kellet.evaluation.file import read_evaluation
    from kellet.report import page as stage

    folder = run_folder(config, run)
    decision = there(folder / "gate.json", "gate")
    evaluation = there(_place(folder, "evaluation/evaluation.parquet"), "evaluate")
    history = _place(folder, "policy/history.jsonl")
    told = folder / "params.yaml"
    shown = yaml.safe_load(told.read_text(encoding="utf-8")) if told.exists() else config.model_dump(mode="json")
    rival = None
    if champion:
        inputs = _read(champion / "gate.json") or {"inputs": {}}
        params = there(champion / "params.yaml", "report --champion")
        rival = {"name": champion.name, "config": yaml.safe_load(params.read_text(encoding="utf-8"))}
        rival["lineage"] = inputs["inputs"]
    stage.write_report(
        out or folder / "report.html",
        _read(decision),
        read_evaluation(evaluation),
        [json.loads(line) for line in history.read_text(encoding="utf-8").splitlines()] if history.exists() else (),
        config=shown,
        card=_read(_place(folder, "reward_model/card.json")),
        data=_read(Path("data/prepared", shown["data"]["name"], "summary.json")),
        diagnosis=_read(folder / "diagnosis.json"),
        champion=rival,
        token_kl=_read(_place(folder, "evaluation/token_kl.json")),
    )
    click.echo(f"report in {out or folder / 'report.html'}")


def _place(folder: Path, name: str) -> Path:
    """Where a stage's verb leaves the file, or else where the flow does: in the run's folder itself."""
    path = folder / name
    return folder / path.name if not path.exists() and (folder / path.name).exists() else path


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


@click.command(epilog="Example: kellet compare runs/naive runs/support --out naive-support.html")
@click.argument("runs", type=FILE, nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--out", type=FILE, default=Path("compare.html"), show_default=True, help="The page.")
def compare(runs: tuple[Path, ...], out: Path) -> None:
    """Put several RUN folders (runs/NAME) into one self-contained page, and print what comes first.

    Verdicts, criteria with intervals, curves over each other, what differs in the parameters, style, causes. A folder
    needs gate.json; the other files may be missing.
    """
    from kellet.report.compare import as_text
    from kellet.report.compare_page import write_comparison
    from kellet.report.run import read_runs

    found = read_runs(runs)
    write_comparison(out, found)
    click.echo(as_text(found))
    click.echo(f"page in {out}")
