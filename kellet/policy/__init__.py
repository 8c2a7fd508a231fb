"""Policy: PPO against the reward model, held to the reference by KL.

In: prompts, a base model and a ``Scorer``. Out: the policy's adapter, its value head, history.jsonl with every metric.
Open first: train.py (one iteration in order), ppo.py (the equations), controller.py (β, the coefficient of KL).
Public: ``AdaptiveKLController``, ``DualKLController``, ``FixedKLController``, ``gae``.
"""

from typing import TYPE_CHECKING

from kellet.public import lazily

if TYPE_CHECKING:
    from kellet.policy.controller import AdaptiveKLController as AdaptiveKLController
    from kellet.policy.controller import DualKLController as DualKLController
    from kellet.policy.controller import FixedKLController as FixedKLController
    from kellet.policy.ppo import gae as gae

__getattr__ = lazily(
    __name__,
    {
        "AdaptiveKLController": "kellet.policy.controller",
        "DualKLController": "kellet.policy.controller",
        "FixedKLController": "kellet.policy.controller",
        "gae": "kellet.policy.ppo",
    },
)
