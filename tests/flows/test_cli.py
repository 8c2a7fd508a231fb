"""The command lines of the flows: arguments, error lines and exit codes, without a flow."""

import pytest

from adapters.outcome import Outcome
from flows import cli
from kellet.errors import ConfigError
from kellet.evaluation.verdicts import Verdicts


def outcome(name, verdict):
    return Outcome(name=name, verdict=verdict, headline="h", reasons="none", model="m/1", folder=f"runs/{name}")


@pytest.mark.parametrize(("verdict", "code"), [("promote", 0), ("block", 3), ("inconclusive", 3)])
def test_exit_codes_of_verdicts(verdict, code, monkeypatch, capsys):
    monkeypatch.setattr(cli, "load", lambda *_: None)
    assert cli.run(lambda *_: outcome("a", verdict), "Doc.", []) == code
    assert f"a: {verdict.upper()}" in capsys.readouterr().out


@pytest.mark.parametrize(("verdict", "code"), [("promote", 0), ("block", 3), ("inconclusive", 3)])
def test_a_verdict_of_people_has_the_same_exit_codes(verdict, code, monkeypatch, capsys):
    monkeypatch.setattr(cli, "load", lambda *_: None)
    given = []
    arguments = ["--params", "p.yaml", "--verdicts", "a.csv", "b.csv", "--key", "k.json", "--version", "4"]
    assert cli.run_regate(lambda *all_: given.append(all_) or outcome("a", verdict), "Doc.", arguments) == code
    assert given == [("p.yaml", (), Verdicts(sheets=("a.csv", "b.csv"), key="k.json"), 4)]
    assert cli.run_regate(lambda *_: outcome("a", verdict), "Doc.", ["--key", "k.json"]) == 2
    assert "--key belongs to the sheets of --verdicts" in capsys.readouterr().err


def test_an_error_on_purpose_is_one_line_and_its_code(monkeypatch, capsys):
    def refuse(*_):
        raise ConfigError("unknown parameter")

    monkeypatch.setattr(cli, "load", refuse)
    assert cli.run(lambda *_: outcome("a", "promote"), "Doc.", []) == 2
    assert capsys.readouterr().err == "error: unknown parameter\n"


@pytest.mark.parametrize(
    ("verdicts", "code"), [(("block", "promote"), 0), (("promote", "promote"), 3), (("block", "block"), 3)]
)
def test_the_demo_succeeds_when_naive_is_kept_out_and_changed_promoted(verdicts, code, capsys):
    outcomes = (outcome("naive", verdicts[0]), outcome("support", verdicts[1]))
    assert cli.run_demo(lambda: outcomes, "Doc.", []) == code
    assert "retraining  verdict" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--workers", "0"], ["--runner", "nowhere:Runner"], ["--set", "policy.x=1"]])
def test_bad_usage_is_refused_before_anything_starts(arguments, capsys):
    assert cli.run_remedies(lambda *_: pytest.fail("started"), "Doc.", arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")
