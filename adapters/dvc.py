"""DVC, as a program: versions of the data, their hashes, and which failures are worth another try."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from adapters.log import logger
from adapters.settings import ARTIFACTS
from kellet.config.run import Config
from kellet.errors import DataError, KelletError
from kellet.files import read_json

LOGGED = re.compile(r"^(Running stage|Stage|Updating lock|> )")
"""Lines of DVC's output that go to the log."""


class Dataset(BaseModel):
    """One version of a prepared data set."""

    name: str
    folder: Path
    """data/prepared/NAME, or where an older version was restored."""
    hash: str
    """MD5 of the folder as DVC computes it; the version's name in every remote."""
    summary: dict[str, Any]
    """Counts of summary.json."""

    @property
    def preferences(self) -> Path:
        """The table of preferences."""
        return self.folder / "preferences.parquet"

    def __str__(self) -> str:
        """A line for the log: 'support, md5 1f2e: 4,800 pairs accepted, 12 quarantined'."""
        accepted, quarantined = self.summary["accepted"], self.summary["quarantined"]
        return f"{self.name}, md5 {self.hash}: {accepted:,} pairs accepted, {quarantined:,} quarantined"


class DvcBusyError(KelletError):
    """Another DVC command holds the data; trying again is right."""


def is_busy(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a task failed because another DVC command holds the data (a retry condition for Prefect)."""
    return isinstance(state.result(raise_on_failure=False), DvcBusyError)


def dvc(*arguments: str, cwd: Path = Path()) -> None:
    """Run a DVC command and log its steps; the stages that it runs find this environment's python first.

    Raises DvcBusyError when another command holds the repository, DataError when a stage exits with 2 (with the
    stage's own message), and KelletError for every other failure.
    """
    command = [sys.executable, "-m", "dvc", *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PATH": path}
    ) as process:
        for line in process.stdout or ():
            lines.append(line.rstrip())
            if LOGGED.match(line):
                logger().info("dvc: %s", line.rstrip())
    if process.returncode:
        raise _failure(arguments, lines)


def read_dataset(name: str, folder: Path, md5: str) -> Dataset:
    """The data set in ``folder`` with its counts."""
    return Dataset(name=name, folder=folder, hash=md5, summary=read_json(folder / "summary.json"))


def locked_md5(name: str, root: Path = Path()) -> str:
    """The MD5 of data/prepared/NAME in dvc.lock."""
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
    return str(lock["stages"][f"prepare@{name}"]["outs"][0]["md5"])


def fetch_raw(config: Config, root: Path = Path()) -> None:
    """Fetch raw files that DVC tracks (``*.dvc`` beside or in ``data.files``) and that are missing here.

    Without it a commit with a new batch, pulled on another machine, would be prepared without that batch.
    """
    named = [root / name for name in config.data.files]
    pointers = [path.with_name(path.name + ".dvc") for path in named]
    pointers += [pointer for path in named if path.is_dir() for pointer in sorted(path.glob("*.dvc"))]
    missing = [pointer for pointer in pointers if pointer.is_file() and not pointer.with_suffix("").exists()]
    if missing:
        logger().info("fetching %s", ", ".join(pointer.stem for pointer in missing))
        dvc("pull", "--quiet", *(str(pointer.relative_to(root)) for pointer in missing), cwd=root)


def remove_half_written_data(name: str) -> None:
    """Remove what a killed stage of the data set left beside its output.

    Right only after DVC has run to its end: no stage of the data set is writing then.
    """
    for parent in (Path("data/raw"), Path("data/prepared"), ARTIFACTS / "data_docs"):
        for path in parent.glob(f".{name}.*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _failure(arguments: tuple[str, ...], lines: list[str]) -> KelletError:
    output = "\n".join(lines)
    if re.search(r"is busy|[Uu]nable to acquire lock", output):
        return DvcBusyError(f"dvc {' '.join(arguments)}: another DVC command is running\n{output}")
    if re.search(r"exited with 2$", output, re.MULTILINE):
        errors = [line for line in lines if line.lower().startswith("error: ") and "failed to reproduce" not in line]
        return DataError("\n".join(line[len("error: ") :] for line in errors) or output)
    return KelletError(f"dvc {' '.join(arguments)} failed:\n{output}")
