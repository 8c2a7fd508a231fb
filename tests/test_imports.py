"""Imports point one way, between packages and between the rooms of kellet, and importing kellet does nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.project import ROOT

FORBIDDEN = {
    "kellet": {"prefect", "mlflow", "dvc", "adapters", "tasks", "flows"},
    "adapters": {"tasks", "flows"},
    "tasks": {"flows"},
}
FOUNDATION = (
    *("mask", "markdown", "errors", "extras", "files", "manifest", "progress", "interrupt", "public", "terminal"),
)
"""Files outside the rooms; each may import those before it."""
ROOMS = (
    ("config", "stats", "ledger"),
    ("data",),
    ("models",),
    ("reward",),
    ("policy", "evaluation"),
    ("gate",),
    ("diagnosis", "remedies"),
    ("live",),
    ("report",),
    ("cli",),
)
"""A room imports from the rows above its own, never from its neighbour in the row."""
RANK = {name: (0, place) for place, name in enumerate(FOUNDATION)}
RANK |= {room: (1 + row, 0) for row, rooms in enumerate(ROOMS) for room in rooms}
LINES = 305
"""A file that grows beyond "about 300" lines holds two concepts."""


def imported(text: str) -> list[str]:
    """The dotted names that a source imports, those of lazy imports inside functions included."""
    names = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports hide where they lead"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def wrong_imports(room: str, text: str) -> list[str]:
    """What a source of ``room`` imports from kellet and may not: its neighbours, and whatever stands to their right."""
    wrong = []
    for name in imported(text):
        package, _, rest = name.partition(".")
        target = rest.split(".")[0]
        if package == "kellet" and target in RANK and target != room and RANK[target] >= RANK[room]:
            wrong.append(name)
    return wrong


def room_of(file: Path) -> str:
    return file.relative_to(ROOT / "kellet").parts[0].removesuffix(".py")


def sources() -> list[Path]:
    return sorted(file for file in (ROOT / "kellet").rglob("*.py") if room_of(file) in RANK)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_one_way(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = [
        (file.name, name)
        for file in files
        for name in imported(file.read_text())
        if name.split(".")[0] in FORBIDDEN[package]
    ]
    assert wrong == []


def test_rooms_import_one_way():
    wrong = {str(file): names for file in sources() if (names := wrong_imports(room_of(file), file.read_text()))}
    assert wrong == {}
    assert {room_of(file) for file in sources()} == set(RANK)


@pytest.mark.parametrize(
    ("room", "line"),
    [
        ("gate", "from kellet.report.page import write_report"),
        ("policy", "def f():\n    from kellet.evaluation.answers import Answers"),
        ("evaluation", "import kellet.policy.ppo"),
        ("stats", "from kellet import data"),
        ("config", "from kellet.stats.bootstrap import Estimate"),
        ("errors", "from kellet.files import write_json"),
    ],
)
def test_an_import_that_is_turned_round_is_seen(room, line):
    assert wrong_imports(room, line)


def test_no_file_stands_outside_a_room_or_holds_two():
    outside = {file.stem for file in (ROOT / "kellet").glob("*.py")}
    assert outside == {"__init__", "__main__", *FOUNDATION}
    long = {str(file): lines for file in sources() if (lines := len(file.read_text().splitlines())) > LINES}
    assert long == {}


@pytest.mark.parametrize("room", [room for rooms in ROOMS for room in rooms])
def test_a_room_says_what_comes_in_what_goes_out_and_what_to_open_first(room):
    lines = str(ast.get_docstring(ast.parse((ROOT / "kellet" / room / "__init__.py").read_text()))).splitlines()
    assert any(line.startswith("In: ") for line in lines)
    assert any("Out: " in line for line in lines)
    first = next(line for line in lines if line.startswith("Open first: "))
    files = {word.strip(",.;()") for word in first.split() if word.strip(",.;()").endswith(".py")}
    assert files
    assert all((ROOT / "kellet" / room / name).is_file() for name in files)


def test_flows_hold_no_helpers():
    for file in (ROOT / "flows").glob("*.py"):
        if file.name == "cli.py":  # the command lines of all flows
            continue
        body = ast.parse(file.read_text()).body
        assert not [node.name for node in body if isinstance(node, ast.ClassDef)]
        assert len([node for node in body if isinstance(node, ast.FunctionDef)]) <= 1


def test_importing_kellet_and_its_rooms_loads_nothing_heavy_and_writes_nothing(tmp_path):
    rooms = ", ".join(f"kellet.{room}" for rooms in ROOMS for room in rooms)
    script = f"import sys, {rooms}, kellet.cli.main; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    heavy = {"torch", "transformers", "numpy", "pandas", "pydantic", "great_expectations", "prefect", "mlflow"}
    assert not heavy & set(done.stdout.split())
    assert list(tmp_path.iterdir()) == []


def test_public_names_are_where_others_rely_on_them():
    from kellet.config import Config, Gate
    from kellet.gate import decide
    from kellet.policy import AdaptiveKLController, gae
    from kellet.stats import length_controlled

    assert Config().gate == Gate()
    assert AdaptiveKLController(0.1, target=1.0, horizon=10).value == 0.1
    assert [name.__module__ for name in (decide, gae, length_controlled)] == [
        "kellet.gate.verdict",
        "kellet.policy.ppo",
        "kellet.stats.win_rate",
    ]
