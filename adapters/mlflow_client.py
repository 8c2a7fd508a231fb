"""MLflow's client. MLflow is imported where it is used: a command that only prints its help does not wait for it."""

from pathlib import Path
from typing import TYPE_CHECKING

from kellet.config.run import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient


def client(uri: str) -> "MlflowClient":
    """A client of the tracking server and registry at ``uri``, the same for both."""
    from mlflow import MlflowClient

    return MlflowClient(uri, uri)


def aliases(tracking: Tracking) -> dict[str, str]:
    """Alias -> version number of the registered model; empty when nothing is registered yet."""
    models = client(tracking.uri).search_registered_models(f"name = '{tracking.registered_model}'")
    return {alias: str(number) for alias, number in models[0].aliases.items()} if models else {}


def is_missing(uri: str) -> bool:
    """Whether ``uri`` is an SQLite file that does not exist. A client would create it, so ask this first."""
    file = uri.removeprefix("sqlite:///")
    return file != uri and not Path(file).is_file()


def run_file(uri: str, run_id: str, name: str) -> Path:
    """A local copy of a file that was logged to a run. Raises MlflowException where the run or the file is gone."""
    from mlflow.artifacts import download_artifacts

    return Path(download_artifacts(run_id=run_id, artifact_path=name, tracking_uri=uri))
