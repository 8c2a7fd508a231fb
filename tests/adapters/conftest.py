"""What the tests on a real MLflow registry share."""

import pytest
from mlflow import MlflowClient

from adapters import promotion
from adapters.artefacts import Artefact
from kellet.files import write_json


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One database for all tests of a file, each with a model of its own: creating it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture
def tracking(uri, request, tmp_path):
    """A registered model and a ledger of the test's own."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    return {"uri": uri, "registered_model": name, "experiment": name, "ledger": f"sqlite:///{tmp_path}/ledger.db"}


@pytest.fixture
def client(uri):
    return MlflowClient(uri)


@pytest.fixture
def aliases(tracking, client):
    def read():
        found = client.get_registered_model(tracking["registered_model"]).aliases
        return {alias: str(number) for alias, number in found.items()}

    return read


@pytest.fixture
def add(config, client, aliases, tmp_path):
    """Create a version and its verdict as ``register`` does, without uploading a model."""
    name = config.tracking.registered_model
    client.create_registered_model(name)

    def create(key, verdict="promote", better=False, run_id=None, compared=None):
        report = tmp_path / "reports" / key
        report.mkdir(parents=True)
        write_json(
            report / "gate.json", {"verdict": verdict, "headline": key, "criteria": [], "becomes_anchor": better}
        )
        (report / "evaluation.parquet").write_text(key)
        champion = compared or aliases().get("champion", "none")
        tags = {
            "retraining_key": key,
            "verdict": verdict,
            "base_hash": "b",
            "policy_hash": key,
            "compared_with": champion,
            "report": str(report),
        }
        version = client.create_model_version(name, str(tmp_path), run_id=run_id, tags=tags)
        promotion.keep_verdict(config.tracking, version, Artefact(stage="report", path=report, hash=""), champion)
        return version

    return create
