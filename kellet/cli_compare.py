"""``kellet compare``: several runs side by side."""

from pathlib import Path

import click

from kellet.cli_options import FILE


@click.command(epilog="Example: kellet compare runs/naive runs/support --out naive-support.html")
@click.argument("runs", type=FILE, nargs=-1, required=True, metavar="RUN RUN...")
@click.option("--out", type=FILE, default=Path("compare.html"), show_default=True, help="The page.")
def compare(runs: tuple[Path, ...], out: Path) -> None:
    """Put several RUN folders (runs/NAME) into one self-contained page, and print what comes first.

    Verdicts, criteria with intervals, curves over each other, what differs in the parameters, style, causes. A folder
    needs gate.json; the other files may be missing.
    """
    from kellet.compare import as_text, read_runs
    from kellet.compare_page import write_comparison

    found = read_runs(runs)
    write_comparison(out, found)
    click.echo(as_text(found))
    click.echo(f"page in {out}")
