"""B1 to B3: how PPO moves probability towards what is paid, in spite of clipping.

From the history alone; every interval respects its autocorrelation (kellet/diagnosis/history.py). A metric that was not logged
makes 'cannot tell' and is named.
"""

import numpy as np

from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.hypothesis import Finding, Hypothesis, above, all_of, below, fact, missing
from kellet.stats.bootstrap import Estimate, Floats
from kellet.stats.format import percent, rounded
from kellet.stats.series import change, growth, late, level, series

STEP_SHARE = 0.1
"""B2: a step is small against the path when its KL is below this share of the KL from the reference."""
SHRUNK = 0.7
"""B3: the signal has shrunk when its standard deviation fell below this share of what it was at the start."""
EOS, OTHER = "ppo/advantage/eos", "ppo/advantage/other"
HAZARDS = ("tokens/stop_hazard/early", "tokens/stop_hazard/middle")


def b1_stopping(evidence: Evidence) -> Hypothesis:
    """Advantage falls on going on rather than on stopping, and answers stop less often while they are short."""
    findings = []
    found = series(evidence.history, EOS, OTHER)
    if found:
        gap = level(first_half(found[0] - found[1]), evidence.alpha)
        text = (
            f"In the first half of the run, stopping had {rounded(gap)} standard deviations of advantage against going "
            "on at the same positions."
        )
        findings.append(below("advantage_of_stopping", gap, 0.0, text, "more iterations"))
    else:
        findings.append(missing("advantage_of_stopping", f"{EOS} and {OTHER} of each iteration"))
    findings.append(_hazard(evidence))
    statement = "Advantage falls on going on rather than on stopping, and answers stop later."
    return all_of("B1", statement, findings)


def first_half(values: Floats) -> Floats:
    """The first half of the run: later, the stops that are left are those that a longer answer would not improve."""
    return values[: (len(values) + 1) // 2]


def _hazard(evidence: Evidence) -> Finding:
    """Change of the stopping hazard over the run, mean of the first two thirds of the length limit."""
    found = series(evidence.history, *HAZARDS)
    if not found:
        return missing("stopping_hazard", f"{' and '.join(HAZARDS)} of each iteration")
    mean = (found[0] + found[1]) / 2
    moved = change(mean, evidence.alpha)
    text = (
        f"The share of running answers that stop within the first third of the length limit, and within the second, "
        f"changed by {rounded(moved, 1, 100.0)} points over the run (mean of the two; {100 * mean[0]:.0f}% at the "
        "start)."
    )
    return below("stopping_hazard", moved, 0.0, text, "more iterations")


def steps(evidence: Evidence) -> tuple[Floats, Floats, str] | None:
    """KL of each update and KL from the reference ``(T,)``, nats a response, and how the former was had."""
    name = evidence.kl_name
    found = series(evidence.history, "ppo/policy/kl_update", name)
    if found:
        return found[0], found[1], "measured after the update"
    found = series(evidence.history, "ppo/policy/approxkl", "tokens/response_mean", name)
    if found:
        return found[0] * found[1], found[2], "from approxkl times length, which takes earlier minibatches too"
    return None


def b2_path(evidence: Evidence) -> Hypothesis:
    """Clipping bounds a step, not the path: each update is a small part of a KL that has left its budget."""
    statement = "Each update is small, and they add up to a long path: clipping limits a step, not the path."
    found = steps(evidence)
    drift = evidence.drift()
    if not found:
        needs = "ppo/policy/kl_update (or ppo/policy/approxkl and tokens/response_mean) and objective/kl"
        return all_of("B2", statement, [missing("step_share", needs), drift])
    step, path, how = found
    positive = late(path) > 0
    if not positive.all():
        return all_of(
            "B2", statement, [fact("step_share", False, "The policy did not move from the reference."), drift]
        )
    share = level(late(step) / late(path), evidence.alpha)
    size = float(late(step).mean())
    text = (
        f"In the last third of the run an update moved the policy by {size:.2g} nats a response ({how}), which is "
        f"{percent(share, 1)} of its KL from the reference by then."
    )
    clip = series(evidence.history, "ppo/policy/clipfrac")
    if clip:
        text += f" The clip was in force on {percent(level(clip[0], evidence.alpha), 1)} of the tokens."
    beside = []
    signs = series(evidence.history, "ppo/policy/clipfrac_positive", "ppo/policy/clipfrac_negative")
    if signs:
        shares = [percent(level(values, evidence.alpha), 2) for values in signs]
        beside.append(f"By sign of the advantage: {shares[0]} where positive, {shares[1]} where negative.")
    return all_of("B2", statement, [below("step_share", share, STEP_SHARE, text, "more iterations"), drift], beside)


def b3_whitening(evidence: Evidence) -> Hypothesis:
    """Whitened advantages keep pushing: the signal before whitening shrinks, the steps do not shrink with it.

    A step of plain gradient ascent has a KL that goes with the square of its signal. So the second finding is whether
    the KL of the steps fell by less than the square of the signal.
    """
    statement = "Whitening keeps the push up although the signal shrinks."
    found = series(evidence.history, "ppo/advantage_std")
    if not found:
        return all_of("B3", statement, [missing("signal_growth", "ppo/advantage_std of each iteration")])
    signal = growth(found[0], evidence.alpha)
    text = (
        f"Before whitening, the standard deviation of the advantages went to {rounded(signal)} of what it was at first."
    )
    findings = [below("signal_growth", signal, SHRUNK, text, "more iterations")]
    together = steps(evidence)
    both = series(evidence.history, "ppo/advantage_std", evidence.kl_name)
    if together and both and len(together[0]) == len(both[0]) and (together[0] > 0).all():
        excess = change(np.log(together[0]) - 2 * np.log(both[0]), evidence.alpha)
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
