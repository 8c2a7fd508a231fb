"""What `kellet judge` found, in words and as JSON."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kellet.evaluation.answers import answers_of, win_rate_by
from kellet.evaluation.judge_bias import JudgeBias, judge_bias
from kellet.evaluation.judge_bias import sentences as sentences_on
from kellet.evaluation.judge_cost import Cost, cost_of
from kellet.evaluation.verdicts import by_people
from kellet.gate.judge import human_win_rate
from kellet.stats.bootstrap import Estimate
from kellet.stats.format import in_words

if TYPE_CHECKING:
    import pandas as pd

    from kellet.config.run import Config
    from kellet.evaluation.endpoint_judge import Asking

MORE_TOKENS = "--body '{\"max_tokens\": 1024}'"


@dataclass(frozen=True)
class Findings:
    """What was judged, what it cost, what the judge is worth, and who won by it."""

    column: str
    counts: dict[str, int]
    """Pairs, equal ones, judged ones; questions, and what became of them."""
    first_refusal: str
    models: list[str]
    """Those that answered, by the server's own word."""
    bias: JudgeBias
    win_rates: dict[str, Estimate]
    """Of the candidate over each other system, by the column."""
    by_people: Estimate | None
    """Win rate over the reference by people, helped by the column; None where people judged no pair."""
    note: str
    new: Cost
    whole: Cost
    """Of all replies that the column is made of, those of earlier runs too."""

    @property
    def settings(self) -> str:
        """What the gate has to be told of the column."""
        if self.by_people is not None:
            return f"--set gate.model_judge={self.column}"
        return f"--set gate.judges_for_information=[{self.column}] (people's verdicts, or gate.judge, let it count)"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "column": self.column,
            "counts": self.counts,
            "models": self.models,
            "bias": self.bias.to_dict(),
            "win_rates": {name: rate.to_dict() for name, rate in self.win_rates.items()},
            "win_rate_by_people": None if self.by_people is None else self.by_people.to_dict(),
            "cost": {"new": self.new.to_dict(), "whole": self.whole.to_dict()},
        }

    def sentences(self) -> list[str]:
        """One for each thing that a reader has to know."""
        told = [*self._what_was_judged(), *sentences_on(self.bias)]
        for name, rate in self.win_rates.items():
            told.append(f"win rate of the candidate over the {name} by {self.column}: {in_words(rate, 'win rate')}")
        if self.by_people is not None:
            helped = in_words(self.by_people, "win rate")
            told.append(f"win rate over the reference by people, helped by {self.column}: {helped}. {self.note}")
        return [*told, f"this time: {self.new.in_words()}; the column as a whole: {self.whole.in_words()}"]

    def _what_was_judged(self) -> list[str]:
        count = self.counts
        told = [
            f"{count['judged']:,} of {count['pairs']:,} pairs have a verdict in both orders; {count['equal']:,} more "
            "are equal answers, ties that nobody was asked about"
        ]
        if count["asked_again"]:
            told.append(f"{count['asked_again']:,} of {count['questions']:,} questions were asked again for a verdict")
        if count["without_verdict"]:
            cut = f" ({count['cut']:,} replies were cut: {MORE_TOKENS})" if count["cut"] else ""
            told.append(
                f"{count['without_verdict']:,} of {count['questions']:,} questions got no verdict that can be "
                f"read{cut}; their pairs stay empty"
            )
        if count["refused"]:
            told.append(
                f"{count['refused']:,} questions were refused by the server, their pairs stay empty; the first: "
                f"{self.first_refusal}"
            )
        if len(self.models) > 1:
            told.append(f"the server answered as {', '.join(self.models)}: these verdicts are not of one judge")
        return told


def findings(
    config: "Config",
    column: str,
    table: "pd.DataFrame",
    judged: "pd.DataFrame",
    asking: "Asking",
    prices: tuple[float | None, float | None],
) -> Findings:
    """Measure everything on the judged evaluation ``table`` and its ``judged`` pairs."""
    gate = by_people(config).gate.model_copy(update={"model_judge": column})
    answers = answers_of(table)
    candidate = answers.pop("candidate")
    rates = {name: win_rate_by(other, candidate, column, gate) for name, other in answers.items()}
    powered, _, note = human_win_rate(answers["reference"], candidate, gate)
    answered = list(asking.answered.values())
    replies = [reply for item in answered for reply in item.replies]
    return Findings(
        column,
        _counts(judged, asking),
        next((item.refused for item in answered if item.refused), ""),
        sorted({reply.model for reply in replies}),
        judge_bias(judged, gate.alpha),
        {name: found["win_rate"] for name, found in rates.items() if found},
        powered,
        note,
        cost_of(asking.new, *prices),
        cost_of(replies, *prices),
    )


def why_none(asking: "Asking") -> str:
    """Why no pair has a verdict."""
    answered = list(asking.answered.values())
    refused = next((item.refused for item in answered if item.refused), "")
    replies = [item.replies[-1] for item in answered if item.replies]
    if refused or not replies:
        return refused or "there is nothing to compare"
    cut = sum(reply.cut for reply in replies)
    text = f"{cut:,} of {len(replies):,} replies were cut ({MORE_TOKENS})" if cut else "no reply ends with a verdict"
    return f"{text}; one reply: {replies[0].text[:200]!r}"


def _counts(judged: "pd.DataFrame", asking: "Asking") -> dict[str, int]:
    answered = list(asking.answered.values())
    silent = [item for item in answered if item.verdict is None and not item.refused]
    return {
        "pairs": len(judged),
        "equal": int((~judged["asked"]).sum()),
        "judged": int((judged["asked"] & judged["share"].notna()).sum()),
        "questions": len(answered),
        "asked_again": sum(len(item.replies) > 1 for item in answered),
        "without_verdict": len(silent),
        "cut": sum(item.replies[-1].cut for item in silent),
        "refused": sum(bool(item.refused) for item in answered),
    }
