"""The user's own score, a Python function named ``module:function``: rules, a verifier, a remote model."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from kellet.errors import ConfigError
from kellet.files import content_hash

Function = Callable[[Sequence[str], Sequence[str]], Iterable[float]]
"""Prompts and their responses -> a score for each response."""


def load_function(name: str) -> Function:
    """Import the function ``module:function``; a module may lie in the working folder.

    Raises ConfigError when there is no such function.
    """
    module, _, function = name.partition(":")
    with _working_folder():
        try:
            loaded: Function = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"policy.score.function {name!r}: {error}; give module:function") from error
    return loaded


def function_hash(name: str) -> str | None:
    """Hash of the module's source, because it decides what is learned; None for a module without a file."""
    with _working_folder():
        try:
            spec = importlib.util.find_spec(name.partition(":")[0])
        except (ImportError, ValueError) as error:
            raise ConfigError(f"policy.score.function {name!r}: {error}; give module:function") from error
    return content_hash(Path(spec.origin)) if spec and spec.origin and Path(spec.origin).is_file() else None


@contextmanager
def _working_folder() -> Iterator[None]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path.pop(0)
