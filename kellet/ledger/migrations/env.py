"""How Alembic reaches the ledger's database: by the connection that kellet/ledger/table.py has open."""

from alembic import context

from kellet.ledger.table import VERSIONS

context.configure(connection=context.config.attributes["connection"], version_table=VERSIONS)
context.run_migrations()
