"""``kellet ledger`` prints what was written, and names a row that was changed."""

import json
import sqlite3

import pytest
from click.testing import CliRunner

from kellet.cli.main import main
from kellet.ledger.entry import Change
from kellet.ledger.table import Ledger


@pytest.fixture
def file(tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    common = {"model": "kellet-support", "version": "1", "before": "none", "evidence": {"gate.json": "0f"}}
    ledger.write(lambda _: Change(action="verdict", after="promote", reason="gain shown", **common))
    ledger.write(lambda _: Change(action="promote", after="1", anchor="1", reason="gain shown", **common))
    other = {**common, "model": "other", "version": "7"}
    ledger.write(lambda _: Change(action="verdict", after="block", reason="too long", **other))
    return tmp_path / "ledger.db"


def told(file, *options):
    result = CliRunner().invoke(main, ["ledger", "--set", f"tracking.ledger=sqlite:///{file}", *options])
    return result.exit_code, result.stdout, result.stderr


def test_it_prints_each_row_and_who_is_champion(file):
    code, printed, _ = told(file)
    assert code == 0
    head, *rows, last = printed.splitlines()
    assert head.split() == ["row", "time", "who", "what", "version", "from", "to", "why"]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert rows[0].endswith("none  promote  gain shown")
    entries = Ledger(f"sqlite:///{file}").entries()
    assert last.startswith("kellet-support: champion 1, before it none, anchor 1; 3 rows in all")
    assert last.endswith(entries[-1].hash[:12])


def test_json_has_the_evidence_of_one_version(file):
    code, printed, _ = told(file, "--json", "--model", "other", "--version", "7")
    (row,) = json.loads(printed)
    assert (code, row["after"], row["evidence"], row["number"]) == (0, "block", {"gate.json": "0f"}, 3)


def test_a_row_that_was_changed_is_named(file):
    connection = sqlite3.connect(file)
    connection.execute("DROP TRIGGER ledger_update")
    connection.execute("UPDATE ledger SET after = 'block' WHERE number = 1")
    connection.commit()
    connection.close()
    code, printed, error = told(file)
    assert (code, printed) == (1, "")
    assert error.startswith("error: the ledger is broken: row 1 was changed")


def test_there_may_be_none(tmp_path):
    code, printed, _ = told(tmp_path / "ledger.db")
    assert code == 0
    assert "champion none" in printed
    assert list(tmp_path.iterdir()) == []
