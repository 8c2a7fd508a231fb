"""Change one line at a time and see whether a test notices: the table of benchmarks/mutants.toml.

    python benchmarks/mutants.py                      all; some minutes on one core
    python benchmarks/mutants.py 'k1' 'champion'      those whose names contain one of these
    python benchmarks/mutants.py --results FILE.jsonl where results are kept; what stands there is not run again

Each change is made in a clone of the last commit, and the tests named beside it run there. A mutant is killed when they
fail. Exit code 1 when one survives: a line that may be wrong without anybody hearing of it.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "benchmarks" / "mutants.toml"
FAILED = 1
"""pytest's exit code for tests that ran and failed; any other says that they did not run."""


class Mutant(NamedTuple):
    """A change of one place in the code."""

    name: str
    """What it breaks."""
    file: str
    find: str
    """Stands exactly once in the file."""
    replace: str
    tests: list[str]
    """Files that must notice, cheapest first."""


def mutants(table: Path = TABLE) -> list[Mutant]:
    """The table."""
    return [Mutant(**entry) for entry in tomllib.loads(table.read_text(encoding="utf-8"))["mutant"]]


def changed(mutant: Mutant, text: str) -> str:
    """``text`` with the change. Raises ValueError where the place is not there exactly once."""
    if (found := text.count(mutant.find)) != 1:
        raise ValueError(f"{mutant.name}: {mutant.file} has {found} places like {mutant.find!r}; wanted one")
    return text.replace(mutant.find, mutant.replace)


def killed(mutant: Mutant, clone: Path) -> bool:
    """Whether a test of ``clone`` fails on the change. Raises RuntimeError where the tests do not run at all."""
    file = clone / mutant.file
    before = file.read_text(encoding="utf-8")
    file.write_text(changed(mutant, before), encoding="utf-8")
    try:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests]
        environment = {**os.environ, "PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, check=False)
    finally:
        file.write_text(before, encoding="utf-8")
    if done.returncode not in (0, FAILED):
        raise RuntimeError(f"{mutant.name}: the tests did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == FAILED


def run(chosen: Iterable[Mutant], clone: Path, results: Path) -> dict[str, bool]:
    """Name -> killed, of ``chosen``; each is written to ``results`` as soon as it is known."""
    known: dict[str, bool] = {}
    if results.exists():
        rows = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
        known = {row["name"]: row["killed"] for row in rows}
    found: dict[str, bool] = {}
    for mutant in chosen:
        if mutant.name not in known:
            known[mutant.name] = killed(mutant, clone)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"name": mutant.name, "killed": known[mutant.name]}) + "\n")
        found[mutant.name] = known[mutant.name]
        print(f"{'killed' if found[mutant.name] else 'SURVIVED':<9}{mutant.name}", flush=True)
    return found


def main() -> None:
    """Run the mutants that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--results", type=Path)
    given = parser.parse_args()
    wanted = [m for m in mutants() if not given.names or any(part in m.name for part in given.names)]
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "kellet"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        found = run(wanted, clone, given.results or Path(folder) / "results.jsonl")
    print(f"{sum(found.values())} of {len(found)} killed")
    sys.exit(0 if all(found.values()) else 1)


if __name__ == "__main__":
    main()
