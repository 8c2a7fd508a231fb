"""Where the files of a registered model are: for ``kellet chat``, and for the comparison with the champion.

A registry is shared: a version may be anybody's, and an alias may be moved by hand. So whoever reads a version's tags
or files asks first whether Kellet wrote them (:func:`require_tags`, :func:`layout`).

kellet itself does not know MLflow; its verb starts this module as a process and reads the JSON that it prints.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from pydantic import ValidationError

from adapters.command import guarded
from adapters.mlflow_client import client, is_missing
from kellet.config.run import Tracking
from kellet.config.training import Text
from kellet.errors import InputError

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
IDENTITY = ("retraining_key", "base_hash", "policy_hash")
"""Tags of every version that Kellet registered: which retraining, on which base model, which policy."""


class Layout(NamedTuple):
    """What the MLmodel file of a version says, which Kellet wrote."""

    base: str
    """Where the base model is, in the model's folder."""
    policy: str
    text: Text


def require_tags(version: "ModelVersion", remedy: str, *names: str, role: str = "") -> None:
    """Raise InputError where a version lacks one of these tags: Kellet did not register it, or it was changed since.

    ``role`` says what the version is taken for, ``remedy`` what to do.
    """
    missing = [name for name in names if not version.tags.get(name)]
    if not missing:
        return
    lacks = f"no tag{'s' if len(missing) > 1 else ''} {', '.join(missing)}"
    ours = any(version.tags.get(name) for name in IDENTITY)
    why = (
        f"has {lacks} any more, which Kellet registers with"
        if ours
        else f"was not registered by Kellet: it has {lacks}"
    )
    raise InputError(f"{version.name}/{version.version}{f' ({role})' if role else ''} {why}; {remedy}")


def find(model: str, uri: str) -> dict[str, Any]:
    """Name, folders and text parameters of a registered model, as :func:`fetch` gives them.

    ``model``: NAME/VERSION, NAME@ALIAS or NAME, which means its champion. Raises InputError when there is none.
    """
    from mlflow.exceptions import MlflowException

    name, slash, number = model.partition("/")
    name, _, alias = name.partition("@")
    if is_missing(uri):
        raise InputError(f"{uri} does not exist, so no model is registered; give a folder with --policy")
    try:
        if slash:
            version = client(uri).get_model_version(name, number)
        else:
            version = client(uri).get_model_version_by_alias(name, alias or CHAMPION)
    except MlflowException as error:
        raise InputError(
            f"no registered model {model!r} in {uri} ({error.message}); give NAME/VERSION or NAME@ALIAS, or "
            "a folder with --policy"
        ) from error
    return {"name": f"{name}/{version.version}", **fetch(name, str(version.version), uri)}


def find_version(tracking: Tracking, retraining_key: str) -> "ModelVersion | None":
    """The version that this very retraining has registered; None when it has not."""
    where = f"name = '{tracking.registered_model}' and tags.`retraining_key` = '{retraining_key}'"
    versions = client(tracking.uri).search_model_versions(where)
    return versions[0] if versions else None


def fetch(name: str, number: str, uri: str) -> dict[str, Any]:
    """Folders ``base`` and ``policy`` of a registered version, brought to this machine, and the parameters ``text``.

    Raises InputError where the files are gone or are not those of a model of Kellet.
    """
    found = layout(name, number, uri)
    folder = _download(name, number, uri)
    folders = {key: (folder / getattr(found, key)).resolve() for key in ("base", "policy")}
    for key, path in folders.items():
        if not path.is_dir():
            raise InputError(
                f"{name}/{number} has no {key} any more: {getattr(found, key)!r} is not among its files; restore them"
            )
    return {**{key: str(path) for key, path in folders.items()}, "text": found.text.model_dump(mode="json")}


def layout(name: str, number: str, uri: str) -> Layout:
    """What the MLmodel file says: MLflow keeps an artefact under the name of the folder that it was logged from.

    Raises InputError where there is no such file, or where it is not that of a model of Kellet.
    """
    file = _download(name, number, uri, "MLmodel")
    try:
        flavours = yaml.safe_load(file.read_text(encoding="utf-8"))["flavors"]
        settings = flavours["python_function"]
        base, policy = (str(settings["artifacts"][key]["path"]) for key in ("base", "policy"))
        return Layout(base, policy, Text.model_validate(settings["config"]["text"]))
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, ValidationError) as error:
        what = f"{type(error).__name__} {str(error).splitlines()[0]}"
        raise InputError(
            f"{name}/{number} is no model of Kellet: its MLmodel file does not name a base, a policy and their text "
            f"parameters ({what}); name a version that flows.retrain registered"
        ) from error


def _download(name: str, number: str, uri: str, file: str = "") -> Path:
    """The files of a version, or one of them. Raises InputError where they are gone."""
    import mlflow
    from mlflow.exceptions import MlflowException

    mlflow.set_tracking_uri(uri)  # models:/ is looked up there, whatever tracking_uri is given
    try:
        return Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{number}" + (file and f"/{file}")))
    except (MlflowException, OSError, ValueError, ImportError) as error:  # a foreign source may be of any kind
        source = client(uri).get_model_version(name, number).source
        raise InputError(
            f"the files of {name}/{number} ({source}) cannot be read: {str(error).splitlines()[0]}; restore them, or "
            "name another version"
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Arguments as kellet's verb gives them."""
    parser = argparse.ArgumentParser(prog="python -m adapters.registered")
    parser.add_argument("model")
    parser.add_argument("--uri", required=True)
    given = parser.parse_args(arguments)

    def work() -> int:
        sys.stdout.write(json.dumps(find(given.model, given.uri)) + "\n")
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
