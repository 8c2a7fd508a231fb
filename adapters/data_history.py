"""``kellet data``: the versions of a data set, the models that learned from each, and how to get one back.

kellet itself knows neither DVC nor MLflow: its verb starts this module as a process, as DVC starts kellet's verbs. A
version is an md5 that ``dvc.lock`` held in some commit. Its counts are read from its summary.json in DVC's cache, so
they are shown only where that version has been on this machine; its models are those that MLflow has registered with
its md5.
"""

import argparse
import json
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from adapters.command import guarded
from adapters.dvc import dvc
from adapters.git import git_or_empty
from adapters.mlflow_client import client, is_missing
from adapters.registered import require_tags
from kellet.config.run import Tracking
from kellet.errors import InputError, KelletError
from kellet.terminal import harmless_output

MD5 = re.compile(r"[0-9a-f]{32}\.dir")
COLUMNS = ("md5", "date", "commit", "pairs", "quarantined", "longer preferred", "models")


def history(name: str, tracking: Tracking) -> list[dict[str, Any]]:
    """Every version of data/prepared/NAME that a commit of this branch has in its dvc.lock, newest first."""
    log = git_or_empty("log", "--format=%H %cI", "--", "dvc.lock").splitlines()
    if not log:
        raise InputError("no commit has a dvc.lock; prepare data and commit it, in the project's git repository")
    models, versions = _models(tracking), list[dict[str, Any]]()
    for commit, date in (line.split() for line in log):
        stages = (yaml.safe_load(git_or_empty("show", f"{commit}:dvc.lock")) or {}).get("stages", {})
        md5 = stages.get(f"prepare@{name}", {}).get("outs", [{}])[0].get("md5")
        if md5 is None:
            continue
        version = {"md5": md5, "date": date, "commit": commit[:10], "models": models.get(md5, [])}
        version |= {"summary": _summary(md5)}
        if versions and versions[-1]["md5"] == md5:
            versions[-1] = version  # this older commit is the one that brought it
        else:
            versions.append(version)
    if not versions:
        raise InputError(f"no commit of this branch has a data set {name!r} in dvc.lock; --data NAME chooses another")
    return versions


def restore(model: str, tracking: Tracking, out: Path | None) -> Path:
    """Put the prepared data that a model version (NAME/VERSION) learned from into a folder.

    The md5 is the version's tag ``data_md5``; the data come from DVC's cache or its remote. Raises InputError where
    there is no such version or tag.
    """
    from mlflow.exceptions import MlflowException

    name, _, number = model.rpartition("/")
    if is_missing(tracking.uri):
        raise InputError(f"{tracking.uri} does not exist, so no model is registered; give another --params")
    try:
        version = client(tracking.uri).get_model_version(name, number)
    except MlflowException as error:
        raise InputError(f"no registered model version {model!r} in {tracking.uri}; give NAME/VERSION") from error
    remedy = "so which data it learned from is not known here; 'kellet data history' lists versions and their models"
    require_tags(version, remedy, "data_md5")
    md5 = version.tags["data_md5"]
    if not MD5.fullmatch(md5):
        raise InputError(f"the tag data_md5 of {model} is {md5!r}, wanted DVC's md5 of a folder (32 hex digits, .dir)")
    out = out or Path("data/restored", f"{name}-{number}")
    if out.exists():
        raise InputError(f"{out} exists; name another folder with --out, or remove it")
    # The pointer has to lie in the project's root: DVC reads none outside the project and none that git ignores.
    pointer, target = Path(f"restore-{md5.split('.')[0]}.dvc"), Path("data/restored") / f".{md5}"
    pointer.write_text(yaml.safe_dump({"outs": [{"md5": md5, "hash": "md5", "path": str(target)}]}), encoding="utf-8")
    try:
        dvc("pull", "--quiet", str(pointer))
    finally:
        pointer.unlink()
    if not target.is_dir():
        raise KelletError(f"neither DVC's cache nor its remote has {md5}; was it ever pushed?")
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(target, out)
    return out


def table(versions: Sequence[dict[str, Any]]) -> str:
    """The versions as lines for the terminal."""
    from kellet.stats.format import aligned, percent

    rows = [COLUMNS]
    for version in versions:
        summary = version["summary"]
        figures = ("?", "?", "?")
        if summary:
            longer = summary["longer_preferred"]
            share = "-" if longer["share"] is None else percent({**longer, "value": longer["share"]}, 1)
            figures = (f"{summary['accepted']:,}", f"{summary['quarantined']:,}", share)
        models = ", ".join(version["models"]) or "none"
        rows.append((version["md5"], version["date"][:16], version["commit"], *figures, models))
    return "\n".join(aligned(rows))


def _summary(md5: str) -> dict[str, Any] | None:
    """summary.json of a version, or None where DVC's cache does not have it."""
    listing = json.loads(_cached(md5) or "[]")
    file_md5 = next((entry["md5"] for entry in listing if entry["relpath"] == "summary.json"), None)
    content = _cached(file_md5) if file_md5 else None
    return json.loads(content) if content else None


def _cached(md5: str) -> str | None:
    """A file of DVC's cache, or None where the cache does not have it."""
    file = _cache() / "files/md5" / md5[:2] / md5[2:]
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _cache() -> Path:
    from dvc.config import Config as DvcConfig

    config = DvcConfig(str(Path(".dvc").resolve()), validate=False)
    return Path(config.get("cache", {}).get("dir") or ".dvc/cache")


def _models(tracking: Tracking) -> dict[str, list[str]]:
    """md5 -> the model versions (NAME/VERSION verdict) that were trained on it."""
    if is_missing(tracking.uri):
        return {}
    models: dict[str, list[str]] = {}
    for version in client(tracking.uri).search_model_versions(max_results=1000):
        if "data_md5" in version.tags:
            model = f"{version.name}/{version.version} {version.tags.get('verdict', '')}".rstrip()
            models.setdefault(version.tags["data_md5"], []).append(model)
    return models


@harmless_output()
def main(arguments: Sequence[str] | None = None) -> int:
    """Arguments as kellet's verb gives them."""
    from kellet.config.file import load_config

    parser = argparse.ArgumentParser(prog="python -m adapters.data_history")
    parser.add_argument("verb", choices=("history", "restore"))
    parser.add_argument("model", nargs="?")
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--data")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)

    def work() -> int:
        config = load_config(given.params)
        if given.verb == "restore":
            folder = restore(given.model, config.tracking, given.out)
            sys.stdout.write(f"data of {given.model} in {folder}\n")
        else:
            versions = history(given.data or config.data.name, config.tracking)
            sys.stdout.write((json.dumps(versions, indent=2) if given.json else table(versions)) + "\n")
        return 0

    return guarded(work)


if __name__ == "__main__":
    sys.exit(main())
