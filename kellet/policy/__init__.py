"""Policy: PPO against the reward model, held to the reference by KL.

In: prompts, a base model and a ``Scorer``. Out: the policy's adapter, its value head, history.jsonl with every metric.
Open first: train.py (one iteration in order), ppo.py (the equations), controller.py (β, the coefficient of KL).
Public: ``AdaptiveKLController``, ``DualKLController``, ``FixedKLController``, ``gae``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kellet.policy.controller import AdaptiveKLController as AdaptiveKLController
    from kellet.policy.controller import DualKLController as DualKLController
    from kellet.policy.controller import FixedKLController as FixedKLController
    from kellet.policy.ppo import gae as gae

_HOME = {
    "AdaptiveKLController": "kellet.policy.controller",
    "DualKLController": "kellet.policy.controller",
    "FixedKLController": "kellet.policy.controller",
    "gae": "kellet.policy.ppo",
}


def __getattr__(name: str) -> Any:
    """Load a public name when it is asked for: importing the room loads nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
