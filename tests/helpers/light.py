"""`python tests/helpers/light.py PROGRAM [ARGUMENT ...]`: a program as a machine with the light install runs it.

PROGRAM is kellet, or a module. Every package that `pip install kellet` does not bring is hidden from imports, as if it
were not there: neither `import` nor importlib finds it. HIDDEN in the environment, where it is set, has their names.
"""

import os
import re
import runpy
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = re.compile(r"[A-Za-z0-9._-]+")


def canonical(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def core() -> set[str]:
    """The distributions that `dependencies` of pyproject.toml bring, with what these need without any extra."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    found: set[str] = set()
    while wanted:
        name = canonical(NAME.match(wanted.pop())[0])
        if name not in found:
            found.add(name)
            try:
                wanted += [line for line in requires(name) or () if "extra ==" not in line]
            except PackageNotFoundError:  # of another system or an older Python
                continue
    return found


def hidden() -> set[str]:
    """Names of packages that are installed here and do not come with the light install."""
    brought = core() | {"kellet"}
    return {
        package for package, owners in packages_distributions().items() if not brought & {canonical(o) for o in owners}
    } - {"_distutils_hack"}


class Without:
    """A finder that does not find hidden packages."""

    def __init__(self, finder, names):
        self.finder, self.names = finder, names

    def find_spec(self, name, *rest):
        return None if name.partition(".")[0] in self.names else self.finder.find_spec(name, *rest)

    def find_distributions(self, context):
        for found in getattr(self.finder, "find_distributions", lambda _: ())(context):
            if canonical(found.metadata["Name"]).replace("-", "_") not in self.names:
                yield found


def main() -> None:
    """Hide, then run."""
    given = os.environ.get("HIDDEN")
    names = set(given.split(",")) if given else hidden()
    sys.meta_path[:] = [Without(finder, names) for finder in sys.meta_path]
    _, program, *arguments = sys.argv
    sys.argv = [program, *arguments]
    sys.path[0] = str(ROOT)
    if program == "kellet":
        from kellet.cli.main import main as verbs

        verbs(prog_name="kellet")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
