"""The ledger's table in a real SQLite file and a real PostgreSQL: only added to, by one writer at a time."""

import multiprocessing
import sqlite3
import tempfile
from pathlib import Path

import pytest
import sqlalchemy

from kellet.ledger.chain import BrokenLedger
from kellet.ledger.entry import Change
from kellet.ledger.table import Ledger, LedgerError, actor
from tests.helpers import postgres

WRITERS, ROWS = 3, 4


def verdict(version="1", **more):
    fields = {"model": "m", "version": version, "before": "none", "after": "promote", "reason": "r"}
    return Change(action="verdict", **fields | more)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def uri(request, tmp_path_factory):
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path_factory.mktemp('ledger')}/ledger.db"
    elif postgres.programs() is None:
        pytest.skip("needs PostgreSQL (package postgresql)")
    else:
        pytest.importorskip("psycopg", reason="needs the extra 'servers'")
        with tempfile.TemporaryDirectory(prefix="kellet-pg-") as folder, postgres.server(Path(folder)) as address:
            yield address


def write_many(uri, name):
    for number in range(ROWS):
        Ledger(uri).write(lambda entries, number=number: verdict(name, reason=f"{number} after {len(entries)}"))


def test_several_processes_write_one_chain(uri):
    """Each row says how many were there when it was decided on: nobody wrote in between."""
    spawned = multiprocessing.get_context("spawn")
    writers = [spawned.Process(target=write_many, args=(uri, str(number))) for number in range(WRITERS)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0] * WRITERS
    entries = Ledger(uri).entries()
    assert [entry.number for entry in entries] == list(range(1, WRITERS * ROWS + 1))
    assert [entry.reason.split()[-1] for entry in entries] == [str(number) for number in range(WRITERS * ROWS)]
    assert {entry.actor for entry in entries} == {actor()}


def test_rows_come_back_as_they_were_written(uri):
    evidence = {"gate.json": "ab", "policy": "'; DROP TABLE ledger; --"}
    written = Ledger(uri).write(lambda _: verdict(reason='ein "Grund"\n\N{SNOWMAN} %s :x ?', evidence=evidence))
    assert Ledger(uri).entries()[-1] == written
    assert written.evidence == evidence


@pytest.mark.parametrize(
    "statement", ["UPDATE ledger SET reason = 'x'", "DELETE FROM ledger", "DELETE FROM ledger WHERE number = 1"]
)
def test_the_database_refuses_to_change_or_delete_rows(uri, statement):
    Ledger(uri).write(lambda _: verdict())
    before = Ledger(uri).entries()
    engine = sqlalchemy.create_engine(uri)
    with pytest.raises(sqlalchemy.exc.DBAPIError, match="never changed or deleted"), engine.begin() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
    assert Ledger(uri).entries() == before


def test_nothing_is_written_where_nothing_is_decided_or_the_decision_fails(uri):
    before = Ledger(uri).entries()
    assert Ledger(uri).write(lambda _: None) is None
    with pytest.raises(ZeroDivisionError):
        Ledger(uri).write(lambda _: 1 / 0)
    assert Ledger(uri).entries() == before


@pytest.fixture
def file(tmp_path):
    ledger = tmp_path / "ledger.db"
    for version in "12":
        Ledger(f"sqlite:///{ledger}").write(lambda _, version=version: verdict(version))
    return ledger


@pytest.mark.parametrize(
    "statement", ["UPDATE ledger SET after = 'block' WHERE number = 1", "DELETE FROM ledger WHERE number = 1"]
)
def test_who_takes_the_triggers_away_and_edits_is_found_and_nothing_more_is_written(file, statement):
    connection = sqlite3.connect(file)
    for action in ("update", "delete"):
        connection.execute(f"DROP TRIGGER ledger_{action}")
    connection.execute(statement)
    connection.commit()
    connection.close()
    for use in (Ledger(f"sqlite:///{file}").entries, lambda: Ledger(f"sqlite:///{file}").write(lambda _: verdict("3"))):
        with pytest.raises(BrokenLedger, match="the ledger is broken: row"):
            use()


def test_only_its_owner_may_read_it(file):
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_ledger_that_is_not_there_is_empty_and_none_is_made(tmp_path):
    assert Ledger(f"sqlite:///{tmp_path}/none.db").entries() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("sqlite:///{}/gone/ledger.db", "cannot be opened for writing: No such file or directory"),
        ("sqlite:///{}/text", "file is not a database"),
        ("nothing", "is not one of SQLAlchemy's"),
        ("postgresql+nodriver://kellet:s3cret@127.0.0.1:1/x", r"://\*\*\*@127"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line_without_its_password(tmp_path, address, message):
    (tmp_path / "text").write_text("no database, but long enough to be taken for one: " * 40)
    with pytest.raises(LedgerError, match=message) as error:
        Ledger(address.format(tmp_path)).write(lambda _: verdict())
    assert "\n" not in str(error.value)
    assert "s3cret" not in str(error.value)


def test_the_actor_is_who_the_operating_system_says(monkeypatch):
    before = actor()
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody else")
    assert actor() == before
    assert before.count("@") == 1
