"""The ledger's table, and triggers that refuse to change or delete a row."""

from alembic import op
from sqlalchemy import Column, Integer, Text

revision = "0001"
down_revision = None

TEXTS = (
    "action", "model", "version", "before", "after", "anchor", "reason", "evidence", "time", "actor", "previous", "hash"
)  # fmt: skip
REFUSED = "rows of the ledger are never changed or deleted"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "ledger",
        Column("number", Integer, primary_key=True, autoincrement=False),
        *(Column(name, Text, nullable=False) for name in TEXTS),
    )
    if op.get_bind().dialect.name == "sqlite":
        for action in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER ledger_{action.lower()} BEFORE {action} ON ledger "
                f"BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{REFUSED}'; END $$"
    )
    op.execute(
        "CREATE TRIGGER ledger_refuse BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger "
        "FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse()"
    )
