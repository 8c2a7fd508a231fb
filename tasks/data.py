"""Data under DVC: the flow calls ``dvc``, reads the hash, and never the other way round."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from prefect import task
from pydantic import BaseModel

from adapters.log import logger
from adapters.settings import ARTIFACTS
from kellet.config.run import Config
from kellet.errors import DataError, KelletError

SHOWN = re.compile(r"^(Running stage|Stage|Updating lock|> )")


class Dataset(BaseModel):
    """One version of a prepared data set."""

    name: str
    folder: Path
    """data/prepared/NAME"""
    hash: str
    """MD5 of the folder as DVC computes it; the version's name in every remote."""
    summary: dict[str, Any]
    """Counts of summary.json."""

    @property
    def preferences(self) -> Path:
        """The table of DESIGN §4."""
        return self.folder / "preferences.parquet"


class DvcBusyError(KelletError):
    """Another DVC command holds the data; trying again is right."""


def is_busy(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a task ended so because another DVC command holds the data: when Prefect should try again."""
    return isinstance(state.result(raise_on_failure=False), DvcBusyError)


@task(name="data", retries=20, retry_delay_seconds=3, retry_condition_fn=is_busy)
def prepare_data(config: Config) -> Dataset:
    """Bring data/prepared/NAME up to date with its parameters and raw files, and push it to the default remote.

    Raises DataError with the message of the failing check; the last good data then stay as they were.
    """
    name = config.data.name
    fetch_raw(config)
    dvc("repro", f"prepare@{name}")
    folder = Path("data/prepared") / name
    _remove_half_written(name)
    dvc("push", "--quiet", f"prepare@{name}")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    data = Dataset(name=name, folder=folder, hash=locked_md5(name), summary=summary)
    for warning in summary.get("warnings", ()):
        logger().warning("data %s: %s", name, warning)
    logger().info("data %s, md5 %s: %s", name, data.hash, describe(data))
    return data


def describe(data: Dataset) -> str:
    """The counts as a phrase: '4,800 pairs accepted, 12 quarantined'."""
    return f"{data.summary['accepted']:,} pairs accepted, {data.summary['quarantined']:,} quarantined"


def fetch_raw(config: Config, root: Path = Path()) -> None:
    """Bring missing raw files that DVC tracks (``*.dvc`` beside or in ``data.files``) from the cache or the remote.

    Without it a commit with a new batch, pulled on another machine, would be prepared without that batch.
    """
    named = [root / name for name in config.data.files]
    pointers = [path.with_name(path.name + ".dvc") for path in named]
    pointers += [pointer for path in named if path.is_dir() for pointer in sorted(path.glob("*.dvc"))]
    missing = [pointer for pointer in pointers if pointer.is_file() and not pointer.with_suffix("").exists()]
    if missing:
        logger().info("fetching %s", ", ".join(pointer.stem for pointer in missing))
        dvc("pull", "--quiet", *(str(pointer.relative_to(root)) for pointer in missing), cwd=root)


def locked_md5(name: str, root: Path = Path()) -> str:
    """The MD5 of data/prepared/NAME in dvc.lock."""
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
    return str(lock["stages"][f"prepare@{name}"]["outs"][0]["md5"])


def dvc(*arguments: str, cwd: Path = Path()) -> None:
    """Run a dvc command and log its steps; its stages find this environment's python first.

    Raises DvcBusyError when another command holds the repository, DataError when a stage exits with 2 (with its own
    message) and KelletError for every other failure.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PATH": path}
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if SHOWN.match(line):
                logger().info("dvc: %s", line.rstrip())
    if process.returncode:
        raise _failure(arguments, lines)


def _remove_half_written(name: str) -> None:
    """Remove what a killed stage left beside its output; called when DVC has just said that no stage of NAME runs."""
    for parent in (Path("data/raw"), Path("data/prepared"), ARTIFACTS / "data_docs"):
        for left_over in parent.glob(f".{name}.*"):
            if left_over.is_dir():
                shutil.rmtree(left_over)
            else:
                left_over.unlink()


def _failure(arguments: tuple[str, ...], lines: list[str]) -> KelletError:
    output = "\n".join(lines)
    if re.search(r"is busy|[Uu]nable to acquire lock", output):
        return DvcBusyError(f"dvc {' '.join(arguments)}: another DVC command is running\n{output}")
    if re.search(r"exited with 2$", output, re.MULTILINE):
        said = [line for line in lines if line.lower().startswith("error: ") and "failed to reproduce" not in line]
        return DataError("\n".join(line[len("error: ") :] for line in said) or output)
    return KelletError(f"dvc {' '.join(arguments)} failed:\n{output}")
