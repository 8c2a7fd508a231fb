"""Imports point one way, flows -> tasks -> kellet, and importing kellet does nothing."""

import ast
import subprocess
import sys

import pytest

from tests.helpers.project import ROOT

FORBIDDEN = {
    "kellet": {"prefect", "mlflow", "dvc", "adapters", "tasks", "flows"},
    "adapters": {"tasks", "flows"},
    "tasks": {"flows"},
}


def imported(file):
    """The top-level names of every import in a file, those inside functions included."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module).split(".")[0]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_imports_point_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = [(file.name, name) for file in files for name in imported(file) if name in FORBIDDEN[package]]
    assert wrong == []


def test_flows_hold_no_helpers():
    for file in (ROOT / "flows").glob("*.py"):
        body = ast.parse(file.read_text()).body
        assert not [node.name for node in body if isinstance(node, ast.ClassDef)]
        assert len([node for node in body if isinstance(node, ast.FunctionDef)]) <= 1


def test_importing_kellet_loads_nothing_heavy_and_writes_nothing(tmp_path):
    script = "import sys, kellet, kellet.cli.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not {"torch", "transformers", "pandas", "great_expectations", "prefect", "mlflow"} & set(done.stdout.split())
    assert list(tmp_path.iterdir()) == []
