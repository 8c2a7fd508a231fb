"""How a retraining ends: exit codes, a reward model without lift, metrics in batches."""

import json

import pytest
from mlflow import MlflowClient

from adapters.artefacts import Artefact
from adapters.owner import is_gone, me
from flows import cli as command
from kellet.config.run import Config
from kellet.errors import ConfigError, NoLift
from tasks import tracking
from tasks.outcome import Outcome, require_lift
from tasks.regate import Verdicts


def outcome(name, verdict):
    return Outcome(name=name, verdict=verdict, headline="h", reasons="none", model="m/1", folder=f"runs/{name}")


@pytest.mark.parametrize(("verdict", "code"), [("promote", 0), ("block", 3), ("inconclusive", 3)])
def test_exit_codes_of_verdicts(verdict, code, monkeypatch, capsys):
    monkeypatch.setattr(command, "load", lambda *_: None)
    assert command.run(lambda *_: outcome("a", verdict), "Doc.", []) == code
    assert f"a: {verdict.upper()}" in capsys.readouterr().out


@pytest.mark.parametrize(("verdict", "code"), [("promote", 0), ("block", 3), ("inconclusive", 3)])
def test_a_verdict_of_people_has_the_same_exit_codes(verdict, code, monkeypatch, capsys):
    monkeypatch.setattr(command, "load", lambda *_: None)
    given = []
    arguments = ["--params", "p.yaml", "--verdicts", "a.csv", "b.csv", "--key", "k.json", "--version", "4"]
    assert command.run_regate(lambda *all_: given.append(all_) or outcome("a", verdict), "Doc.", arguments) == code
    assert given == [("p.yaml", (), Verdicts(sheets=("a.csv", "b.csv"), key="k.json"), 4)]
    assert command.run_regate(lambda *_: outcome("a", verdict), "Doc.", ["--key", "k.json"]) == 2
    assert "--key belongs to the sheets of --verdicts" in capsys.readouterr().err


def test_an_error_on_purpose_is_one_line_and_its_code(monkeypatch, capsys):
    def refuse(*_):
        raise ConfigError("unknown parameter")

    monkeypatch.setattr(command, "load", refuse)
    assert command.run(lambda *_: outcome("a", "promote"), "Doc.", []) == 2
    assert capsys.readouterr().err == "error: unknown parameter\n"


@pytest.mark.parametrize(
    ("verdicts", "code"), [(("block", "promote"), 0), (("promote", "promote"), 3), (("block", "block"), 3)]
)
def test_the_demo_succeeds_when_naive_is_kept_out_and_changed_promoted(verdicts, code, capsys):
    outcomes = (outcome("naive", verdicts[0]), outcome("support", verdicts[1]))
    assert command.run_demo(lambda: outcomes, "Doc.", []) == code
    assert "retraining  verdict" in capsys.readouterr().out


def test_without_lift_the_run_stops_with_its_card(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    share = {"value": 0.6, "interval": [0.5, 0.7]}
    card = {"pairs": 90, "accuracy": share, "length_baseline": share, "lift": {"value": 0.0, "interval": [-0.1, 0.1]}}
    (tmp_path / "reward").mkdir()
    (tmp_path / "reward/card.json").write_text(json.dumps(card))
    reward = Artefact(stage="reward_model", path=tmp_path / "reward", hash="r")
    with pytest.raises(NoLift, match="always the longer one"):
        require_lift(Config(name="n"), reward)
    assert {file.name for file in (tmp_path / "runs/n").iterdir()} == {"card.json", "params.yaml"}
    require_lift(Config.model_validate({"reward_model": {"require_lift": False}}), reward)


def test_metrics_go_out_in_few_calls(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("e")).info.run_id
    calls = []
    original = client.log_batch
    monkeypatch.setattr(client, "log_batch", lambda *args, **more: calls.append(1) or original(*args, **more))
    steps = [{"iteration": i, **{f"m{j}": i * j for j in range(30)}, "none": None} for i in range(100)]
    tracking.log_metrics(client, run, steps)
    assert len(calls) == 3
    history = client.get_metric_history(run, "m2")
    assert [(point.step, point.value) for point in history] == [(i, 2 * i) for i in range(100)]


def test_a_metric_named_by_words_is_logged_under_what_mlflow_takes_of_them(tmp_path):
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    run = client.create_run(client.create_experiment("e")).info.run_id
    tracking.log_metrics(client, run, [{"data/reasons.also a training prompt (case, white space left out)": 3}])
    assert client.get_run(run).data.metrics == {"data/reasons.also a training prompt case white space left out": 3.0}


def test_a_process_is_gone_when_its_number_belongs_to_another(monkeypatch):
    mine = me()
    assert not is_gone(mine)
    head, start = mine.rsplit(":", 1)
    assert is_gone(f"{head}:{int(start) - 100}")
    assert not is_gone(mine.replace(mine.split(":")[1], "another-host"))
