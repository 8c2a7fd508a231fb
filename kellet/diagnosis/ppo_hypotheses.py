"""B1 to B3: how PPO moves the policy towards what the reward pays for, although each update is clipped.

From the history alone; every interval respects its autocorrelation (kellet/stats/series.py). Where a metric was not
logged the verdict is 'cannot tell' and names it.
"""

import numpy as np

from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.hypothesis import Finding, Hypothesis, above, all_of, below, fact, missing
from kellet.stats.bootstrap import Estimate, Floats
from kellet.stats.format import percent, rounded
from kellet.stats.series import change, growth, late, level, series

SMALL_STEP_SHARE = 0.1
"""B2: an update is small when its KL is below this share of the KL from the reference."""
SHRUNK_SIGNAL = 0.7
"""B3: the signal has shrunk when its standard deviation is below this share of what it was at the start."""
STOP_ADVANTAGE, OTHER_ADVANTAGE = "ppo/advantage/eos", "ppo/advantage/other"
STOP_HAZARDS = ("tokens/stop_hazard/early", "tokens/stop_hazard/middle")


def b1_stopping(evidence: Evidence) -> Hypothesis:
    """PPO rewards going on more than stopping, and answers stop less often while they are short."""
    findings = []
    logged = series(evidence.history, STOP_ADVANTAGE, OTHER_ADVANTAGE)
    if logged:
        gap = level(first_half(logged[0] - logged[1]), evidence.alpha)
        text = (
            f"In the first half of the run, stopping had {rounded(gap)} standard deviations of advantage against going "
            "on at the same positions."
        )
        findings.append(below("advantage_of_stopping", gap, 0.0, text, "more iterations"))
    else:
        needs = f"{STOP_ADVANTAGE} and {OTHER_ADVANTAGE} of each iteration"
        findings.append(missing("advantage_of_stopping", needs))
    findings.append(_hazard(evidence))
    statement = "Advantage falls on going on rather than on stopping, and answers stop later."
    return all_of("B1", statement, findings)


def first_half(values: Floats) -> Floats:
    """The first half of the run: later, answers mostly stop only where going on would not pay any more."""
    return values[: (len(values) + 1) // 2]


def _hazard(evidence: Evidence) -> Finding:
    """Change over the run of the share of running answers that stop, in the first two thirds of the length limit."""
    logged = series(evidence.history, *STOP_HAZARDS)
    if not logged:
        return missing("stopping_hazard", f"{' and '.join(STOP_HAZARDS)} of each iteration")
    mean = (logged[0] + logged[1]) / 2
    moved = change(mean, evidence.alpha)
    text = (
        f"The share of running answers that stop within the first third of the length limit, and within the second, "
        f"changed by {rounded(moved, 1, 100.0)} points over the run (mean of the two; {100 * mean[0]:.0f}% at the "
        "start)."
    )
    return below("stopping_hazard", moved, 0.0, text, "more iterations")


def steps(evidence: Evidence) -> tuple[Floats, Floats, str] | None:
    """KL of each update and KL from the reference ``(T,)``, nats per response, and how the former was measured."""
    name = evidence.kl_name
    logged = series(evidence.history, "ppo/policy/kl_update", name)
    if logged:
        return logged[0], logged[1], "measured after the update"
    logged = series(evidence.history, "ppo/policy/approxkl", "tokens/response_mean", name)
    if logged:
        return logged[0] * logged[1], logged[2], "from approxkl times length, which takes earlier minibatches too"
    return None


def b2_path(evidence: Evidence) -> Hypothesis:
    """Clipping limits each update, not their sum: each is a small part of a KL that is above the budget."""
    statement = "Each update is small, and they add up to a long path: clipping limits a step, not the path."
    measured = steps(evidence)
    drift = evidence.drift()
    if not measured:
        needs = "ppo/policy/kl_update (or ppo/policy/approxkl and tokens/response_mean) and objective/kl"
        return all_of("B2", statement, [missing("step_share", needs), drift])
    step, path, how = measured
    if (late(path) <= 0).any():
        still = fact("step_share", False, "The policy did not move from the reference.")
        return all_of("B2", statement, [still, drift])
    share = level(late(step) / late(path), evidence.alpha)
    size = float(late(step).mean())
    text = (
        f"In the last third of the run an update moved the policy by {size:.2g} nats a response ({how}), which is "
        f"{percent(share, 1)} of its KL from the reference by then."
    )
    clip = series(evidence.history, "ppo/policy/clipfrac")
    if clip:
        text += f" The clip was in force on {percent(level(clip[0], evidence.alpha), 1)} of the tokens."
    context = []
    signs = series(evidence.history, "ppo/policy/clipfrac_positive", "ppo/policy/clipfrac_negative")
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
    logged = series(evidence.history, "ppo/advantage_std")
    if not logged:
        return all_of("B3", statement, [missing("signal_growth", "ppo/advantage_std of each iteration")])
    signal = growth(logged[0], evidence.alpha)
    text = (
        f"Before whitening, the standard deviation of the advantages went to {rounded(signal)} of what it was at first."
    )
    findings = [below("signal_growth", signal, SHRUNK_SIGNAL, text, "more iterations")]
    measured = steps(evidence)
    both = series(evidence.history, "ppo/advantage_std", evidence.kl_name)
    if measured and both and len(measured[0]) == len(both[0]) and (measured[0] > 0).all():
        excess = change(np.log(measured[0]) - 2 * np.log(both[0]), evidence.alpha)
        ends = np.exp([excess.value, excess.low, excess.high])
        kept = Estimate(float(ends[0]), float(ends[1]), float(ends[2]), excess.clusters)
        text = (
            f"A step that follows the signal shrinks with its square; the steps became {rounded(kept, 1)} times that "
            "(Adam scales gradients up as well, so whitening need not be alone in it)."
        )
        findings.append(above("step_kept_up", kept, 1.0, text, "more iterations"))
    else:
        findings.append(missing("step_kept_up", "ppo/policy/kl_update of each iteration"))
    return all_of("B3", statement, findings)
