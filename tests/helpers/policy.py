"""PPO on the tiny trunk with a score that is easy to raise."""

from kellet.models.heads import scalar_head
from kellet.policy.train import PPOModels, ppo
from tests.helpers import tiny


class Likes:
    """A stub of a scorer: ten times the share of a response's tokens that equal ``token``."""

    def __init__(self, token):
        self.token = token

    def __call__(self, batch):
        return 10 * ((batch.responses == self.token) & batch.response_mask).sum(1) / batch.response_mask.sum(1)


def play(trunk, scorer, **policy):
    """Train with these settings of ``policy``; the history and the value head."""
    config = tiny.config(policy=policy)
    head = scalar_head(16, 0)
    return ppo(config, PPOModels(*trunk, scorer, head), list(tiny.pairs()["prompt"][:32])), head
