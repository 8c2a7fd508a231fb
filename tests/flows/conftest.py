"""One smoke-sized retraining in a copy of the project, shared by the tests that look at what it left."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.helpers import project


class Smoke(NamedTuple):
    root: Path
    """Some tests register and promote in it."""
    kept: Path
    """A copy as the retraining left it, for tests that begin there in whatever order they run."""
    done: subprocess.CompletedProcess[str]


@pytest.fixture(scope="session")
def smoke(tmp_path_factory) -> Smoke:
    root = project.copy_project(tmp_path_factory.mktemp("smoke") / "kellet")
    (root / "runs/smoke").mkdir(parents=True)
    (root / "runs/smoke/notes.txt").write_text("mine")  # what a run may not take with it
    done = project.run(root, *project.SMOKE)
    kept = shutil.copytree(root, root.parent / "kept")
    return Smoke(root, kept, done)
