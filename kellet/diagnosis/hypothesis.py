"""The records of a diagnosis: a finding, a hypothesis, a recommendation.

A finding is one interval against one threshold, a hypothesis is one or more findings.

A finding is shown to hold (True), shown not to hold (False), or neither (None); a hypothesis is then 'supported', 'not
supported' or 'cannot tell'. ``any_of`` needs one of its findings; their intervals are then made at level alpha divided
by their number (Bonferroni), so that more tests do not find more by chance. ``all_of`` needs all of them, each at level
alpha (an intersection-union test, as in the gate).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scipy.stats import norm

from kellet.stats.bootstrap import Estimate

Verdict = Literal["supported", "not supported", "cannot tell"]
Side = Literal["above", "below"]
MIN_CLUSTERS = 10
"""With fewer prompts than this no share is computed (for iterations: MIN_ITERATIONS in kellet/stats/series.py)."""
VERDICTS: dict[bool | None, Verdict] = {True: "supported", False: "not supported", None: "cannot tell"}


@dataclass(frozen=True)
class Finding:
    """One statistic against one threshold."""

    name: str
    sentence: str
    """The statistic in a sentence with its numbers; empty when its data are missing."""
    estimate: Estimate | None
    threshold: float | None
    side: Side
    shown: bool | None
    """True: the whole interval lies on ``side`` of the threshold. False: none of it does. None: neither is shown."""
    needs: str = ""
    """Which data would decide it, where ``shown`` is None."""

    def to_dict(self) -> dict[str, Any]:
        """As in diagnosis.json."""
        return {
            "name": self.name,
            "value": self.estimate.value if self.estimate else None,
            "interval": [self.estimate.low, self.estimate.high] if self.estimate else None,
            "threshold": self.threshold,
            "shown_when": self.side,
            "shown": self.shown,
            "evidence": self.sentence,
            "needs": self.needs,
        }


@dataclass(frozen=True)
class Hypothesis:
    """A possible cause with its verdict."""

    id: str
    statement: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    """What the verdict is made from."""
    context: tuple[str, ...] = ()
    """Sentences that are shown with the findings and do not decide."""

    @property
    def supported(self) -> bool:
        """Whether the evidence shows it."""
        return self.verdict == "supported"

    @property
    def deciding(self) -> Finding:
        """The first finding that agrees with the verdict."""
        return next((item for item in self.findings if VERDICTS[item.shown] == self.verdict), self.findings[0])

    @property
    def evidence(self) -> str:
        """Sentences with numbers: the deciding finding, the other findings, the context."""
        first = self.deciding
        others = (item.sentence for item in self.findings if item is not first)
        return " ".join(dict.fromkeys(text for text in (first.sentence, *others, *self.context) if text))

    @property
    def needs(self) -> str:
        """Which data would decide it; empty when the verdict is clear."""
        if self.verdict != "cannot tell":
            return ""
        return "; ".join(dict.fromkeys(item.needs for item in self.findings if item.shown is None and item.needs))

    def to_dict(self) -> dict[str, Any]:
        """As in diagnosis.json."""
        first = self.deciding.to_dict()
        return {
            "id": self.id,
            "statement": self.statement,
            "evidence": self.evidence,
            "statistic": {"name": first["name"], "value": first["value"], "threshold": first["threshold"]},
            "interval": first["interval"],
            "verdict": self.verdict,
            "needs": self.needs,
            "findings": [item.to_dict() for item in self.findings],
        }


@dataclass(frozen=True)
class Recommendation:
    """One change. ``patch`` maps dotted parameters to values, as ``--set key=value`` takes them.

    It is empty where no parameter is changed: what is to be done is bringing evidence.
    """

    change: str
    patch: Mapping[str, Any]
    expected_effect: str
    tradeoff: str
    because: tuple[str, ...]
    """Ids of the supported hypotheses that it answers."""
    measured: Mapping[str, Any] | None = None
    """What ``python -m flows.remedies`` measured (kellet/remedies/text.py); None until then."""

    def to_dict(self) -> dict[str, Any]:
        """As in diagnosis.json."""
        return {**asdict(self), "patch": dict(self.patch), "because": list(self.because)}


def at_level(estimate: Estimate, alpha: float, wanted: float) -> Estimate:
    """Rescale an interval from level ``alpha`` to level ``wanted``, as if the estimate were normally distributed."""
    factor = norm.isf(wanted) / norm.isf(alpha)
    low, high = (estimate.value + factor * (end - estimate.value) for end in (estimate.low, estimate.high))
    return Estimate(estimate.value, float(low), float(high), estimate.clusters)


def above(name: str, estimate: Estimate, threshold: float, sentence: str, needs: str) -> Finding:
    """A finding that holds when the whole interval lies above ``threshold``."""
    shown = None
    if not math.isnan(estimate.value):
        shown = True if estimate.low > threshold else False if estimate.high <= threshold else None
    return Finding(name, sentence, estimate, threshold, "above", shown, needs)


def below(name: str, estimate: Estimate, threshold: float, sentence: str, needs: str) -> Finding:
    """A finding that holds when the whole interval lies below ``threshold``."""
    shown = None
    if not math.isnan(estimate.value):
        shown = True if estimate.high < threshold else False if estimate.low >= threshold else None
    return Finding(name, sentence, estimate, threshold, "below", shown, needs)


def fact(name: str, shown: bool, sentence: str) -> Finding:
    """A finding that needs no interval: a setting, or that there is nothing to explain."""
    return Finding(name, sentence, None, None, "above", shown)


def missing(name: str, needs: str) -> Finding:
    """A finding whose data are missing; ``needs`` says which."""
    return Finding(name, "", None, None, "above", None, needs)


def all_shown(findings: Sequence[Finding]) -> bool | None:
    """True when every finding is shown to hold, False when one is shown not to hold, else None."""
    values = [item.shown for item in findings]
    return False if False in values else None if None in values else True


def any_of(id_: str, statement: str, findings: Sequence[Finding], context: Sequence[str] = ()) -> Hypothesis:
    """Supported when one finding is shown to hold, not supported when every finding is shown not to hold."""
    values = [item.shown for item in findings]
    shown = True if True in values else None if None in values else False
    return Hypothesis(id_, statement, VERDICTS[shown], tuple(findings), tuple(context))


def all_of(id_: str, statement: str, findings: Sequence[Finding], context: Sequence[str] = ()) -> Hypothesis:
    """Supported when every finding is shown to hold, not supported when one is shown not to hold."""
    return Hypothesis(id_, statement, VERDICTS[all_shown(findings)], tuple(findings), tuple(context))
