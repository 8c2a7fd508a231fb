"""A copy of the project for the tests that run its commands: they write nowhere else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = (
    ".git",
    ".venv",
    ".prefect",
    ".dvc-remote",
    "artifacts",
    "runs",
    "mlruns",
    "mlflow.db",
    "ledger.db",
    "cache",
    "tmp",
    "__pycache__",
    ".*_cache",
    ".hypothesis",
    "*.egg-info",
)
"""What commands have made: a fresh clone has none of it."""
SMOKE = ("--params", "profiles/smoke.yaml")


def copy_project(target: Path) -> Path:
    """The project as a fresh clone has it, as a git repository of its own."""
    shutil.copytree(ROOT, target, ignore=_made_by_commands)
    for arguments in (
        ["init", "--quiet"],
        ["add", "--all"],
        ["-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "--quiet", "--message", "copy"],
    ):
        subprocess.run(["git", *arguments], cwd=target, check=True)
    return target


def _made_by_commands(folder: str, names: list[str]) -> set[str]:
    if Path(folder).parts[-2:] == ("data", "prepared"):
        return set(names) - {".gitignore"}
    return shutil.ignore_patterns(*LEFT_OUT)(folder, names)


def environment(root: Path, **more: str) -> dict[str, str]:
    """The environment of a user's shell in ``root``: none of the switches that the tests themselves run under.

    The environment's programs come first, as after activating it: DVC's stages start ``python``.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "MLFLOW", "DVC"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**kept, "PATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), **more}


def start(root: Path, *arguments: str, module: str = "flows.retrain") -> subprocess.Popen[str]:
    """Start ``python -m flows.retrain`` (or another module) in the copy, its two outputs as one."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=root,
        env=environment(root),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(root: Path, *arguments: str, module: str = "flows.retrain") -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    with start(root, *arguments, module=module) as process:
        output, _ = process.communicate(timeout=420)
    return subprocess.CompletedProcess(process.args, process.returncode, output, "")


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read the output until a line contains ``text``; fails when the process ends before."""
    said = ""
    for line in process.stdout or ():
        said += line
        if text in line:
            return said
    raise AssertionError(f"the process ended without saying {text!r}:\n{said}")


def files_of(root: Path, *folders: str) -> dict[str, tuple[int, int]]:
    """Relative name -> (size, modification time) of every file below the folders."""
    found = [file for folder in folders for file in (root / folder).rglob("*") if file.is_file()]
    return {str(file.relative_to(root)): (file.stat().st_size, file.stat().st_mtime_ns) for file in found}
