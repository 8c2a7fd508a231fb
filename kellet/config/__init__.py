"""Parameters: everything that decides a run.

In: a YAML file and ``section.key=value`` overrides. Out: a frozen, checked ``Config``.
Open first: run.py (the sections), then the section's file: data.py, training.py or judgement.py. file.py reads them.
Public: ``Config``, ``Gate``, ``Tracking``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kellet.config.judgement import Gate as Gate
    from kellet.config.run import Config as Config
    from kellet.config.run import Tracking as Tracking

_HOME = {"Config": "kellet.config.run", "Gate": "kellet.config.judgement", "Tracking": "kellet.config.run"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is asked for: importing the room loads nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
