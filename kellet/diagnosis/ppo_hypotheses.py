"""B1 to B3: how PPO moves the policy towards what the reward pays for, although each update is clipped.

From the history alone; every interval respects its autocorrelation (kellet/stats/series.py). Where a metric was not
logged the verdict is 'cannot tell' and names it.
"""

import numpy as np

from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.hypothesis import Finding, Hypothesis, above, all_of, below, fact, missing
from kellet.stats.bootstrap import Floats
from kellet.stats.format import percent, rounded
from kellet.stats.series import change, exponential, growth, late, level, start, trend

SMALL_STEP_SHARE = 0.1
"""B2: an update is small when its KL is below this share of the KL from the reference."""
SHRUNK_SIGNAL = 0.7
"""B3: the signal has shrunk when its standard deviation is below this share of what it was at the start."""
STOP_ADVANTAGE, OTHER_ADVANTAGE = "ppo/advantage/eos", "ppo/advantage/other"
STOP_HAZARDS = ("tokens/stop_hazard/early", "tokens/stop_hazard/middle")


def b1_stopping(evidence: Evidence) -> Hypothesis:
    """PPO rewards going on more than stopping, and answers stop less often while they are short."""
    findings = []
    logged = evidence.logged(STOP_ADVANTAGE, OTHER_ADVANTAGE)
    if logged:
        gap = level(first_half(logged[0] - logged[1]), evidence.alpha)
        text = (
            f"In the first half of the run, stopping had {rounded(gap)} standard deviations of advantage against going "
            "on at the same positions."
        )
        findings.append(below("advantage_of_stopping", gap, 0.0, text, "more iterations"))
    else:
        needs = f"{STOP_ADVANTAGE} and {OTHER_ADVANTAGE} of each iteration"
        findings.append(evidence.lacking("advantage_of_stopping", needs, STOP_ADVANTAGE, OTHER_ADVANTAGE))
    findings.append(_hazard(evidence))
    statement = "Advantage falls on going on rather than on stopping, and answers stop later."
    return all_of("B1", statement, findings)


def first_half(values: Floats) -> Floats:
    """The first half of the run: later, answers mostly stop only where going on would not pay any more."""
    return values[: (len(values) + 1) // 2]


def _hazard(evidence: Evidence) -> Finding:
    """Trend of the share of running answers that stop, in the first two thirds of the length limit."""
    logged = evidence.logged(*STOP_HAZARDS)
    if not logged:
        needs = f"{' and '.join(STOP_HAZARDS)} of each iteration"
        return evidence.lacking("stopping_hazard", needs, *STOP_HAZARDS)
    mean = (logged[0] + logged[1]) / 2
    moved = trend(mean, evidence.alpha)
    text = (
        "The share of running answers that stop within the first third of the length limit, and within the second, "
        f"went from {100 * start(mean):.0f}% to {100 * late(mean).mean():.0f}% (mean of the two; by a straight "
        f"line {rounded(moved, 1, 100.0)} points over the run)."
    )
    return below("stopping_hazard", moved, 0.0, text, "more iterations")


def steps(evidence: Evidence) -> tuple[Floats, Floats, str] | None:
    """KL of each update and KL from the reference ``(T,)``, nats per response, and how the former was measured."""
    name = evidence.kl_name
    if any(row.get("ppo/policy/kl_update") is not None for row in evidence.history):
        logged = evidence.logged("ppo/policy/kl_update", name)
        return (logged[0], logged[1], "measured after the update") if logged else None
    logged = evidence.logged("ppo/policy/approxkl", "tokens/response_mean", name)
    if logged:
        return logged[0] * logged[1], logged[2], "from approxkl times length, which takes earlier minibatches too"
    return None


def too_small(evidence: Evidence, step: Floats, path: Floats) -> bool:
    """Whether updates of these sizes cannot have gone so far: a measure of them that is zero by construction.

    KL is like a squared distance, so n updates of s nats go at most n²·s nats far; ten times that is granted.
    """
    # Where iterations are counted in episodes, as TRL's PPO prints them, their number is no number of updates.
    counted = (row.get("iteration") or 0 for row in evidence.history if row.get("iteration") != row.get("episodes"))
    updates = max([len(step), *counted])
    return bool((step < 0).any()) or 10 * updates**2 * float(step.mean()) < float(path.max())


def b2_path(evidence: Evidence) -> Hypothesis:
    """Clipping limits each update, not their sum: each is a small part of a KL that is above the budget."""
    statement = "Each update is small, and they add up to a long path: clipping limits a step, not the path."
    measured = steps(evidence)
    drift = evidence.drift()
    if not measured:
        needs = "ppo/policy/kl_update (or ppo/policy/approxkl and tokens/response_mean) and objective/kl"
        metrics = "ppo/policy/kl_update", "ppo/policy/approxkl", "tokens/response_mean", evidence.kl_name
        return all_of("B2", statement, [evidence.lacking("step_share", needs, *metrics), drift])
    step, path, how = measured
    if (late(path) <= 0).any():
        still = fact("step_share", False, "The policy did not move from the reference.")
        return all_of("B2", statement, [still, drift])
    if too_small(evidence, step, path):
        needs = (
            f"the KL of each update: updates of {float(step.mean()):.1g} nats a response ({how}) cannot have gone "
            f"{float(path.max()):.2g} nats far; a k1 of the update's own samples is about zero whatever it does"
        )
        return all_of("B2", statement, [missing("step_share", needs), drift])
    share = level(late(step) / late(path), evidence.alpha)
    size = float(late(step).mean())
    text = (
        f"In the last third of the run an update moved the policy by {size:.2g} nats a response ({how}), which is "
        f"{percent(share, 1)} of the way from the reference by then ({evidence.logged_kl_words})."
    )
    clip = evidence.logged("ppo/policy/clipfrac")
    if clip:
        text += f" The clip was in force on {percent(level(clip[0], evidence.alpha), 1)} of the tokens."
    context = []
    signs = evidence.logged("ppo/policy/clipfrac_positive", "ppo/policy/clipfrac_negative")
    if signs:
        shares = [percent(level(values, evidence.alpha), 2) for values in signs]
        context.append(f"By sign of the advantage: {shares[0]} where positive, {shares[1]} where negative.")
    small = below("step_share", share, SMALL_STEP_SHARE, text, "more iterations")
    return all_of("B2", statement, [small, drift], context)


def b3_whitening(evidence: Evidence) -> Hypothesis:
    """Whitening keeps the updates large: the advantages shrink before whitening, and the updates do not.

    The KL of a step of plain gradient ascent is proportional to the square of its signal, the standard deviation of the
    advantages. So the second finding is whether the KL of the updates fell by less than the square of the signal.
    """
    statement = "Whitening keeps the push up although the signal shrinks."
    logged = evidence.logged("ppo/advantage_std")
    if not logged:
        needs = "ppo/advantage_std of each iteration"
        return all_of("B3", statement, [evidence.lacking("signal_growth", needs, "ppo/advantage_std")])
    signal = growth(logged[0], evidence.alpha)
    text = (
        f"Before whitening, the standard deviation of the advantages went to {rounded(signal)} of what it was at first."
    )
    findings = [below("signal_growth", signal, SHRUNK_SIGNAL, text, "more iterations")]
    measured = steps(evidence)
    both = evidence.logged("ppo/advantage_std", evidence.kl_name)
    sound = measured and (measured[0] > 0).all() and not too_small(evidence, *measured[:2])
    if measured and sound and both and len(measured[0]) == len(both[0]):
        kept = exponential(change(np.log(measured[0]) - 2 * np.log(both[0]), evidence.alpha))
        text = (
            f"A step that follows the signal shrinks with its square; the steps became {rounded(kept, 1)} times that "
            "(Adam scales gradients up as well, so whitening need not be alone in it)."
        )
        findings.append(above("step_kept_up", kept, 1.0, text, "more iterations"))
    else:
        needs = "ppo/policy/kl_update of each iteration"
        findings.append(evidence.lacking("step_kept_up", needs, "ppo/policy/kl_update", evidence.kl_name))
    return all_of("B3", statement, findings)
