"""What MLflow and Prefect get of a configuration and of errors holds no credentials, and no markup of files."""

import pytest

from adapters import log, mlflow_client, registry, tracking
from adapters.artefacts import Artefact
from adapters.dvc import Dataset
from adapters.outcome import Outcome, _show
from kellet.config.run import Config
from kellet.errors import InputError, NotPromoted
from kellet.files import write_json

ADDRESS = "postgresql://user:s3cr/t@x:y@db.example/mlflow"


def test_parameters_tags_and_files_of_a_run(uri, tmp_path):
    """The run's address is reached by the client of these tests; the configuration holds one with a password."""
    secret = Config.model_validate({"base_model": {"path": ADDRESS}, "tracking": {"uri": uri, "ledger": ADDRESS}})
    data = Dataset(name="d", folder=tmp_path, hash="h", summary={})
    client = mlflow_client.client(uri)
    client.create_experiment(secret.tracking.experiment, (tmp_path / "mlruns").as_uri())
    run_id = tracking.start_run(secret, data, {"data": f"from {ADDRESS}"}, "retrain")
    with pytest.raises(NotPromoted), tracking.closing(secret.tracking, run_id):
        raise NotPromoted(f"no lift at {ADDRESS}")
    client.set_tag(run_id, "headline2", f"{ADDRESS} \x1b[2J")
    run = client.get_run(run_id)
    (file,) = client.list_artifacts(run_id)
    said = [
        *run.data.params.values(),
        *run.data.tags.values(),
        mlflow_client.run_file(uri, run_id, file.path).read_text(),
    ]
    assert sum("***@db.example/mlflow" in text for text in said) >= 6
    assert not [text for text in said if "s3cr" in text or "x:y" in text or "\x1b" in text]


def test_tags_of_a_version(uri, client, tmp_path):
    client.create_registered_model("masked")
    ours = mlflow_client.client(uri)
    version = ours.create_model_version("masked", str(tmp_path), tags={"why": ADDRESS})
    ours.set_model_version_tag("masked", version.version, "reason", ADDRESS)
    tags = client.get_model_version("masked", version.version).tags
    assert tags == {"why": "postgresql://***@db.example/mlflow", "reason": "postgresql://***@db.example/mlflow"}


def test_a_hidden_address_is_refused():
    with pytest.raises(InputError, match=r"are hidden; give the address with --set tracking\.uri="):
        mlflow_client.client("postgresql://***@db.example/mlflow")


def test_prefect_gets_text_of_files_as_text(tmp_path, monkeypatch):
    """Prefect's server is a seam here: what it would be given is kept."""
    given = []
    monkeypatch.setattr(log.TaskRunContext, "get", lambda: object())
    monkeypatch.setattr(log, "create_markdown_artifact", lambda text, **more: given.append(str((text, more))))
    monkeypatch.setattr(log, "create_table_artifact", lambda rows, **more: given.append(str((rows, more))))
    hostile = f"judge_<img src=x onerror=alert(1)> [click](javascript:x) {ADDRESS} \x1b[2J"
    criteria = [{"name": hostile, "passed": True, "value": 1.0, "interval": [0, 1], "threshold": 0, "why": hostile}]
    write_json(tmp_path / "gate.json", {"criteria": criteria})
    _show(Outcome(name="n", verdict="promote", headline=hostile, reasons="", model=hostile, folder=tmp_path))
    assert len(given) == 2
    for text in given:
        assert "onerror" in text
        for raw in ("<img", "[click](", "s3cr", "\x1b", "\\x1b["):
            assert raw not in text.replace("\\\\x1b\\[", "")


def test_a_version_judged_anew_has_no_password_in_its_headline(uri, client, tmp_path):
    report = Artefact(stage="report", path=tmp_path, hash="r")
    write_json(tmp_path / "gate.json", {"verdict": "block", "headline": ADDRESS, "criteria": []})
    ours = mlflow_client.client(uri)
    client.create_registered_model("anew")
    version = ours.create_model_version("anew", str(tmp_path), tags=registry._verdict(report))
    assert client.get_model_version("anew", version.version).tags["headline"] == "postgresql://***@db.example/mlflow"
