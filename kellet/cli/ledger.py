"""The verb ``kellet ledger``: who made which version champion, when, why and on what evidence."""

import json
from typing import TYPE_CHECKING

import click

from kellet.cli.options import needs, with_params
from kellet.extras import LEDGER

if TYPE_CHECKING:
    from kellet.config.run import Config
    from kellet.ledger.entry import Entry


@click.command(epilog="Example: kellet ledger --version 3")
@needs(*LEDGER)
@with_params()
@click.option("--model", help="Registered model; default: tracking.registered_model.")
@click.option("--version", "number", metavar="N", help="Only what was done with this version.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows as JSON, with evidence and hashes.")
def ledger(config: "Config", model: str | None, number: str | None, as_json: bool) -> None:
    """Check the ledger and print its rows: verdicts, promotions, rollbacks, and who is champion by them.

    Every row holds the hash of the one before: one that was changed, deleted or put in between is named (exit code 1).
    """
    from kellet.ledger import chain
    from kellet.ledger.table import Ledger

    name = model or config.tracking.registered_model
    whole = Ledger(config.tracking.ledger).entries()
    rows = [entry for entry in whole if entry.model == name and number in (None, entry.version)]
    if as_json:
        click.echo(json.dumps([row.model_dump() for row in rows], indent=2, ensure_ascii=False))
        return
    for line in _table(rows):
        click.echo(line)
    head = f", the last {whole[-1].hash[:12]}" if whole else ""
    click.echo(
        f"{name}: champion {chain.champion(whole, name)}, before it {chain.previous(whole, name)}, "
        f"anchor {chain.anchor(whole, name)}; {len(whole)} rows in all, each after the one before{head}"
    )


def _table(rows: "list[Entry]") -> list[str]:
    from kellet.stats.format import aligned

    if not rows:
        return []
    head = ("row", "time", "who", "what", "version", "from", "to", "why")
    body = [
        (str(row.number), row.time, row.actor, row.action, row.version, row.before, row.after, row.reason)
        for row in rows
    ]
    return aligned([head, *body])
