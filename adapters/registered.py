"""Where the files of a registered model are: for ``kellet chat``, and for the comparison with the champion.

kellet itself does not know MLflow; its verb starts this module as a process and reads the JSON that it prints.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from adapters.command import guarded
from adapters.mlflow_client import client, is_missing
from kellet.errors import InputError

CHAMPION = "champion"


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


def fetch(name: str, number: str, uri: str) -> dict[str, Any]:
    """Folders ``base`` and ``policy`` of a registered version, brought to this machine, and the parameters ``text``.

    MLflow keeps an artefact under the name of the folder it was logged from; its MLmodel file says which is which.
    """
    import mlflow

    mlflow.set_tracking_uri(uri)  # models:/ is looked up there, whatever tracking_uri is given
    folder = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{number}"))
    settings = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))["flavors"]["python_function"]
    folders = {key: str((folder / settings["artifacts"][key]["path"]).resolve()) for key in ("base", "policy")}
    return {**folders, "text": settings["config"]["text"]}


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
