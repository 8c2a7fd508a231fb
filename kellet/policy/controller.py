"""Controllers of β, the coefficient of the KL penalty."""

import logging
import math
from typing import Protocol

from kellet.config.run import Config
from kellet.config.training import KL

SHORT_REACH = 3.0
"""A controller that can raise β by less than this factor over the whole training is warned of."""
logger = logging.getLogger(__name__)


class KLController(Protocol):
    """Holds β, in reward units per nat."""

    value: float
    at_clip: bool | None
    """Whether the last update was clipped; None for a controller that has no target."""

    def update(self, current: float, n_steps: int) -> None:
        """Adjust β to ``current``, the last batch's mean KL in nats per response, ``n_steps`` its responses."""


def reach(settings: KL, batch_size: int, iterations: int) -> float:
    """The largest factor by which β can rise in so many iterations; 1 where it is fixed.

    A controller whose reach is small cannot hold a KL that needs another β than ``init_coef``, however far off it is.
    """
    share = batch_size / settings.horizon
    if settings.controller == "adaptive":
        return float((1 + 0.2 * share) ** iterations)
    if settings.controller == "dual":
        return min(math.exp(min(share * iterations, 700.0)), settings.max_coef / settings.init_coef)
    return 1.0


class FixedKLController:
    """β is constant."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.at_clip: bool | None = None

    def update(self, current: float, n_steps: int) -> None:
        """Change nothing."""


class AdaptiveKLController:
    """β follows the KL towards a target (Ziegler et al. 2019, section 2.2).

        e = clip(KL/target - 1, -0.2, 0.2)        β <- β (1 + e n_steps/horizon)

    ``target`` is in nats per response, ``horizon`` and ``n_steps`` in responses.
    """

    def __init__(self, init_kl_coef: float, target: float, horizon: float) -> None:
        self.value, self.target, self.horizon = init_kl_coef, target, horizon
        self.at_clip: bool | None = False

    def update(self, current: float, n_steps: int) -> None:
        """Move β by the clipped proportional error."""
        proportional = current / self.target - 1
        error = min(max(proportional, -0.2), 0.2)
        self.at_clip = error != proportional
        self.value *= 1 + error * n_steps / self.horizon


class DualKLController:
    """β is the multiplier of the constraint KL <= target, found by dual ascent on its logarithm.

        e = min(KL/target - 1, 1)        log β <- clamp( log β + e n_steps/horizon, log low, log high )

    The gradient of the dual by β is KL - target (Lagrangian control: Stooke et al. 2020, arXiv:2007.03964). The
    logarithm keeps β positive and makes a step the same share of β at every size. At a bound nothing is integrated
    beyond it (anti-windup), so the first error of the other sign moves β off the bound. ``target`` is in nats per
    response, ``horizon`` and ``n_steps`` in responses. e is at least -1, because KL is at least 0.
    """

    def __init__(self, init_kl_coef: float, target: float, horizon: float, bounds: tuple[float, float]) -> None:
        self.value, self.target, self.horizon = init_kl_coef, target, horizon
        self.low, self.high = bounds
        self.at_clip: bool | None = False

    def update(self, current: float, n_steps: int) -> None:
        """Move log β by the relative error, within its bounds."""
        error = min(current / self.target - 1, 1.0)
        unbounded = self.value * math.exp(error * n_steps / self.horizon)
        self.value = min(max(unbounded, self.low), self.high)
        self.at_clip = self.value != unbounded


def warn_of_short_reach(config: Config) -> None:
    """Say it where the controller can hardly raise β in the iterations that it has."""
    settings = config.policy
    factor = reach(settings.kl, settings.batch_size, settings.iterations - settings.critic_warmup)
    if settings.kl.controller != "fixed" and factor < SHORT_REACH:
        logger.warning(
            "β can rise to at most %.1f times policy.kl.init_coef in %d iterations: policy.kl.horizon %g is long for "
            "batches of %d (eight batches would be %g)",
            *(factor, settings.iterations, settings.kl.horizon, settings.batch_size, 8.0 * settings.batch_size),
        )
