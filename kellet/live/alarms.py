"""What rings while a training runs, as conditions on its course: each a figure over its limit, and a sentence.

A condition reads levels (mean or median of the last ``patience`` values) and answers with the ratio of figure to limit,
1 or more where it holds; None where the trainer does not log what it needs. What is compared with the start has also to
be clear of the noise. kellet/live/bells.py turns ratios into alarms that begin and end. Names that are also in
kellet/policy/alarms.py mean the same. Limits are rules of thumb, good for a warning; the verdict is the gate's.
"""

import math
from collections.abc import Callable
from statistics import fmean, median, stdev
from typing import NamedTuple

from kellet.live.course import Course
from kellet.live.limits import Limits

KL = ("objective/kl", "objective/kl_k3", "objective/kl_k1")
"""KL of a response, nats: full, then its estimates from the sampled tokens."""
REWARD, LENGTH, CUT = "objective/reward", "tokens/response_mean", "tokens/truncated_share"
CLEAR = 4.0
"""Two levels differ when they are this many standard errors apart. Rows of a training depend on each other and an alarm
is asked at every row, so this is no level of a test; tests/live/test_alarms.py counts the alarms of pure noise."""
CLEAR_BEST = 6.0
"""The same for the best of many levels, which is high by selection."""
AT_ONCE = 2.0
"""kl_over_budget does not wait for a level where ..."""
AT_ONCE_ROWS = 3
"""... this many rows are this many times over the budget."""
BROKEN_ROWS = 2
"""not_finite: rows in a row; one alone may be a step that a loss scaler skipped."""
NEGATIVE = 0.01
"""kl_negative: nats below zero from which rounding is no excuse."""


class Reading(NamedTuple):
    """A condition's figure over its limit, and what it says."""

    ratio: float
    words: str


def not_finite(course: Course, limits: Limits) -> Reading | None:  # noqa: ARG001
    """A loss, a gradient, a reward or a KL is no number any more."""
    last = [step.broken for step in course.steps[-BROKEN_ROWS:]]
    names = sorted(set(last[-1]).intersection(*last))
    words = f"{', '.join(map(repr, names))} is no finite number for {len(last)} rows: the weights may be lost"
    return Reading(len(last) / BROKEN_ROWS if names else 0.0, words)


def kl_over_budget(course: Course, limits: Limits) -> Reading | None:
    """The policy is farther from its reference than the gate will allow."""
    name = course.first_of(KL)
    latest, level = course.recent(name, AT_ONCE_ROWS), course.recent(name)
    if name is None or latest is None:
        return None
    at_once, kl = min(latest) / (AT_ONCE * limits.kl_budget), median(level or latest)
    ratio = max(at_once, kl / limits.kl_budget) if level else at_once
    return Reading(ratio, f"KL from the reference is {kl:.1f} nats a response{_by(name)}, budget {limits.kl_budget:g}")


def kl_negative(course: Course, limits: Limits) -> Reading | None:  # noqa: ARG001
    """A mean KL below zero, which cannot be: the two log-probabilities are not of the same thing."""
    name = course.first_of(KL)
    values = course.recent(name)
    if name is None or values is None:
        return None
    mean, error = fmean(values), stdev(values) / math.sqrt(len(values))
    shown = max(values) < 0 and mean < -NEGATIVE and -mean >= CLEAR * error
    why = (
        f"KL is below zero ({mean:.2f} nats a response{_by(name)}), which cannot be; policy and reference differ in "
        "temperature, dropout, padding or template, or samples come from another policy than the one that is measured"
    )
    return Reading(1.0 if shown else 0.0, why)


def penalty_small(course: Course, limits: Limits) -> Reading | None:
    """KL is bought cheaply: what the penalty takes is small beside what the reward gains."""
    kl, beta = course.recent(course.first_of(KL)), course.recent("objective/kl_coef")
    now, start = course.recent(REWARD), course.start(REWARD)
    if kl is None or beta is None or now is None or start is None:
        return None
    gain, price, level = fmean(now) - fmean(start), fmean(beta) * fmean(kl), median(kl)
    if level < limits.kl_budget / 2 or gain <= 0:
        return Reading(0.0, "")
    words = (
        f"β·KL takes {price:.3g} of a reward gain of {gain:.3g} ({price / gain:.0%}) at {level:.1f} nats: the penalty "
        "will not hold the policy"
    )
    return Reading(_if_clear(course.distance(REWARD, now, start), _over(limits.penalty_share * gain, price)), words)


def reward_with_length(course: Course, limits: Limits) -> Reading | None:
    """Reward and length rise together."""
    lengths, rewards = _since_start(course, LENGTH), _since_start(course, REWARD)
    if lengths is None or rewards is None:
        return None
    (length, before), (now, start) = lengths, rewards
    growth = fmean(length) / fmean(before) - 1 if fmean(before) > 0 else 0.0
    words = (
        f"answers are {growth:.0%} longer than at the start ({fmean(length):.0f} tokens, tolerated "
        f"{limits.length_tolerance:.0%}) while the reward rose by {fmean(now) - fmean(start):.3g}"
    )
    distance = min(course.distance(LENGTH, length, before), course.distance(REWARD, now, start))
    return Reading(_if_clear(distance, _over(growth, limits.length_tolerance)), words)


def length_collapse(course: Course, limits: Limits) -> Reading | None:
    """Answers shrink to a remnant."""
    compared = _since_start(course, LENGTH)
    if compared is None or median(compared[1]) <= 0:
        return None
    length, before = (median(values) for values in compared)
    words = f"answers have {length:.0f} tokens, {before:.0f} at the start"
    return Reading(_over(limits.length_left * before, length), words)


def truncation(course: Course, limits: Limits) -> Reading | None:
    """More answers than at the start are cut at the limit of tokens."""
    compared = _since_start(course, CUT)
    if compared is None:
        return None
    cut, before = (fmean(values) for values in compared)
    words = f"{cut:.0%} of the answers are cut at the limit of tokens, {before:.0%} at the start"
    over = _over(cut - before, limits.truncation_tolerance)
    return Reading(_if_clear(course.distance(CUT, *compared), over), words)


def all_truncated(course: Course, limits: Limits) -> Reading | None:
    """Nearly no answer ends by itself."""
    values = course.recent(CUT)
    if values is None:
        return None
    return Reading(
        median(values) / limits.all_truncated, f"{median(values):.0%} of the answers are cut at the limit of tokens"
    )


def entropy_collapse(course: Course, limits: Limits) -> Reading | None:
    """The policy has next to nothing left to choose."""
    compared = _since_start(course, "objective/entropy")
    if compared is None or median(compared[1]) <= 0:
        return None
    entropy, before = (median(values) for values in compared)
    words = f"entropy fell from {before:.2f} to {entropy:.2f} nats per token"
    return Reading(_over(limits.entropy_left * before, max(entropy, 0.0)), words)


def reward_lost(course: Course, limits: Limits) -> Reading | None:
    """The reward fell back."""
    now, start, best = course.recent(REWARD), course.start(REWARD), course.best(REWARD)
    if now is None or start is None or best is None:
        return None
    gain, left = fmean(best) - fmean(start), fmean(now) - fmean(start)
    words = f"of a reward gain of {gain:.3g} at best, {left:.3g} is left"
    if gain <= 0:
        return Reading(0.0, "")
    distance = min(course.distance(REWARD, best, now), course.distance(REWARD, best, start) - (CLEAR_BEST - CLEAR))
    return Reading(_if_clear(distance, _over(gain - left, gain * (1 - limits.reward_left))), words)


def reward_flat(course: Course, limits: Limits) -> Reading | None:  # noqa: ARG001
    """All answers get the same reward: there is nothing to learn from."""
    spread = course.recent("objective/reward_std")
    if spread is None:
        return None
    return Reading(float(max(spread) <= 0), f"all answers got the same reward for {len(spread)} rows")


def value_blind(course: Course, limits: Limits) -> Reading | None:  # noqa: ARG001
    """The value head explains nothing of the returns."""
    values = course.recent("ppo/value/explained_variance")
    if values is None:
        return None
    return Reading(float(max(values) <= 0), f"the value head explains nothing of the returns for {len(values)} rows")


def gradient_blown_up(course: Course, limits: Limits) -> Reading | None:
    """Gradients are far larger than at the start."""
    compared = _since_start(course, "ppo/grad_norm")
    if compared is None or median(compared[1]) <= 0:
        return None
    norm, before = (median(values) for values in compared)
    words = f"the gradient norm is {norm:.3g}, {norm / before:.0f} times that of the start"
    return Reading(norm / (limits.gradient_factor * before), words)


CONDITIONS: dict[str, Callable[[Course, Limits], Reading | None]] = {
    condition.__name__: condition
    for condition in (
        not_finite,
        kl_over_budget,
        kl_negative,
        penalty_small,
        reward_with_length,
        length_collapse,
        truncation,
        all_truncated,
        entropy_collapse,
        reward_lost,
        reward_flat,
        value_blind,
        gradient_blown_up,
    )
}
"""By the name of the alarm."""
NEEDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "kl_over_budget": (KL,),
    "kl_negative": (KL,),
    "penalty_small": (KL, ("objective/kl_coef",), (REWARD,)),
    "reward_with_length": ((REWARD,), (LENGTH,)),
    "length_collapse": ((LENGTH,),),
    "truncation": ((CUT,),),
    "all_truncated": ((CUT,),),
    "entropy_collapse": (("objective/entropy",),),
    "reward_lost": ((REWARD,),),
    "reward_flat": (("objective/reward_std",),),
    "value_blind": (("ppo/value/explained_variance",),),
    "gradient_blown_up": (("ppo/grad_norm",),),
}
"""What each alarm reads: of each group one metric."""


def unwatched(course: Course) -> dict[str, str]:
    """The alarms that cannot ring because of what has not been logged so far, and what that is."""
    missing = {}
    kl = course.first_of(KL)
    unmeasured = kl is not None and not any(course.recent(kl, AT_ONCE_ROWS) or [1.0])  # no reference, or no penalty
    for name, groups in NEEDS.items():
        absent = [group for group in groups if course.first_of(group) is None or (group == KL and unmeasured)]
        if absent:
            missing[name] = " and ".join("KL" if group == KL else group[0] for group in absent)
    return missing


def _since_start(course: Course, name: str) -> tuple[list[float], list[float]] | None:
    now, start = course.recent(name), course.start(name)
    return None if now is None or start is None else (now, start)


def _over(figure: float, limit: float) -> float:
    """``figure`` over ``limit``; a limit of nothing is passed by anything above it."""
    if limit > 0:
        return figure / limit
    return math.inf if figure > limit else 0.0


def _if_clear(distance: float, ratio: float) -> float:
    """``ratio``, but just below 1 where the difference may be noise: an alarm neither begins nor ends for it."""
    return ratio if distance >= CLEAR else min(ratio, math.nextafter(1, 0))


def _by(name: str) -> str:
    return "" if name == KL[0] else f" (estimated by {name[-2:]})"
