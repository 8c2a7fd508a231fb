"""Why a retraining came out as it did: thirteen hypotheses, one explanation, two recommended changes.

It reads files only, each of them optional: an evaluation, a training history, a preference table, the reward model's
card. Where one is missing, the hypotheses that need it are 'cannot tell' and say so. docs/reference/hypotheses.md has
every statistic, docs/measured/diagnosis.md how often the verdicts are right on runs whose cause is known.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kellet.diagnosis.evidence import Evidence
from kellet.diagnosis.grounds import unjudged_in_words
from kellet.diagnosis.hypothesis import Hypothesis, Recommendation
from kellet.diagnosis.kl_hypotheses import c1_price, c2_scale, c3_where, c4_controller, c5_estimator
from kellet.diagnosis.observations import observations
from kellet.diagnosis.ppo_hypotheses import b1_stopping, b2_path, b3_whitening
from kellet.diagnosis.recommend import recommend
from kellet.diagnosis.reward_hypotheses import a1_labels, a2_learned, a4_length_share, a5_style
from kellet.diagnosis.reward_outside_data import a3_outside
from kellet.errors import InputError
from kellet.files import write_json

HYPOTHESES: tuple[Callable[[Evidence], Hypothesis], ...] = (
    a1_labels,
    a2_learned,
    a3_outside,
    a4_length_share,
    a5_style,
    b1_stopping,
    b2_path,
    b3_whitening,
    c1_price,
    c2_scale,
    c3_where,
    c4_controller,
    c5_estimator,
)
GROUPS = {
    "A": ("Why the reward rose.", "Nothing was shown against the reward model"),
    "B": ("Why PPO went there.", "Nothing was shown against the policy's updates"),
    "C": ("Why the KL penalty did not hold it.", "Nothing was shown against the KL penalty"),
}
WITHIN_BUDGET = "KL is within its budget, but the penalty has a weakness:"
KL_UNKNOWN = "Whether the KL penalty held cannot be told"
CANNOT_BE = "Figures that cannot be, or came to no number; nothing that rests on them is judged, nor is it good news:"
NOT_LEARNED = "That did not reach the reward: A2 is not supported."


@dataclass(frozen=True)
class Diagnosis:
    """What is to be explained, the hypotheses, what explains it, and what to change."""

    observations: list[dict[str, Any]]
    hypotheses: tuple[Hypothesis, ...]
    explanation: tuple[str, ...]
    """Paragraphs."""
    recommendations: tuple[Recommendation, Recommendation]
    inputs: Mapping[str, Any]

    def hypothesis(self, id_: str) -> Hypothesis:
        """Look a hypothesis up by its id; KeyError when there is none."""
        return {item.id: item for item in self.hypotheses}[id_]

    def to_dict(self) -> dict[str, Any]:
        """As diagnosis.json has it."""
        return {
            "observations": self.observations,
            "hypotheses": [item.to_dict() for item in self.hypotheses],
            "explanation": "\n\n".join(self.explanation),
            "recommendations": [item.to_dict() for item in self.recommendations],
            "inputs": dict(self.inputs),
        }

    def write(self, path: Path) -> None:
        """Write diagnosis.json atomically."""
        write_json(path, self.to_dict())


def diagnose(evidence: Evidence, inputs: Mapping[str, Any] | None = None) -> Diagnosis:
    """Test every hypothesis on the files at hand; ``inputs`` (hashes, names) is kept with the result.

    Raises InputError when there is neither an evaluation, nor a history, nor preferences, nor a card.
    """
    sizes = {
        "evaluation_rows": 0 if evidence.evaluation is None else len(evidence.evaluation),
        "iterations": len(evidence.history),
        "pairs": 0 if evidence.preferences is None else len(evidence.preferences),
        "card": evidence.card is not None,
    }
    if not any(sizes.values()):
        raise InputError("nothing to diagnose; give an evaluation, --history, --preferences or --card")
    hypotheses = tuple(hypothesis(evidence) for hypothesis in HYPOTHESES)
    return Diagnosis(
        observations(evidence),
        hypotheses,
        explain(evidence, hypotheses),
        recommend(evidence, {item.id: item for item in hypotheses}),
        {**(inputs or {}), **sizes, "interval_alpha": evidence.alpha},
    )


def explain(evidence: Evidence, hypotheses: tuple[Hypothesis, ...]) -> tuple[str, ...]:
    """Paragraphs: the observations, why reward, PPO and penalty behaved so, how it fits together, what is unknown."""
    broken = [fault.sentence for fault in evidence.broken]
    observed = [item["words"] for item in observations(evidence) if item["words"] not in broken]
    paragraphs = [" ".join(observed)] if observed else []
    if broken:
        paragraphs.append(" ".join([CANNOT_BE, *broken]))
    for group, (lead, nothing) in GROUPS.items():
        members = [item for item in hypotheses if item.id.startswith(group)]
        refuted = [item.id for item in members if item.verdict == "not supported"]
        harmless = [item for item in members if item.id == "A1" and item.supported and "A2" in refuted]
        causes = [item for item in members if item.supported and item not in harmless]
        parts = []
        if group == "C" and evidence.drift().shown is False:
            lead = WITHIN_BUDGET
        if group == "C" and evidence.drift().shown is None:
            nothing = KL_UNKNOWN
        if causes:
            parts = [lead, *(_clause(item) for item in causes)]
        elif refuted:
            parts = [f"{nothing}; not supported: {', '.join(refuted)}."]
        for item in harmless:
            parts += [_clause(item), NOT_LEARNED]
        if parts:
            paragraphs.append(" ".join(parts))
    if together := _together(evidence, hypotheses):
        paragraphs.append(together)
    if doubt := unjudged_in_words(evidence):
        paragraphs.append(doubt)
    unknown = [item for item in hypotheses if item.verdict == "cannot tell"]
    if unknown:
        by_needs: dict[str, list[str]] = {}
        for item in unknown:
            by_needs.setdefault(item.needs, []).append(item.id)
        needs = "; ".join(f"{', '.join(ids)} ({what})" for what, ids in by_needs.items())
        paragraphs.append(f"Cannot be told: {needs}.")
    return tuple(paragraphs)


def _clause(item: Hypothesis) -> str:
    """The statement and the findings that show it, without the one that the observations say already (KL)."""
    shown = [finding.sentence for finding in item.findings if finding.shown and finding.name != "kl_over_budget"]
    return " ".join([f"{item.statement.removesuffix('.')} ({item.id}).", *dict.fromkeys(shown)])


def _together(evidence: Evidence, hypotheses: tuple[Hypothesis, ...]) -> str:
    """One sentence that joins the causes of reward, PPO and penalty; empty where fewer than two of them have one."""
    supported = {item.id for item in hypotheses if item.supported}
    clauses = []
    longer = evidence.lengthening is not None and evidence.lengthening.low > 1
    if "A2" in supported and longer:
        clauses.append("the reward pays for length, so that it rises as the answers grow")
    elif "A5" in supported:
        clauses.append("the reward pays for a style, and a part of its gain is that style")
    elif "A3" in supported:
        clauses.append("the reward is trusted on answers that it has no labels for")
    if "B2" in supported:
        clauses.append("PPO goes there in many steps, each of which is too small to be stopped")
    elif "B3" in supported or "B1" in supported:
        clauses.append("PPO keeps pushing in that direction")
    if "C1" in supported:
        rises = evidence.kl_rise is not None and evidence.kl_rise.low > 0
        went = "keeps rising" if rises else "left its budget"
        clauses.append(f"a nat of drift costs less than it buys, so KL {went} although it is penalised")
    elif "C2" in supported:
        shown = {finding.name for item in hypotheses for finding in item.findings if finding.shown}
        misled = "the controller is told another KL than that of a response, and lets that grow"
        faint = "the penalty is too faint beside the scores to hold KL"
        clauses.append(misled if "lowered_above_target" in shown else faint)
    elif "C4" in supported:
        clauses.append("the controller of β comes too late to hold KL")
    if len(clauses) < 2:
        return ""
    return f"Together: {'; '.join(clauses)}."
