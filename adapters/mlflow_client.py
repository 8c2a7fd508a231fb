"""MLflow's client. MLflow is imported where it is used: a command that only prints its help does not wait for it."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kellet.config.run import Tracking
from kellet.errors import InputError
from kellet.mask import is_masked, masked
from kellet.terminal import harmless_text

if TYPE_CHECKING:
    from mlflow import MlflowClient


def client(uri: str) -> "MlflowClient":
    """A client of the tracking server and registry at ``uri``, the same for both; its tags are masked.

    Raises InputError for an address whose credentials are hidden, as those of a run's params.yaml are.
    """
    if is_masked(uri):
        raise InputError(f"the credentials of {uri} are hidden; give the address with --set tracking.uri=…")
    return _masking()(uri, uri)


@cache
def _masking() -> "type[MlflowClient]":
    """MLflow's client, every tag of which goes through kellet/mask.py and kellet/terminal.py: all may see them."""
    from mlflow import MlflowClient

    class Client(MlflowClient):  # type: ignore[misc]  # mlflow is not typed
        """Tags reach MLflow by these four."""

        def create_run(self, *given: Any, tags: Mapping[str, Any] | None = None, **named: Any) -> Any:
            return super().create_run(*given, tags=_labels(tags), **named)

        def create_model_version(self, *given: Any, tags: Mapping[str, Any] | None = None, **named: Any) -> Any:
            return super().create_model_version(*given, tags=_labels(tags), **named)

        def set_tag(self, run_id: str, key: str, value: Any, **named: Any) -> None:
            super().set_tag(run_id, key, _label(value), **named)

        def set_model_version_tag(self, name: str, version: str, key: str, value: Any, **named: Any) -> None:
            super().set_model_version_tag(name, version, key, _label(value), **named)

    return Client


def _labels(tags: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if tags is None else {key: _label(value) for key, value in tags.items()}


def _label(value: Any) -> Any:
    return harmless_text(masked(value)) if isinstance(value, str) else value


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
