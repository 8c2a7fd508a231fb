"""The limits at which alarms ring; their defaults are those of the gate, of policy training and of the diagnosis."""

import math
from dataclasses import dataclass, fields
from typing import Any

from kellet.config.judgement import Gate
from kellet.config.run import Config
from kellet.config.training import Policy
from kellet.errors import InputError
from kellet.policy.alarms import ALL_TRUNCATED, ENTROPY_LEFT

CHEAP_PENALTY_SHARE = 0.25
"""As in hypothesis C1 (kellet/diagnosis/kl_hypotheses.py), where the reason stands."""


@dataclass(frozen=True)
class Limits:
    """When an alarm rings. A level is taken over ``patience`` logged rows, so that a single row never rings."""

    patience: int = Policy().alarm_patience
    """Rows that make a level: the last this many, and, for what is compared with the start, the first this many."""
    kl_budget: float = Gate().kl_budget
    """kl_over_budget: mean KL of a response, nats."""
    length_tolerance: float = Gate().length_tolerance
    """reward_with_length: share by which the mean length may exceed that of the start while the reward rises."""
    truncation_tolerance: float = Gate().degeneration_tolerance
    """truncation: rise of the share of cut answers over that of the start."""
    all_truncated: float = ALL_TRUNCATED
    """all_truncated: share of cut answers."""
    entropy_left: float = ENTROPY_LEFT
    """entropy_collapse: share of the start's entropy."""
    length_left: float = 0.25
    """length_collapse: share of the start's mean length."""
    penalty_share: float = CHEAP_PENALTY_SHARE
    """penalty_small: β·KL as a share of what the reward gained; asked once KL is over half its budget."""
    reward_left: float = 0.5
    """reward_lost: share of the best gain since the start that has to be left."""
    gradient_factor: float = 10.0
    """gradient_blown_up: multiple of the start's gradient norm."""
    hysteresis: float = 0.1
    """An alarm is over when its figure stays this share inside the limit for ``patience`` rows."""
    silence: float = 1800.0
    """silent: seconds without a new row (kellet follow only)."""

    def __post_init__(self) -> None:
        if self.patience < 3:
            raise InputError(f"limits: patience is {self.patience}; a level needs at least 3 rows")
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0) or (value == 0 and not field.name.endswith("tolerance")):
                raise InputError(f"limits: {field.name} is {value!r}; it takes a number above 0")
        if self.hysteresis >= 1:
            raise InputError(f"limits: hysteresis is {self.hysteresis!r}; it takes a share below 1")


def limits_of(config: Config, changes: dict[str, float] | None = None) -> Limits:
    """The limits that the sections gate and policy set, with ``changes``. InputError for an unknown one."""
    known = [field.name for field in fields(Limits)]
    unknown = sorted(set(changes or {}) - set(known))
    if unknown:
        raise InputError(f"no limit is called {unknown[0]!r}; there are {', '.join(known)}")
    values: dict[str, Any] = {
        "patience": config.policy.alarm_patience,
        "kl_budget": config.gate.kl_budget,
        "length_tolerance": config.gate.length_tolerance,
        "truncation_tolerance": config.gate.degeneration_tolerance,
        **(changes or {}),
    }
    return Limits(**{**values, "patience": int(values["patience"])})
