"""A score that is a function of the user's, named ``module:function``: rules, a verifier, a remote model."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kellet.errors import ConfigError
from kellet.files import content_hash

Function = Callable[[Sequence[str], Sequence[str]], Iterable[float]]
"""Called with prompts and responses; gives a score for each."""


def load_function(name: str) -> Function:
    """The function ``module:function``; modules of the working folder are found.

    Raises ConfigError when there is none.
    """
    module, _, function = name.partition(":")
    with _working_folder():
        try:
            found: Function = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"policy.score.function {name!r}: {error}; give module:function") from error
    return found


def function_hash(name: str) -> str | None:
    """Hash of the module's source, which decides what is learned; None where it has no file."""
    with _working_folder():
        try:
            found = importlib.util.find_spec(name.partition(":")[0])
        except (ImportError, ValueError) as error:
            raise ConfigError(f"policy.score.function {name!r}: {error}; give module:function") from error
    return content_hash(Path(found.origin)) if found and found.origin and Path(found.origin).is_file() else None


@contextmanager
def _working_folder() -> Iterator[None]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path.pop(0)
