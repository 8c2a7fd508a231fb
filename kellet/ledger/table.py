"""Where the rows of the ledger are kept: one table in SQLite, or in PostgreSQL for several hosts.

Rows are only ever added: triggers of the database refuse to change or delete them, and each write reads and checks the
whole chain first, in a transaction that excludes all other writers. So two hosts that promote at the same moment are
one after the other here, and the second sees what the first has written.
"""

import json
import os
import pwd
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kellet.errors import KelletError
from kellet.ledger.chain import require_whole
from kellet.ledger.entry import Change, Entry, entry_after
from kellet.mask import is_masked

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

COLUMNS = tuple(Entry.model_fields)
EVIDENCE = COLUMNS.index("evidence")
HEAD = "0001"
"""The newest revision in migrations/versions."""
VERSIONS = "kellet_ledger_version"
"""The table in which Alembic keeps which shape the ledger has."""
SECONDS = 60
"""How long a writer waits for another one."""


class LedgerError(KelletError):
    """The ledger's database cannot be used."""


class Ledger:
    """The ledger at ``uri``, an address of SQLAlchemy such as ``sqlite:///ledger.db``."""

    def __init__(self, uri: str) -> None:
        if is_masked(uri):
            raise LedgerError(f"the credentials of {uri} are hidden; give the address with --set tracking.ledger=…")
        self.uri = uri

    def entries(self) -> list[Entry]:
        """All rows, the oldest first, checked. Raises BrokenLedger, LedgerError. A file that is not there has none."""
        if (file := _file(self.uri)) and not file.is_file():
            return []
        with self._writing() as connection:
            return _read(connection)

    def write(self, decide: Callable[[list[Entry]], Change | None]) -> Entry | None:
        """Add the row that ``decide`` makes of all rows so far; None of it adds nothing.

        Nobody else writes meanwhile. Raises BrokenLedger, LedgerError, and what ``decide`` raises.
        """
        with self._writing() as connection:
            entries = _read(connection)
            change = decide(entries)
            if change is None:
                return None
            entry = entry_after(entries[-1] if entries else None, change, actor())
            _add(connection, entry)
            return entry

    @contextmanager
    def _writing(self) -> "Iterator[Connection]":
        from sqlalchemy.exc import SQLAlchemyError

        engine = None
        try:
            engine = _engine(self.uri)
            with engine.begin() as connection:
                _upgrade(connection)
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql("LOCK TABLE ledger IN EXCLUSIVE MODE")
                yield connection
        except (SQLAlchemyError, ModuleNotFoundError) as error:
            said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
            raise LedgerError(f"the ledger at {shown(self.uri)} cannot be used: {said}") from error
        finally:
            if engine is not None:
                engine.dispose()


def actor() -> str:
    """Who runs this process, as LOGIN@HOST, by the operating system: no variable and no option says it."""
    try:
        login = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container may run under a number without a name
        login = str(os.getuid())
    return f"{login}@{socket.gethostname()}"


def shown(uri: str) -> str:
    """The address without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(uri).render_as_string(hide_password=True)
    except ArgumentError:
        return "the address given"


def _file(uri: str) -> Path | None:
    """The file of an SQLite ledger."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except ArgumentError as error:
        raise LedgerError(
            f"the ledger's address is not one of SQLAlchemy's (sqlite:///FILE, postgresql+psycopg://…): {shown(uri)}"
        ) from error
    return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None


def _engine(uri: str) -> "Engine":
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    file = _file(uri)
    if file is None:
        return create_engine(uri, poolclass=NullPool)
    try:
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise LedgerError(f"the ledger {file} cannot be opened for writing: {error.strerror}") from error
    engine = create_engine(uri, poolclass=NullPool, connect_args={"timeout": SECONDS})

    # sqlite3 would begin a transaction only at the first write, after the rows were read
    @event.listens_for(engine, "connect")
    def _manual(connection: Any, _record: Any) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _immediate(connection: "Connection") -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _upgrade(connection: "Connection") -> None:
    """Bring the table into its present shape."""
    from alembic import command
    from alembic.config import Config
    from alembic.runtime.migration import MigrationContext

    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    settings.attributes["connection"] = connection
    context = MigrationContext.configure(connection, opts={"version_table": VERSIONS})
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('kellet ledger'))")
    if context.get_current_revision() != HEAD:
        command.upgrade(settings, HEAD)


def _read(connection: "Connection") -> list[Entry]:
    rows = connection.exec_driver_sql(f"SELECT {', '.join(_quoted())} FROM ledger ORDER BY number")  # noqa: S608
    entries = [
        Entry.model_validate(dict(zip(COLUMNS, row, strict=True)) | {"evidence": json.loads(row[EVIDENCE])})
        for row in rows
    ]
    require_whole(entries)
    return entries


def _quoted() -> list[str]:
    return [f'"{column}"' for column in COLUMNS]  # "before" and "time" are words of SQL


def _add(connection: "Connection", entry: Entry) -> None:
    from sqlalchemy import text

    fields = entry.model_dump() | {"evidence": json.dumps(entry.evidence, sort_keys=True)}
    places = ", ".join(f":{column}" for column in COLUMNS)
    connection.execute(text(f"INSERT INTO ledger ({', '.join(_quoted())}) VALUES ({places})"), fields)  # noqa: S608
