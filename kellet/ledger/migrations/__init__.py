"""The shapes that the ledger's table has had, for Alembic."""
