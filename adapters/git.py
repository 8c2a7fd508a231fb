"""Git, as a program: the project's own repository, and the clones that adapters/clone.py makes of it."""

import subprocess
from pathlib import Path

from kellet.errors import KelletError


def git(*arguments: str, cwd: Path | None = None) -> str:
    """The output of a git command, without white space around it. Raises KelletError with git's message on failure."""
    done = subprocess.run(["git", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise KelletError(f"git {' '.join(arguments)} failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.strip()


def git_or_empty(*arguments: str) -> str:
    """The output of a git command, or "" where it fails, where git is missing and outside a repository."""
    try:
        return git(*arguments)
    except (KelletError, FileNotFoundError):
        return ""
