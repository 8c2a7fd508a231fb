"""No creep: a candidate must not fall behind the anchor, which only a candidate that is shown better replaces.

Against the champion alone a candidate need only not be shown worse. Thirty of these in a row, each a twentieth of a
standard deviation worse than the one before, are then promoted one after another. The anchor is the champion that was
last shown better than the anchor before it, so that all of them together can lose at most one margin. (Shown better
than the champion would not do: who is better than a champion that has lost a margin may still be behind the anchor.)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kellet.config.judgement import Gate
from kellet.evaluation.answers import Answers, answered_by, intervals
from kellet.gate.checks import GateCheck, Threshold, check_threshold
from kellet.stats.bootstrap import cluster_codes, mean_difference, paired_means
from kellet.stats.within_prompt import centred


@dataclass(frozen=True)
class AnchorComparison:
    """The candidate against the anchor, by reward."""

    system: str
    """Whose answers these are: 'anchor', or 'champion' where the file has none of the anchor, which is then taken to be
    the champion."""
    not_behind: GateCheck
    """Whether the gain is above minus the margin. It decides: violated blocks, not shown is inconclusive."""
    shown_better: GateCheck
    """Whether the gain is above 0: a candidate that is promoted and shown better is the next anchor."""

    def to_dict(self) -> dict[str, Any]:
        """As in gate.json."""
        return {
            "system": self.system,
            "not_behind": self.not_behind.to_dict(),
            "shown_better": self.shown_better.to_dict(),
        }


def against_anchor(answers: dict[str, Answers], gate: Gate) -> AnchorComparison | None:
    """Compare the candidate with the anchor; None where the file has neither anchor nor champion."""
    system = next((name for name in ("anchor", "champion") if name in answers), None)
    if system is None:
        return None
    anchor = answers[system]
    candidate, reference = (answered_by(answers[name], anchor) for name in ("candidate", "reference"))
    gain = mean_difference(anchor.reward, candidate.reward, anchor.prompt, candidate.prompt, **intervals(anchor, gate))
    subject = "mean reward gain over the anchor" + (" (the champion)" if system == "champion" else "")
    limit = -gate.anchor_margin * _deviation(anchor, reference)
    checks = (
        check_threshold(Threshold(name, bound, "above", "reward"), subject, gain, gate.alpha)
        for name, bound in (("anchor_margin", limit), ("anchor_gain", 0.0))
    )
    return AnchorComparison(system, *checks)


def _deviation(anchor: Answers, reference: Answers) -> float:
    """Standard deviation of the reward of the anchor's answers to one prompt.

    With one answer a prompt it cannot be seen. The deviation of the differences between two systems, divided by √2, has
    what differs between prompts in it as well and is somewhat larger.
    """
    (codes,), prompts = cluster_codes(anchor.prompt)
    if len(codes) > prompts:
        squares = float((centred(anchor.reward, codes, prompts) ** 2).sum())
        return float(np.sqrt(squares / (len(codes) - prompts)))
    means = paired_means(anchor.reward, reference.reward, anchor.prompt, reference.prompt)
    return float(np.std(means[:, 1] - means[:, 0]) / np.sqrt(2))
