"""A new batch becomes part of a data set: everything happens in a clone first, and the project follows in one step.

The clone shares git's objects and DVC's cache with the project, so it costs little. Whatever fails or is killed before
the last step leaves the project's data, its git history and (before the push) the remote as they were; a clone that
was left behind is removed by the next ingestion. Data are pushed before the commit is taken over: a commit never names
data that nobody can get. A kill between the two leaves objects in the remote that no commit names.
"""

import configparser
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
from prefect import task
from prefect.deployments import run_deployment
from prefect.events import emit_event
from pydantic import BaseModel

from adapters.dvc import dvc, fetch_raw, locked_md5
from adapters.git import git
from adapters.log import logger, show_markdown
from adapters.parameters import params_file
from kellet.config.run import Config
from kellet.data.new_batch import batch_vs_data, describe
from kellet.data.prepare import examine
from kellet.data.raw_files import SUFFIXES
from kellet.errors import DataError, InputError
from kellet.files import content_hash

CLONES = Path(".prefect/ingest")
EVENT = "kellet.data.ingested"
OF_THE_BATCH = ("quarantined_share", "longer_preferred", "labels_to_vary")
"""The table checks that a batch must pass by itself; the others are about the whole data set."""


class Batch(BaseModel):
    """A file on its way into a data set."""

    source: Path
    folder: str
    """The folder of ``data.files`` that it goes to."""
    name: str
    """Its name there: that of the file, with the first 8 hex digits of its SHA-256."""

    @property
    def target(self) -> str:
        """Its place in the project."""
        return f"{self.folder}/{self.name}"


class Staged(BaseModel):
    """A clone of the project that has the batch as a commit."""

    clone: Path
    commit: str
    md5: str
    """Of the prepared data set, with the batch."""
    found: dict[str, Any]
    """What the batch changes: kellet.data.new_batch.batch_vs_data, and the summary of the prepared data set."""


@task(name="check-batch")
def check_batch(file: Path, config: Config) -> Batch:
    """Judge the batch by itself. Raises DataError when it cannot be used, InputError when the data set takes none."""
    folders = [name.rstrip("/") for name in config.data.files if not name.endswith(SUFFIXES)]
    if config.data.source != "files" or not folders:
        raise InputError(
            f"data set {config.data.name!r} takes no batches: in {params_file(config.data.name)} set data.source to "
            "files and list a folder in data.files, such as data/raw/mine"
        )
    with tempfile.TemporaryDirectory() as temporary:
        found = examine([(str(file), file)], config.data, Path(temporary))
    if not found.summary["accepted"]:
        found.raise_if_failed()
    failed = [str(check) for check in found.report.failed if any(part in check.name for part in OF_THE_BATCH)]
    if failed:
        raise DataError(f"{file} cannot be used: {'; '.join(failed)}. Quarantined: {found.summary['reasons']}")
    suffix = next(suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if file.name.endswith(suffix))
    name = f"{file.name.removesuffix(suffix)}-{content_hash(file)[:8]}{suffix}"
    return Batch(source=file, folder=folders[0], name=name)


def is_known(batch: Batch, config: Config) -> bool:
    """Whether this very batch has been ingested; its data are then brought back where a kill left them out."""
    if not Path(f"{batch.target}.dvc").is_file():
        return False
    logger().info("%s is part of the data already", batch.target)
    dvc("checkout", "--quiet", f"{batch.target}.dvc", f"prepare@{config.data.name}")
    return True


@task(name="stage-batch")
def stage(batch: Batch, config: Config) -> Staged:
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
    found = batch_vs_data(pd.read_parquet(prepared / "preferences.parquet"), batch.target)
    found["summary"] = json.loads((prepared / "summary.json").read_text(encoding="utf-8"))
    git("add", f"{batch.target}.dvc", "dvc.lock", cwd=clone)
    for ignored in (f"{batch.folder}/.gitignore", "data/prepared/.gitignore"):
        git("add", ignored, cwd=clone)
    message = f"Data {config.data.name}: {batch.name}\n\n" + "\n".join(describe(found))
    author = [part for key in ("user.name", "user.email") for part in ("-c", f"{key}={git('config', key)}")]
    git(*author, "commit", "--quiet", "--message", message, cwd=clone)
    logger().info("committed in the clone")
    md5 = locked_md5(config.data.name, clone)
    return Staged(clone=clone, commit=git("rev-parse", "HEAD", cwd=clone), md5=md5, found=found)


def show(batch: Batch, staged: Staged) -> None:
    """Say what the batch changes, in the log and as an artifact in Prefect's interface."""
    summary = staged.found["summary"]
    said = [*describe(staged.found), f"quarantined in all: {summary['quarantined']:,} {summary['reasons'] or ''}"]
    for sentence in [*said, *(f"warning: {warning}" for warning in summary["warnings"])]:
        logger().info("%s", sentence)
    show_markdown(f"# {batch.name}\n" + "\n".join(f"- {sentence}" for sentence in said), key="batch")


@task(name="take-over")
def take_over(batch: Batch, staged: Staged, config: Config, publish: bool) -> None:
    """Push the data, let the project's branch follow the clone's commit, and put the data in place.

    With ``publish`` the commit is first pushed to the branch's upstream. Raises KelletError when the branch moved.
    """
    show(batch, staged)
    dvc("push", "--quiet", f"prepare@{config.data.name}", f"{batch.target}.dvc", cwd=staged.clone)
    git("fetch", "--quiet", str(staged.clone), "HEAD")
    if publish:
        remote, _, branch = git("rev-parse", "--abbrev-ref", "@{upstream}").partition("/")
        git("push", "--quiet", remote, f"{staged.commit}:refs/heads/{branch}")
    logger().info("taking over %s", staged.commit[:10])
    git("merge", "--quiet", "--ff-only", staged.commit)
    dvc("checkout", "--quiet", f"{batch.target}.dvc", f"prepare@{config.data.name}")
    shutil.rmtree(CLONES, ignore_errors=True)
    logger().info("data %s, md5 %s", config.data.name, staged.md5)


def let_follow(config: Config, params: str, deployment: str | None) -> None:
    """Emit the event ``kellet.data.ingested``, and start a run of ``deployment`` where one is named."""
    resource = {"prefect.resource.id": f"kellet.data.{config.data.name}"}
    emit_event(EVENT, resource, payload={"params": params, "md5": locked_md5(config.data.name)})
    if deployment:
        run = run_deployment(deployment, parameters={"params": params}, timeout=0)
        logger().info("started %s: %s", deployment, getattr(run, "name", run))


def _require_clean() -> None:
    """The commit must describe what was prepared: nothing that is tracked may differ from it."""
    changed = git("status", "--porcelain", "--untracked-files=no")
    if changed:
        raise InputError(f"the project has uncommitted changes; commit or stash them first:\n{changed}")


def _share_dvc(clone: Path) -> None:
    """Let the clone use the project's cache and remotes: its own configuration names them relative to itself."""
    here = configparser.ConfigParser()
    here.read([".dvc/config", ".dvc/config.local"], encoding="utf-8")
    own = Path(".dvc").resolve()
    local = Path(".dvc/config.local")
    if local.is_file():
        shutil.copy(local, clone / ".dvc/config.local")
    cache = here.get("cache", "dir", fallback="cache")
    dvc("config", "--local", "cache.dir", str((own / cache).resolve()), cwd=clone)
    for section in here.sections():
        url = here.get(section, "url", fallback="")
        if section.startswith("'remote") and url and "://" not in url and ":" not in url:
            name = section.split('"')[1]
            dvc("remote", "modify", "--local", name, "url", str((own / url).resolve()), cwd=clone)
