"""Where the files of a registered model are: for ``kellet chat``, and for the comparison with the champion.

A registry is shared: a version may be anybody's, and an alias may be moved by hand. So whoever reads a version's tags
or files asks first whether Kellet wrote them (:func:`require_tags`, :func:`fetch`).

kellet itself does not know MLflow; its verb starts this module as a process and reads the JSON that it prints.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from adapters.command import guarded
from adapters.mlflow_client import client, is_missing
from adapters.settings import FETCHED
from kellet.config.run import TRACKING, Tracking
from kellet.config.training import Text
from kellet.errors import DataError, InputError
from kellet.files import atomic_folder, content_hash
from kellet.ledger.chain import last_verdict
from kellet.ledger.table import Ledger
from kellet.manifest import FILE
from kellet.models.served_model import BASE, POLICY, check_served
from kellet.terminal import harmless_output

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
LOCAL = ("", "file")
"""Schemes of stores on this machine."""
MANIFEST = "manifest_hash"
"""Tag of a version: the hash of its manifest, kellet/manifest.py."""
IDENTITY = ("retraining_key", "base_hash", "policy_hash")
"""Tags of every version that Kellet registered: which retraining, on which base model, which policy."""


class Files(NamedTuple):
    """The files of a registered model on this machine, checked."""

    folder: Path
    """As MLflow serves it (kellet/models/served_model.py)."""
    text: Text

    @property
    def base(self) -> Path:
        """The folder of its base model."""
        return self.folder / BASE

    @property
    def policy(self) -> Path:
        """The folder of its policy."""
        return self.folder / POLICY


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


def find(model: str, tracking: Tracking) -> "ModelVersion":
    """The version NAME/VERSION, NAME@ALIAS or NAME, which means its champion. Raises InputError when there is none."""
    from mlflow.exceptions import MlflowException

    name, slash, number = model.partition("/")
    name, _, alias = name.partition("@")
    uri = tracking.uri
    if is_missing(uri):
        raise InputError(f"{uri} does not exist, so no model is registered; give a folder with --policy")
    try:
        if slash:
            return client(uri).get_model_version(name, number)
        return client(uri).get_model_version_by_alias(name, alias or CHAMPION)
    except MlflowException as error:
        raise InputError(
            f"no registered model {model!r} in {uri} ({error.message}); give NAME/VERSION or NAME@ALIAS, or "
            "a folder with --policy"
        ) from error


def find_version(tracking: Tracking, retraining_key: str) -> "ModelVersion | None":
    """The version that this very retraining has registered; None when it has not."""
    where = f"name = '{tracking.registered_model}' and tags.`retraining_key` = '{retraining_key}'"
    versions = client(tracking.uri).search_model_versions(where)
    return versions[0] if versions else None


def fetch(version: "ModelVersion", tracking: Tracking) -> Files:
    """The files of a registered version, brought to this machine and held against what was registered.

    The tag MANIFEST has the hash of the manifest, which has that of every file; where the ledger has a verdict of the
    version, that decides. A fetched copy is kept in artifacts/registered. Raises InputError where the version is not
    one of Kellet's, and DataError where a file of it was changed, is gone or was added.
    """
    name, wanted = f"{version.name}/{version.version}", _manifest_hash(version, tracking)
    folder = _download(version, tracking.uri, wanted)
    found = content_hash(folder / FILE) if (folder / FILE).is_file() else "nothing"
    if found != wanted:
        raise DataError(
            f"{FILE} of {name} is {found[:12]}, and {wanted[:12]} was registered: its files were changed since "
            f"({folder}); {_again(folder)}"
        )
    try:
        return Files(folder, check_served(folder))
    except DataError as error:
        raise DataError(f"{name} is not what was registered: {error}; {_again(folder)}") from error


def _again(folder: Path) -> str:
    if FETCHED in folder.parents:
        return f"delete {folder}, and it is fetched again"
    return "restore them, or name another version"


def _manifest_hash(version: "ModelVersion", tracking: Tracking) -> str:
    """The hash that the manifest of a version has to have. Raises InputError where tag and ledger differ."""
    name, tag = f"{version.name}/{version.version}", version.tags.get(MANIFEST, "")
    said = last_verdict(Ledger(tracking.ledger).entries(), version.name, str(version.version))
    kept = said.evidence.get("manifest", tag) if said else tag
    if not kept:
        require_tags(version, "name a version that flows.retrain registered", *IDENTITY)
        raise InputError(
            f"{name} has no tag {MANIFEST}: an earlier Kellet registered it, whose models hold code and cannot be "
            "checked. Take its alias away (MlflowClient.delete_registered_model_alias) and retrain"
        )
    if kept != tag:
        raise InputError(
            f"the tag {MANIFEST} of {name} is {tag[:12] or 'gone'}, and the ledger has {kept[:12]}: it was changed "
            "since; restore it, or name another version"
        )
    return str(kept)


def _download(version: "ModelVersion", uri: str, manifest_hash: str) -> Path:
    """The folder of a version: that of the store itself where it is on this machine, else a copy that is kept.

    Raises InputError where the files are gone.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    model = f"models:/{version.name}/{version.version}"
    mlflow.set_tracking_uri(uri)  # models:/ is looked up there, whatever tracking_uri is given
    try:
        source = client(uri).get_model_version_download_uri(version.name, version.version)
        if urlsplit(source).scheme in LOCAL:
            return Path(mlflow.artifacts.download_artifacts(model))
        kept = FETCHED / f"{version.name}-{version.version}-{manifest_hash[:12]}"
        if not kept.is_dir():
            with atomic_folder(kept) as temporary:
                mlflow.artifacts.download_artifacts(model, dst_path=str(temporary))
    except (MlflowException, OSError, ValueError, ImportError) as error:  # a foreign source may be of any kind
        raise InputError(
            f"the files of {version.name}/{version.version} ({version.source}) cannot be read: "
            f"{str(error).splitlines()[0]}; restore them, or name another version"
        ) from error
    return kept


@harmless_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Arguments as kellet's verb gives them; the section ``tracking`` is in the variable TRACKING."""
    parser = argparse.ArgumentParser(prog="python -m adapters.registered")
    parser.add_argument("model")
    given = parser.parse_args(arguments)

    def work() -> int:
        tracking = Tracking.model_validate_json(os.environ[TRACKING])
        version = find(given.model, tracking)
        files = fetch(version, tracking)
        found = {"name": f"{version.name}/{version.version}", "base": str(files.base), "policy": str(files.policy)}
        sys.stdout.write(json.dumps({**found, "text": files.text.model_dump(mode="json")}) + "\n")
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
