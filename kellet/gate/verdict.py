"""The promotion gate: three verdicts from an evaluation file, by an intersection-union test that fails closed.

Each criterion is tested at level alpha and all must pass, so a policy that violates any one of them is promoted with
probability at most alpha (Berger 1982); no correction for the number of criteria is needed.

    promote       every counted criterion is shown to hold
    block         a counted criterion is shown to be violated, or the candidate is shown to be worse than the champion,
                  or more than a margin behind the anchor (kellet/gate/anchor.py)
    inconclusive  neither: something is not shown, missing, or not identified

A criterion is counted when it is required, or when its input is given (columns of the evaluation, a card).
In a programme of many looks alpha is at most the level of the look (kellet/gate/programme.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from kellet.config.judgement import Gate
from kellet.evaluation.answers import answers_of, win_rate_by
from kellet.evaluation.file import DRAW, check_evaluation, evaluation_hash
from kellet.files import write_json
from kellet.gate import criteria, degeneration, programme
from kellet.gate import style_shift as styles
from kellet.gate.anchor import AnchorComparison, against_anchor
from kellet.gate.champion import ChampionComparison, against_champion
from kellet.gate.checks import Criterion
from kellet.gate.judge import independent_judge
from kellet.gate.length_evidence import LengthEvidence, length_evidence
from kellet.gate.programme import Look
from kellet.stats.bootstrap import Estimate
from kellet.stats.format import in_words, number

Verdict = Literal["promote", "block", "inconclusive"]


@dataclass(frozen=True)
class GateDecision:
    """The verdict and everything it was decided from."""

    verdict: Verdict
    headline: str
    criteria: tuple[Criterion, ...]
    comparison_with_champion: ChampionComparison | None
    comparison_with_anchor: AnchorComparison | None
    judges: Mapping[str, Mapping[str, Estimate]]
    """By judge column: win_rate and mean_gain over the reference. Information; only ``gate.judge`` has a criterion."""
    length: LengthEvidence
    """How much of the gain is length, and what length alone would give. Information."""
    style: styles.StyleShift
    """The shift on each style axis and what the reward pays for it."""
    inputs: Mapping[str, Any]
    programme: Mapping[str, Any]
    """Which look of a programme this is, or that it stands alone (kellet/gate/programme.py, as_dict)."""
    config: Gate
    """With the level that was tested at as ``alpha``."""

    @property
    def promote(self) -> bool:
        """Whether the candidate may replace the champion."""
        return self.verdict == "promote"

    @property
    def becomes_anchor(self) -> bool:
        """Whether a promoted candidate is the next anchor: it is shown better than the one so far, or there is none."""
        anchor = self.comparison_with_anchor
        return self.promote and (anchor is None or anchor.shown_better.passed is True)

    def criterion(self, name: str) -> Criterion:
        """Look a criterion up by name; KeyError when there is none."""
        return {item.name: item for item in self.criteria}[name]

    def to_dict(self) -> dict[str, Any]:
        """As gate.json has it."""
        versus, anchor = self.comparison_with_champion, self.comparison_with_anchor
        return {
            "promote": self.promote,
            "verdict": self.verdict,
            "headline": self.headline,
            "criteria": [item.to_dict() for item in self.criteria],
            "comparison_with_champion": versus.to_dict() if versus else None,
            "comparison_with_anchor": anchor.to_dict() if anchor else None,
            "becomes_anchor": self.becomes_anchor,
            "judges": {
                judge: {name: estimate.to_dict() for name, estimate in estimates.items()}
                for judge, estimates in self.judges.items()
            },
            "length": self.length.to_dict(),
            "style": self.style.to_dict(),
            "inputs": dict(self.inputs),
            "programme": dict(self.programme),
            "config": self.config.model_dump(mode="json"),
        }

    def write(self, path: Path) -> None:
        """Write gate.json atomically."""
        write_json(path, self.to_dict())


def decide(
    evaluation: pd.DataFrame,
    gate: Gate,
    inputs: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    look: Look | None = None,
) -> GateDecision:
    """Decide on the rows of an evaluation file (kellet/evaluation/file.py); the order of the rows does not matter.

    ``inputs`` is kept with the decision beside the hash of the rows: hashes of the data, the models, the commit.
    ``card`` is the reward model's card.json, whose lift over length the criterion reward_trust reads.
    ``look``: which look of a programme this is. None: the verdict stands alone, and says so.
    Raises DataError when the rows break the contract.
    """
    programme_facts, nominal = programme.as_dict(look, gate), gate
    if look is not None:
        gate = gate.model_copy(update={"alpha": look.alpha(gate)})
    rows = check_evaluation(evaluation)
    answers = answers_of(rows)
    candidate, reference = answers["candidate"], answers["reference"]
    equal = criteria.equal_length(reference, candidate, reference, gate, curve=True)
    style = styles.style_shift(reference, candidate, gate)
    decided = (
        criteria.reward_gain(reference, candidate, gate),
        criteria.length_inflation(reference, candidate, gate),
        criteria.controlled_gain(equal, gate),
        criteria.kl_budget(candidate, gate),
        criteria.kl_price(reference, candidate, gate),
        independent_judge(reference, candidate, gate, nominal),
        criteria.reward_trust(reference, candidate, gate, card),
        degeneration.degeneration(reference, candidate, gate),
        styles.criterion(style, "" if equal.model.identified else equal.model.reason, gate),
    )
    # A smaller level makes a promotion harder; what speaks against one counts at the level that was asked for.
    versus = against_champion(answers, nominal) if "champion" in answers else None
    anchor = against_anchor(answers, gate)
    verdict = _verdict(decided, versus, anchor)
    facts = {
        **(inputs or {}),
        "evaluation_rows_sha256": evaluation_hash(rows),
        "rows": len(rows),
        "prompts": _prompts(rows),
        **({} if candidate.group is None else {"clusters": len(np.unique(candidate.group))}),
        "systems": sorted(answers),
    }
    by_judge = {name: win_rate_by(reference, candidate, name, gate) for name in candidate.judges}
    judges = {name: estimates for name, estimates in by_judge.items() if estimates}
    headline = _headline(verdict, decided, versus, anchor, gate)
    length = length_evidence(reference, candidate, equal, gate)
    return GateDecision(verdict, headline, decided, versus, anchor, judges, length, style, facts, programme_facts, gate)


def _prompts(rows: pd.DataFrame) -> int:
    """How many there are; one that was answered anew counts once."""
    return int((rows[rows[DRAW] == 1] if DRAW in rows else rows)["prompt_id"].nunique())


def _verdict(
    decided: tuple[Criterion, ...], versus: ChampionComparison | None, anchor: AnchorComparison | None
) -> Verdict:
    values = [item.passed for item in decided if item.counted]
    values += [anchor.not_behind.passed] if anchor else []
    if False in values or (versus is not None and versus.shown_worse):
        return "block"
    return "inconclusive" if None in values else "promote"


def _headline(
    verdict: Verdict,
    decided: tuple[Criterion, ...],
    versus: ChampionComparison | None,
    anchor: AnchorComparison | None,
    gate: Gate,
) -> str:
    """Summarise the decision in one sentence with numbers."""
    by_name = {item.name: item for item in decided}
    story = _story(by_name, gate)
    if verdict == "promote":
        absent = [item.name for item in decided if not item.counted]
        if absent:
            return f"{story}; every counted criterion is shown to hold; not judged: {', '.join(absent)}"
        return f"{story}; every criterion is shown to hold"
    if verdict == "block":
        return "; ".join([story, *_objections(decided, versus, anchor)])
    not_shown = [item for item in decided if item.counted and item.passed is None]
    names, checks = [item.name for item in not_shown], [check for item in not_shown for check in item.checks]
    if anchor is not None and anchor.not_behind.passed is None:
        names, checks = [*names, "comparison_with_anchor"], [*checks, anchor.not_behind]
    needed = [check.needed_prompts for check in checks if check.passed is None]
    counts = [count for count in needed if count]
    words = f"{story}; not shown either way: {', '.join(names)}"
    if counts:
        words += f" (about {max(counts):,} prompts would decide)"
    if len(counts) < len(needed) or not needed:
        words += "; something needed is missing or not identified, which more prompts alone do not mend"
    return words


def _story(by_name: Mapping[str, Criterion], gate: Gate) -> str:
    """Reward, length and KL in one clause: a gain that comes with a blow-up of length is what the gate looks for."""
    gain = by_name["reward_gain"].checks[0].estimate
    ratio = by_name["length_inflation"].checks[0].estimate
    both_rose = by_name["reward_gain"].passed is True and by_name["length_inflation"].passed is False
    words = _moved("reward", gain, 0.0) + (" while " if both_rose else ", ") + _moved("length", ratio, 1.0)
    average = next((check.estimate for check in by_name["kl_budget"].checks if check.name == "mean_kl"), None)
    if average is None:
        return words + ", KL unknown"
    verb = "reached" if average.low > gate.kl_budget else "was"
    return f"{words}{' and' if both_rose else ','} KL {verb} {_short(average, 1.0)} nats (budget {gate.kl_budget:g})"


def _moved(what: str, estimate: Estimate | None, unchanged: float) -> str:
    """'reward rose 0.8 [0.7, 0.9]', 'length fell 3% [1, 5]', 'length changed by 1% [-2, 4]'."""
    if estimate is None:
        return f"{what} cannot be compared"
    change = Estimate(
        estimate.value - unchanged, estimate.low - unchanged, estimate.high - unchanged, estimate.clusters
    )
    scale, sign = (100.0, "%") if what == "length" else (1.0, "")
    if change.high < 0:
        fall = Estimate(-change.value, -change.high, -change.low, change.clusters)
        return f"{what} fell {_short(fall, scale, sign)}"
    verb = "rose" if change.low > 0 else "changed by"
    return f"{what} {verb} {_short(change, scale, sign)}"


def _short(estimate: Estimate, scale: float, sign: str = "") -> str:
    values = [scale * value for value in (estimate.value, estimate.low, estimate.high)]
    size = max(abs(value) for value in values)
    digits = (0 if size >= 2 else 1) if scale > 1 else (1 if size >= 10 else 2)
    if not 0.1 <= size < 1e5 and scale == 1.0 and size > 0:  # rewards may be of any size
        value, low, high = (f"{item:.2g}" for item in values)
    else:
        value, low, high = (f"{round(item, digits) + 0.0:.{digits}f}" for item in values)  # + 0.0: no minus zero
    return f"{value}{sign} [{low}, {high}]"


def _objections(
    decided: tuple[Criterion, ...], versus: ChampionComparison | None, anchor: AnchorComparison | None
) -> list[str]:
    """List the checks that are shown violated, except those that :func:`_story` already has."""
    in_story = {"mean_gain", "length_ratio", "mean_kl"}
    checks = [check for item in decided if item.counted for check in item.checks if check.passed is False]
    if versus is not None:
        checks += [check for check in versus.checks if versus.shown_worse and check.passed is False]
    if anchor is not None and anchor.not_behind.passed is False:
        checks.append(anchor.not_behind)
    names = [item.name for item in decided if item.counted and item.passed is False]
    words = [
        f"{check.name.replace('_', ' ')} {in_words(check.estimate, check.unit)} "
        f"(wanted {check.direction} {number(check.threshold, check.unit)})"
        for check in checks
        if check.estimate is not None and check.name not in in_story
    ]
    if versus is not None and versus.shown_worse:
        names.append("comparison_with_champion")
    if anchor is not None and anchor.not_behind.passed is False:
        names.append("comparison_with_anchor")
    return [*words, f"violated: {', '.join(names)}"]
