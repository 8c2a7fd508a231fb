"""The verb that watches a log while another process writes it: ``kellet follow``."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kellet.cli.options import FILE, path_option, run_folder, with_params
from kellet.errors import InputError, TrainingStopped

if TYPE_CHECKING:
    from kellet.config.run import Config


@click.command(epilog="Example: kellet follow verl.jsonl --out runs/theirs --stop-on kl_over_budget")
@click.argument("log", type=FILE)
@with_params(optional=True)
@path_option("--out", "RUN, which is runs/NAME; gets history.jsonl and alarms.jsonl")
@click.option(
    "--stop-on", multiple=True, metavar="ALARM", help="End with exit code 3 when this alarm rings; repeatable."
)
@click.option("--once", is_flag=True, help="Read what is there and end.")
@click.option("--interval", type=float, default=5.0, show_default=True, help="Seconds between two looks at LOG.")
@click.option("--limit", "limits", multiple=True, metavar="NAME=VALUE", help="A limit of docs/use/live.md; repeatable.")
@click.option("--trainer", help="Whose names the log has; recognised by them without it (see kellet import-logs).")
@click.option("--kl-estimator", help="What their KL is; their default without it (see kellet import-logs).")
@click.option("--map", "mapped", multiple=True, metavar="OURS=THEIRS", help="A metric of theirs for ours; repeatable.")
def follow(
    config: "Config",
    log: Path,
    out: Path | None,
    stop_on: tuple[str, ...],
    once: bool,
    interval: float,
    limits: tuple[str, ...],
    trainer: str | None,
    kl_estimator: Any,
    mapped: tuple[str, ...],
) -> None:
    """Watch a LOG of verl, OpenRLHF or TRL while it grows: history.jsonl, and alarms in words.

    Ends by itself only when an alarm of --stop-on rings (exit code 3), so that a script can end the training; otherwise
    Ctrl-C ends it. Alarms and limits: docs/use/live.md.
    """
    from kellet.data.account_table import account_text
    from kellet.live.growing_log import follow as stage
    from kellet.live.limits import limits_of
    from kellet.report.pull_request import harmless

    folder = out or run_folder(config, None)
    try:
        followed = stage(
            log,
            folder,
            stop_on=stop_on,
            once=once,
            interval=interval,
            limits=limits_of(config, {name: _number(name, value) for name, value in _pairs("--limit", limits)}),
            trainer=trainer,
            kl_estimator=kl_estimator,
            mapped=dict(_pairs("--map", mapped)),
            say=click.echo,
        )
    except KeyboardInterrupt:
        click.echo(f"\nno longer following {log}; {folder / 'history.jsonl'} has what was read")
        return
    for line in account_text(followed.account):
        click.echo(harmless(line))
    if followed.stopped:
        click.echo(followed.stopped, err=True)
        click.get_current_context().exit(TrainingStopped.exit_code)


def _pairs(option: str, given: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in given]
    for (name, equals, value), text in zip(pairs, given, strict=True):
        if not equals or not name or not value:
            raise InputError(f"{option} got {text!r}; it takes NAME=VALUE")
    return [(name, value) for name, _, value in pairs]


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise InputError(f"--limit {name} got {text!r}; it takes a number") from error
