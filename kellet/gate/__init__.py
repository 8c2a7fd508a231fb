"""Gate: decide promote, block or inconclusive from an evaluation, by an intersection-union test that fails closed.

In: the rows of an evaluation, from any source, and the section ``gate`` of the parameters. Out: a ``GateDecision``.
Open first: verdict.py (how criteria become a verdict), criteria.py (each criterion).
Public: ``GateDecision``, ``decide``.
"""

from typing import TYPE_CHECKING

from kellet.public import lazily

if TYPE_CHECKING:
    from kellet.gate.verdict import GateDecision as GateDecision
    from kellet.gate.verdict import decide as decide

__getattr__ = lazily(__name__, {"GateDecision": "kellet.gate.verdict", "decide": "kellet.gate.verdict"})
