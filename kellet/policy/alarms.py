"""Alarms: what a person who watches the curves of a policy's training would call out.

An alarm reads the history so far and is a sentence or absent. The thresholds are rules of thumb of this project, good
for a warning; the verdict is the gate's. ``policy.stop_on`` names alarms that end the training.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # torch is loaded by metrics.py, and kellet/live/ reads the thresholds without it
    from kellet.config.run import Config
    from kellet.config.training import Alarm
    from kellet.policy.metrics import IterationMetrics

ENTROPY_LEFT = 0.25
"""Share of the first iteration's entropy under which the policy has collapsed."""
ALL_TRUNCATED = 0.9
"""Share of answers cut at the limit from which ``all_truncated`` rings."""
LONGER = 1.2
"""``reward_with_length`` rings when the mean length exceeds this multiple of the first iteration's ..."""
CORRELATED = 0.7
"""... and reward and length correlate by more than this over the last ``alarm_patience`` iterations."""


def alarms(history: Sequence["IterationMetrics"], config: "Config") -> dict["Alarm", str]:
    """The alarms that ring after the last iteration, in words."""
    if not history:
        return {}
    first, last, recent = history[0], history[-1], history[-config.policy.alarm_patience :]
    patient = len(recent) == config.policy.alarm_patience
    ringing: dict[Alarm, str] = {}
    tail, budget = _number(last, "objective/kl_p95"), config.gate.kl_tail_budget
    if tail > budget:
        ringing["kl_tail"] = (
            f"5% of the answers are {tail:.1f} nats or more from the reference (tail budget {budget:g})"
        )
    if patient and all(row["objective/kl_coef_at_clip"] for row in recent):
        drift, target = _number(last, "objective/kl"), _number(last, "objective/kl_target")
        ringing["controller_at_clip"] = (
            f"β moves as fast as it may for {len(recent)} iterations, KL {drift:.1f} against target {target:g}: "
            "a shorter policy.kl.horizon, or a better policy.kl.init_coef, would catch up"
        )
    entropy, first_entropy = _number(last, "objective/entropy"), _number(first, "objective/entropy")
    if entropy < ENTROPY_LEFT * first_entropy:
        ringing["entropy_collapse"] = f"entropy fell from {first_entropy:.2f} to {entropy:.2f} nats per token"
    if patient and all(_number(row, "ppo/value/explained_variance") <= 0 for row in recent):
        ringing["value_blind"] = f"the value head explains nothing of the returns for {len(recent)} iterations"
    cut = _number(last, "tokens/truncated_share")
    if cut >= ALL_TRUNCATED:
        ringing["all_truncated"] = f"{cut:.0%} of the answers are cut at text.max_response_tokens"
    length, first_length = _number(last, "tokens/response_mean"), _number(first, "tokens/response_mean")
    rewards = [_number(row, "objective/reward") for row in recent]
    lengths = [_number(row, "tokens/response_mean") for row in recent]
    if patient and length > LONGER * first_length and _correlation(rewards, lengths) > CORRELATED:
        ringing["reward_with_length"] = (
            f"reward rises with length, which is {length / first_length:.1f} times what it was"
        )
    return ringing


def _number(row: "IterationMetrics", name: str) -> float:
    value = row[name]
    return float("nan") if value is None else value


def _correlation(left: Sequence[float], right: Sequence[float]) -> float:
    """Pearson's correlation; 0 if one of them does not vary."""
    means = sum(left) / len(left), sum(right) / len(right)
    pairs = [(a - means[0], b - means[1]) for a, b in zip(left, right, strict=True)]
    spread = sum(a * a for a, _ in pairs) * sum(b * b for _, b in pairs)
    return float(sum(a * b for a, b in pairs) / spread**0.5) if spread > 0 else 0.0
