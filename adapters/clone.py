"""A new batch becomes part of a data set: all is done in a clone first, and the project follows in one step.

The clone shares git's objects and DVC's cache with the project, so it costs little. Whatever fails or is killed before
the last step leaves the project's data, its git history and (before the push) the remote as they were; the next
ingestion removes a clone that was left behind. Data are pushed before the project takes the commit over, so no commit
names data that nobody can get. A kill between the two leaves objects in the remote that no commit names.
"""

import configparser
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

from adapters.dvc import dvc, fetch_raw, locked_md5
from adapters.git import git
from adapters.log import logger, show_markdown
from kellet.config.run import Config
from kellet.data.new_batch import IncomingBatch, batch_vs_data, describe
from kellet.errors import InputError
from kellet.files import read_json
from kellet.markdown import plain

CLONES = Path(".prefect/ingest")


class StagedClone(BaseModel):
    """A clone of the project that has the batch as a commit."""

    folder: Path
    commit: str
    md5: str
    """Of the prepared data set, with the batch."""
    summary: dict[str, Any]
    """Counts of the prepared data set, with the batch."""
    changes: dict[str, Any]
    """What the batch changes, as kellet.data.new_batch.batch_vs_data gives it."""


def is_ingested(batch: IncomingBatch, config: Config) -> bool:
    """Whether this very batch is part of the data; if so, data that a kill left out are put in place."""
    if not Path(f"{batch.target}.dvc").is_file():
        return False
    logger().info("%s is part of the data already", batch.target)
    dvc("checkout", "--quiet", f"{batch.target}.dvc", f"prepare@{config.data.name}")
    return True


def stage_batch(batch: IncomingBatch, config: Config) -> StagedClone:
    """Add the batch in a clone of the project, prepare the data set there, and commit.

    Raises InputError when the project has uncommitted changes, DataError when the data set fails with the batch.
    """
    _require_clean()
    shutil.rmtree(CLONES, ignore_errors=True)
    CLONES.mkdir(parents=True, exist_ok=True)
    clone = Path(tempfile.mkdtemp(dir=CLONES)) / "project"
    git("clone", "--quiet", "--shared", ".", str(clone))
    _share_dvc(clone)
    fetch_raw(config, clone)
    (clone / batch.folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(batch.source, clone / batch.target)
    dvc("add", "--quiet", batch.target, cwd=clone)
    logger().info("preparing %s with %s", config.data.name, batch.name)
    dvc("repro", f"prepare@{config.data.name}", cwd=clone)
    prepared = clone / "data/prepared" / config.data.name
    changes = batch_vs_data(pd.read_parquet(prepared / "preferences.parquet"), batch.target)
    _commit(clone, batch, f"Data {config.data.name}: {batch.name}\n\n" + "\n".join(describe(changes)))
    return StagedClone(
        folder=clone,
        commit=git("rev-parse", "HEAD", cwd=clone),
        md5=locked_md5(config.data.name, clone),
        summary=read_json(prepared / "summary.json"),
        changes=changes,
    )


def take_over(batch: IncomingBatch, clone: StagedClone, config: Config, publish: bool) -> None:
    """Push the data, let the project's branch follow the clone's commit, and put the data in place.

    With ``publish`` the commit is first pushed to the branch's upstream. Raises KelletError when the branch moved.
    """
    _show(batch, clone)
    dvc("push", "--quiet", f"prepare@{config.data.name}", f"{batch.target}.dvc", cwd=clone.folder)
    git("fetch", "--quiet", str(clone.folder), "HEAD")
    if publish:
        remote, _, branch = git("rev-parse", "--abbrev-ref", "@{upstream}").partition("/")
        git("push", "--quiet", remote, f"{clone.commit}:refs/heads/{branch}")
    logger().info("taking over %s", clone.commit[:10])
    git("merge", "--quiet", "--ff-only", clone.commit)
    dvc("checkout", "--quiet", f"{batch.target}.dvc", f"prepare@{config.data.name}")
    shutil.rmtree(CLONES, ignore_errors=True)
    logger().info("data %s, md5 %s", config.data.name, clone.md5)


def _commit(clone: Path, batch: IncomingBatch, message: str) -> None:
    git("add", f"{batch.target}.dvc", "dvc.lock", cwd=clone)
    for ignored in (f"{batch.folder}/.gitignore", "data/prepared/.gitignore"):
        git("add", ignored, cwd=clone)
    author = [part for key in ("user.name", "user.email") for part in ("-c", f"{key}={git('config', key)}")]
    git(*author, "commit", "--quiet", "--message", message, cwd=clone)
    logger().info("committed in the clone")


def _show(batch: IncomingBatch, clone: StagedClone) -> None:
    """Show what the batch changes, in the log and as a page in Prefect's interface."""
    quarantined, reasons = clone.summary["quarantined"], clone.summary["reasons"]
    sentences = [*describe(clone.changes), f"quarantined in all: {quarantined:,} {reasons or ''}"]
    for sentence in [*sentences, *(f"warning: {warning}" for warning in clone.summary["warnings"])]:
        logger().info("%s", sentence)
    show_markdown(f"# {plain(batch.name)}\n" + "\n".join(f"- {plain(line)}" for line in sentences), key="batch")


def _require_clean() -> None:
    """Refuse a project with changes to tracked files: the commit has to describe what was prepared."""
    changed = git("status", "--porcelain", "--untracked-files=no")
    if changed:
        raise InputError(f"the project has uncommitted changes; commit or stash them first:\n{changed}")


def _share_dvc(clone: Path) -> None:
    """Let the clone use the project's cache and remotes, whose paths in .dvc/config are relative to the project."""
    config = configparser.ConfigParser()
    config.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    folder = Path(".dvc").resolve()
    local = Path(".dvc/config.local")
    if local.is_file():
        shutil.copy(local, clone / ".dvc/config.local")
    cache = config.get("cache", "dir", fallback="cache")
    dvc("config", "--local", "cache.dir", str((folder / cache).resolve()), cwd=clone)
    for section in config.sections():
        url = config.get(section, "url", fallback="")
        if section.startswith("'remote") and url and "://" not in url and ":" not in url:
            name = section.split('"')[1]
            dvc("remote", "modify", "--local", name, "url", str((folder / url).resolve()), cwd=clone)
