"""The records of a diagnosis: a finding is one interval against one threshold, a hypothesis is one or several findings.

A finding is shown (True), shown not to be so (False), or neither (None); a hypothesis is then supported, not supported,
or cannot be told. ``any_of`` needs one finding, each then at level alpha divided by their number (Bonferroni), so that
looking in several places does not find more by chance; ``all_of`` needs every one, each at level alpha (an
intersection-union test, as in the gate).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from scipy.stats import norm

from kellet.stats.bootstrap import Estimate

Verdict = Literal["supported", "not supported", "cannot tell"]
Side = Literal["above", "below"]
CARD_ALPHA = 0.05
"""One-sided level of the intervals in a reward model's card (kellet/reward/card.py)."""
MIN_CLUSTERS = 10
"""With fewer prompts than this nothing is shown (for iterations: kellet/diagnosis/history.py MIN_ITERATIONS)."""


@dataclass(frozen=True)
class Finding:
    """One statistic against one threshold; ``words`` is a sentence with its numbers."""

    name: str
    words: str
    estimate: Estimate | None
    threshold: float | None
    side: Side
    shown: bool | None
    needs: str = ""
    """What data would tell, where ``shown`` is None."""

    def to_dict(self) -> dict[str, Any]:
        """As in diagnosis.json."""
        known = self.estimate is not None
        return {
            "name": self.name,
            "value": self.estimate.value if self.estimate else None,
            "interval": [self.estimate.low, self.estimate.high] if self.estimate else None,
            "threshold": self.threshold,
            "shown_when": self.side,
            "shown": self.shown if known or self.shown is not None else None,
            "evidence": self.words,
            "needs": self.needs,
        }


@dataclass(frozen=True)
class Hypothesis:
    """A possible cause with its verdict. ``findings`` decide it, ``beside`` are figures that stand with them."""

    id: str
    statement: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    beside: tuple[str, ...] = ()

    @property
    def supported(self) -> bool:
        """Whether the evidence shows it."""
        return self.verdict == "supported"

    @property
    def deciding(self) -> Finding:
        """The finding that made the verdict: of those that agree with it the first."""
        wanted = {"supported": True, "not supported": False, "cannot tell": None}[self.verdict]
        return next((item for item in self.findings if item.shown is wanted), self.findings[0])

    @property
    def evidence(self) -> str:
        """Sentences with numbers: the findings, the deciding one first, then what stands beside them."""
        first = self.deciding
        words = [first.words, *(item.words for item in self.findings if item is not first), *self.beside]
        return " ".join(dict.fromkeys(word for word in words if word))

    @property
    def needs(self) -> str:
        """What data would tell; empty when the verdict is clear."""
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


def at_level(estimate: Estimate, alpha: float, wanted: float) -> Estimate:
    """An interval that was made at ``alpha``, stretched about its value to ``wanted`` as a normal one is."""
    by = norm.isf(wanted) / norm.isf(alpha)
    low, high = (estimate.value + by * (end - estimate.value) for end in (estimate.low, estimate.high))
    return Estimate(estimate.value, float(low), float(high), estimate.clusters)


def above(name: str, estimate: Estimate, threshold: float, words: str, needs: str) -> Finding:
    """Shown when the whole interval lies above ``threshold``, shown not to be so when none of it does."""
    shown = None
    if not math.isnan(estimate.value):
        shown = True if estimate.low > threshold else False if estimate.high <= threshold else None
    return Finding(name, words, estimate, threshold, "above", shown, needs)


def below(name: str, estimate: Estimate, threshold: float, words: str, needs: str) -> Finding:
    """Shown when the whole interval lies below ``threshold``."""
    shown = None
    if not math.isnan(estimate.value):
        shown = True if estimate.high < threshold else False if estimate.low >= threshold else None
    return Finding(name, words, estimate, threshold, "below", shown, needs)


def fact(name: str, shown: bool, words: str) -> Finding:
    """State what needs no interval: a setting, or that there is nothing to explain."""
    return Finding(name, words, None, None, "above", shown)


def missing(name: str, needs: str) -> Finding:
    """State that the data for this finding are not there; ``needs`` says which would tell."""
    return Finding(name, "", None, None, "above", None, needs)


def any_of(id_: str, statement: str, findings: Sequence[Finding], beside: Sequence[str] = ()) -> Hypothesis:
    """Supported when one finding is shown; not supported when each is shown not to be so."""
    values = [item.shown for item in findings]
    verdict: Verdict = "supported" if True in values else "cannot tell" if None in values else "not supported"
    return Hypothesis(id_, statement, verdict, tuple(findings), tuple(beside))


def all_of(id_: str, statement: str, findings: Sequence[Finding], beside: Sequence[str] = ()) -> Hypothesis:
    """Supported when every finding is shown; not supported when one is shown not to be so."""
    values = [item.shown for item in findings]
    verdict: Verdict = "not supported" if False in values else "cannot tell" if None in values else "supported"
    return Hypothesis(id_, statement, verdict, tuple(findings), tuple(beside))
