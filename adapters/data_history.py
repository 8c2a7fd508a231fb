"""``kellet data``: the versions of a data set, who learned from them, and how to get one back.

kellet itself knows neither DVC nor MLflow; its verb starts this module as a process of its own, as DVC starts kellet's.
A version is what ``dvc.lock`` named in some commit. Its figures come from its summary.json, out of DVC's cache, so they
are known where the data have been; models are those that MLflow has registered with its md5.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from kellet.config.run import Tracking
from kellet.errors import InputError, KelletError
from tasks.data import dvc

COLUMNS = ("md5", "date", "commit", "pairs", "quarantined", "longer preferred", "models")


def history(name: str, tracking: Tracking) -> list[dict[str, Any]]:
    """Every version of data/prepared/NAME that a commit of this branch named, newest first."""
    log = _git("log", "--format=%H %cI", "--", "dvc.lock").splitlines()
    if not log:
        raise InputError("no commit has a dvc.lock yet; prepare data and commit it")
    models, versions = _models(tracking), list[dict[str, Any]]()
    for commit, date in (line.split() for line in log):
        stages = (yaml.safe_load(_git("show", f"{commit}:dvc.lock", missing="")) or {}).get("stages", {})
        md5 = stages.get(f"prepare@{name}", {}).get("outs", [{}])[0].get("md5")
        if md5 is None:
            continue
        version = {"md5": md5, "date": date, "commit": commit[:10], "models": models.get(md5, [])}
        version |= {"summary": _summary(md5)}
        if versions and versions[-1]["md5"] == md5:
            versions[-1] = version  # the older commit brought it
        else:
            versions.append(version)
    if not versions:
        raise InputError(f"no commit of this branch has a data set {name!r} in dvc.lock; --data NAME chooses another")
    return versions


def restore(model: str, tracking: Tracking, out: Path | None) -> Path:
    """Put the prepared data that a model version (NAME/VERSION) learned from into a folder of its own.

    The md5 is the version's tag ``data_md5``; the data come from DVC's cache or its remote.
    """
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    name, _, number = model.rpartition("/")
    try:
        tags = MlflowClient(tracking.uri, tracking.uri).get_model_version(name, number).tags
    except MlflowException as error:
        raise InputError(f"no registered model version {model!r} in {tracking.uri}; give NAME/VERSION") from error
    md5 = tags["data_md5"]
    out = out or Path("data/restored", f"{name}-{number}")
    if out.exists():
        raise InputError(f"{out} exists; name another folder with --out, or remove it")
    # A pointer of its own, in the project's root: DVC reads none that git ignores, and none outside.
    pointer, place = Path(f"restore-{md5.split('.')[0]}.dvc"), Path("data/restored") / f".{md5}"
    pointer.write_text(yaml.safe_dump({"outs": [{"md5": md5, "hash": "md5", "path": str(place)}]}), encoding="utf-8")
    try:
        dvc("pull", "--quiet", str(pointer))
    finally:
        pointer.unlink()
    if not place.is_dir():
        raise KelletError(f"neither DVC's cache nor its remote has {md5}; was it ever pushed?")
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(place, out)
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
    files = _cached(md5)
    entry = next((each for each in json.loads(files or "[]") if each["relpath"] == "summary.json"), None)
    content = _cached(entry["md5"]) if entry else None
    return json.loads(content) if content else None


def _cached(md5: str) -> str | None:
    file = _cache() / "files/md5" / md5[:2] / md5[2:]
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _cache() -> Path:
    from dvc.config import Config as DvcConfig

    config = DvcConfig(str(Path(".dvc").resolve()), validate=False)
    return Path(config.get("cache", {}).get("dir") or ".dvc/cache")


def _models(tracking: Tracking) -> dict[str, list[str]]:
    """md5 -> the model versions (NAME/VERSION verdict) that were trained on it."""
    from mlflow import MlflowClient

    file = tracking.uri.removeprefix("sqlite:///")
    if file != tracking.uri and not Path(file).is_file():
        return {}  # asking would make the database
    found: dict[str, list[str]] = {}
    for version in MlflowClient(tracking.uri, tracking.uri).search_model_versions(max_results=1000):
        if "data_md5" in version.tags:
            said = f"{version.name}/{version.version} {version.tags.get('verdict', '')}".rstrip()
            found.setdefault(version.tags["data_md5"], []).append(said)
    return found


def _git(*arguments: str, missing: str | None = None) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and missing is None:
        raise InputError(f"git {' '.join(arguments)}: {done.stderr.strip()}; run this in the project's git repository")
    return done.stdout if not done.returncode else str(missing)


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
    try:
        config = load_config(given.params)
        if given.verb == "restore":
            folder = restore(given.model, config.tracking, given.out)
            sys.stdout.write(f"data of {given.model} in {folder}\n")
            return 0
        versions = history(given.data or config.data.name, config.tracking)
        sys.stdout.write((json.dumps(versions, indent=2) if given.json else table(versions)) + "\n")
    except KelletError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
