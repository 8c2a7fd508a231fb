"""Many looks: at which level each candidate of a programme is judged, so that the promise holds for all of them.

A retraining every week asks the gate fifty times a year. At the same level each time, a policy without any gain is
promoted sooner or later. LORD++ controls the false discovery rate over the sequence of looks: of the promotions, at
most a share ``level`` is expected to be wrong. It starts with a wealth w0, spends some on each look, and a promotion
earns new wealth. Before the first promotion all levels together are at most w0, so a team whose candidates gain nothing
sees a promotion in its whole history with probability at most w0, however dependent the looks are.

    level_t = γ_t·w0 + (α - w0)·γ_{t - τ1} + α·Σ_{j ≥ 2} γ_{t - τj}

α is the false discovery rate, t the number of the look, τ1 < τ2 < … the numbers of the looks that promoted, and γ a
sequence that sums to 1.
Sources: Ramdas, Yang, Wainwright and Jordan, Online control of the false discovery rate with decaying memory (2017),
section 3.1; Javanmard and Montanari, Online rules for control of false discovery rate and exceedance (2018). The proof
needs each look to be a valid test given those before it; looks that share prompts are not quite that, which is why
their reuse is counted and told. The bound before the first promotion does not need it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import zeta

from kellet.config.judgement import Gate
from kellet.evaluation.file import prompt_id

EXPONENT = 1.6
"""γ_t falls as t^-1.6, as in Ramdas, Zrnic, Wainwright and Jordan, SAFFRON (2018). The first 52 looks are given 93% of
w0; Javanmard and Montanari's sequence, made for thousands of tests, gives them 18%, and the first look a level of
0.0027 in place of 0.022."""


def spending(t: int) -> float:
    """γ_t, the share of the wealth that look t = 1, 2, … is given: t^-1.6/ζ(1.6)."""
    return float(t**-EXPONENT / zeta(EXPONENT))


def lord_level(t: int, promoted: Sequence[int], rate: float, w0: float) -> float:
    """LORD++: the level of look ``t`` after promotions at the looks ``promoted``, all below t and rising."""
    level = w0 * spending(t)
    if promoted:
        level += (rate - w0) * spending(t - promoted[0])
    return level + rate * sum(spending(t - look) for look in promoted[1:])


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Look(_Record):
    """One look at one candidate, before it is decided."""

    number: int = Field(ge=1)
    """Which look of the programme this is, from 1."""
    candidate: str
    level: float = Field(gt=0, lt=1)
    """The one-sided level that LORD++ gives this look."""
    spent: float
    """Levels of all looks so far, this one included."""
    rate: float
    """The false discovery rate that the programme promises."""
    promoted_before: int
    """Candidates promoted so far."""
    judged_before: int
    """Looks so far at this candidate."""
    answers: int
    """The candidate's answers that this look judges, those of its earlier looks included."""
    prompts: int
    """Prompts of these answers; equal texts are one."""
    decided_before: int
    """Prompts that an earlier look has decided on, whoever the candidate was."""
    most_often: int
    """How often the most used of them has decided before."""

    def alpha(self, gate: Gate) -> float:
        """The level that the gate tests each check at."""
        return min(gate.alpha, self.level)

    @property
    def sentence(self) -> str:
        """What a reader of the verdict should know of it."""
        reused = f"{self.decided_before:,} of {self.prompts:,} prompts have decided before"
        if self.decided_before:
            reused += f" (at most {_times(self.most_often)})"
        judged = "" if not self.judged_before else f" for the {_ordinal(self.judged_before + 1)} time"
        return (
            f"Look {self.number} of this programme, level {self.level:.2g} ({self.spent:.2g} spent), candidate "
            f"{self.candidate} judged{judged} on {self.answers:,} answers, {reused}."
        )


class PastLook(_Record):
    """A look that was decided."""

    look: Look
    verdict: Literal["promote", "block", "inconclusive"]
    evidence: str
    """Hash of everything it was decided from; the same evidence again is the same look."""
    rows: str
    """Hash of the rows that this look added to the candidate's answers."""


class Programme(_Record):
    """All looks so far at the candidates of one registered model, or of one state file."""

    rate: float = Field(default=0.1, gt=0, lt=1)
    """False discovery rate over all looks; the wealth at the start, w0, is half of it."""
    looks: tuple[PastLook, ...] = ()
    """By rising number."""
    prompts: Mapping[str, int] = {}
    """How many looks each prompt has decided, by the hash of its text (kellet/evaluation/file.py, prompt_id)."""

    @property
    def promoted(self) -> tuple[int, ...]:
        """The numbers of the looks that promoted a candidate for the first time: only these earn wealth."""
        first: dict[str, int] = {}
        for past in self.looks:
            if past.verdict == "promote":
                first.setdefault(past.look.candidate, past.look.number)
        return tuple(first.values())

    @property
    def next_number(self) -> int:
        """The number of the next look. A look that was lost keeps its number."""
        return max((past.look.number for past in self.looks), default=0) + 1

    def of(self, candidate: str) -> tuple[PastLook, ...]:
        """The looks so far at a candidate."""
        return tuple(past for past in self.looks if past.look.candidate == candidate)

    def promoted_since(self, number: int) -> bool:
        """Whether this look or a later one promoted: the champion may then be another than it was compared with."""
        return any(past.verdict == "promote" and past.look.number >= number for past in self.looks)

    def next_look(self, candidate: str, answers: int, prompts: Iterable[str]) -> Look:
        """The next look, at so many answers of a candidate to prompts with these hashes."""
        number, asked = self.next_number, set(prompts)
        level = lord_level(number, self.promoted, self.rate, self.rate / 2)
        used = [self.prompts[prompt] for prompt in asked if prompt in self.prompts]
        return Look(
            number=number,
            candidate=candidate,
            level=level,
            spent=sum(past.look.level for past in self.looks) + level,
            rate=self.rate,
            promoted_before=len(self.promoted),
            judged_before=len(self.of(candidate)),
            answers=answers,
            prompts=len(asked),
            decided_before=len(used),
            most_often=max(used, default=0),
        )

    def with_look(self, past: PastLook, prompts: Iterable[str]) -> "Programme":
        """The programme after a look at these prompts was decided."""
        used = {prompt: self.prompts.get(prompt, 0) + 1 for prompt in prompts}
        return self.model_copy(update={"looks": (*self.looks, past), "prompts": {**self.prompts, **used}})


def counted(rows: pd.DataFrame) -> tuple[int, list[str]]:
    """How many different answers the candidate has in checked rows, and the hashes of the prompts' texts."""
    answers = rows.loc[rows["system"] == "candidate", ["prompt", "sample", "response"]].drop_duplicates()
    return len(answers), [prompt_id(prompt) for prompt in rows["prompt"].unique()]


def as_dict(look: Look | None, gate: Gate) -> dict[str, Any]:
    """The part ``programme`` of gate.json; without a ``look`` it says that the verdict stands alone, and why."""
    if look is None:
        why = "no programme was given" if gate.programme else "gate.programme is false"
        sentence = f"This look stands alone ({why}): repeated looks are not accounted for, nor repeated prompts."
        return {"active": False, "why": why, "alpha": gate.alpha, "sentence": sentence}
    shown = {"level", "rate", "spent", "candidate", "promoted_before", "judged_before", "answers"}
    fields = look.model_dump(include=shown)
    used = {"asked": look.prompts, "decided_before": look.decided_before, "most_often": look.most_often}
    alpha = {"alpha": look.alpha(gate), "gate_alpha": gate.alpha}
    return {"active": True, "look": look.number, **fields, **alpha, "prompts": used, "sentence": look.sentence}


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _ordinal(number: int) -> str:
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else last}"
