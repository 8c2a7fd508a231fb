"""Gate: decide promote, block or inconclusive from an evaluation, by an intersection-union test that fails closed.

In: the rows of an evaluation, from any source, and the section ``gate`` of the parameters. Out: a ``GateDecision``.
Open first: verdict.py (how criteria become a verdict), criteria.py (each criterion).
Public: ``GateDecision``, ``decide``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kellet.gate.verdict import GateDecision as GateDecision
    from kellet.gate.verdict import decide as decide

_HOME = {"GateDecision": "kellet.gate.verdict", "decide": "kellet.gate.verdict"}


def __getattr__(name: str) -> Any:
    """Load a public name when it is asked for: importing the room loads nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
