"""A simulated year of a programme: 52 candidates one after another, each judged once, and what is in use meanwhile.

Every week all systems answer the same prompts anew. A promoted candidate is the next champion; one that is shown better
than the anchor, or the first, is the next anchor too. What decides is the gate itself (kellet/gate/verdict.py) at the
levels of the programme (kellet/gate/programme.py); with ``gate.programme`` false each look stands alone.

Legend: n = prompts; a policy's truth is its mean gain over the reference at equal length, standard deviations.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kellet.config.judgement import Gate
from kellet.errors import ConfigError
from kellet.evaluation.answers import answers_of
from kellet.gate import criteria
from kellet.gate.anchor import against_anchor
from kellet.gate.prices import Normal, saturating
from kellet.gate.programme import PastLook, Programme
from kellet.gate.simulated import Population, Prompts, answers, draw_gain, draw_prompts
from kellet.gate.verdict import decide
from kellet.stats.bootstrap import Estimate, Floats
from kellet.stats.format import percent
from kellet.stats.win_rate import win_rate

WEEKS = 52
WITHIN = (10, 26, 52)
"""After so many looks a year is reported."""
BY_LOOK = (1, 2, 5)
"""The first looks, by which a good candidate should be promoted."""

PLAIN = Population("plain", False, "lengths as the reference's", price=saturating)
HACK = replace(PLAIN, name="hack", truth="1 token more and less spread, which is paid", candidate=Normal(31, 3))

Kind = Callable[[np.random.Generator, float], tuple[Population, float]]
"""(generator, truth of the champion) -> how next week's candidate answers, and its truth."""


class Policy(NamedTuple):
    """What was trained."""

    population: Population
    gain: Floats
    """On each prompt ``(n,)``."""
    truth: float


@dataclass(frozen=True)
class Scenario:
    """What is trained week after week."""

    name: str
    truth: str
    """In words."""
    candidate: Kind
    start: float | None = None
    """Truth of the champion and anchor at the start; None: there is no champion."""
    one_policy: bool = False
    """The first week's policy is judged every week, as a new candidate."""


class History(NamedTuple):
    """One year."""

    promoted: list[tuple[int, float]]
    """Number and truth of each promotion, from look 1."""
    in_use: Floats
    """Truth of the champion after each look ``(52,)``; 0 where there is none, since the reference is in use."""


class Year(NamedTuple):
    """A scenario in many histories."""

    scenario: Scenario
    prompts: int
    histories: int
    false: dict[int, Estimate]
    """By number of looks: share of histories in which a policy without gain was promoted."""
    promoted: dict[int, Estimate]
    """By number of looks: share of histories with any promotion."""
    promotions: float
    """Mean number in the whole year."""
    in_use: dict[int, tuple[float, float]]
    """By number of looks: median and worst truth of what is in use."""
    fallen: float
    """How far what is in use was below the best that had been, at the worst in all histories."""

    def to_dict(self) -> dict[str, Any]:
        """As `kellet gate-power --year --json` prints it."""
        return {
            "name": self.scenario.name,
            "truth": self.scenario.truth,
            "prompts": self.prompts,
            "histories": self.histories,
            "false_promotion_within": {looks: share.to_dict() for looks, share in self.false.items()},
            "promoted_within": {looks: share.to_dict() for looks, share in self.promoted.items()},
            "promotions": self.promotions,
            "in_use": {looks: {"median": pair[0], "worst": pair[1]} for looks, pair in self.in_use.items()},
            "furthest_below_best": self.fallen,
        }


def null(_: np.random.Generator, __: float) -> tuple[Population, float]:
    """No gain."""
    return PLAIN, 0.0


def hack(_: np.random.Generator, __: float) -> tuple[Population, float]:
    """Reward by length alone."""
    return HACK, 0.0


def good(_: np.random.Generator, __: float) -> tuple[Population, float]:
    """Half a standard deviation."""
    return PLAIN, 0.5


def mixed(rng: np.random.Generator, champion: float) -> tuple[Population, float]:
    """Half of the candidates gain nothing, a fifth is a hack, the others are good."""
    kind = (null, hack, good)[rng.choice(3, p=[0.5, 0.2, 0.3])]
    return kind(rng, champion)


def slightly_worse(_: np.random.Generator, champion: float) -> tuple[Population, float]:
    """0.05 standard deviations worse than the champion."""
    return PLAIN, champion - 0.05


def slightly_better(_: np.random.Generator, champion: float) -> tuple[Population, float]:
    """0.1 standard deviations better than the champion."""
    return PLAIN, champion + 0.1


SCENARIOS = (
    Scenario("one null policy", "one policy without gain, judged every week under a new name", null, one_policy=True),
    Scenario("null candidates", "a new policy without gain every week", null),
    Scenario("bad candidates", "a new policy every week whose reward rises by length alone", hack),
    Scenario("good candidates", "a new policy of 0.5 sd every week", good),
    Scenario("mixed candidates", "half without gain, a fifth with reward by length alone, the others of 0.5 sd", mixed),
    Scenario("creep", "each 0.05 sd worse than the champion, which begins at 1.00", slightly_worse, start=1.0),
    Scenario("progress", "each 0.1 sd better than the champion, which begins at 0.50", slightly_better, start=0.5),
)


def chosen(names: Sequence[str]) -> tuple[Scenario, ...]:
    """The scenarios of these names; all of them when none is given. Raises ConfigError for an unknown name."""
    by_name = {scenario.name: scenario for scenario in SCENARIOS}
    for name in names:
        if name not in by_name:
            raise ConfigError(f"no year of {name!r}; there are: {'; '.join(by_name)}")
    return tuple(by_name[name] for name in names) or SCENARIOS


def measure(
    gate: Gate,
    scenarios: Sequence[Scenario],
    sizes: Sequence[int],
    replicates: int,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Year]:
    """Simulate ``replicates`` histories of each scenario and number of prompts, with ``workers`` processes at once.

    The result does not depend on the number of workers.
    """
    years = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for scenario in scenarios:
            for n in sizes:
                job = partial(history, scenario, gate, n)
                seeds = [[seed, n, replicate] for replicate in range(replicates)]
                year = summary(scenario, n, list(map(job, seeds) if workers == 1 else pool.map(job, seeds)))
                progress(f"{scenario.name}, {n} prompts: false promotion {percent(year.false[WEEKS], 1)}")
                years.append(year)
    return years


def history(scenario: Scenario, gate: Gate, n: int, seed: int | Sequence[int]) -> History:
    """Simulate one year."""
    rng = np.random.default_rng(seed)
    asked = draw_prompts(PLAIN, n, rng)
    programme = Programme(rate=gate.programme_level)
    champion = anchor = None if scenario.start is None else _train(PLAIN, scenario.start, asked, rng)
    candidate: Policy | None = None
    promoted, in_use = [], []
    for week in range(1, WEEKS + 1):
        if candidate is None or not scenario.one_policy:
            candidate = _train(*scenario.candidate(rng, champion.truth if champion else 0.0), asked, rng)
        look = (
            programme.next_look(f"week {week}", n * candidate.population.samples, asked.ids) if gate.programme else None
        )
        rows = _evaluation(candidate, champion, anchor, asked, rng)
        at_level = gate if look is None else gate.model_copy(update={"alpha": look.alpha(gate)})
        decision = decide(rows, gate, look=look) if _may_pass(rows, at_level) else None
        if decision is not None and decision.promote:
            promoted.append((week, candidate.truth))
            champion, anchor = candidate, candidate if decision.becomes_anchor else anchor
        in_use.append(champion.truth if champion else 0.0)
        if look is not None:
            verdict = decision.verdict if decision else "inconclusive"
            past = PastLook(look=look, verdict=verdict, evidence=str(week), rows=str(week))
            programme = programme.with_look(past, asked.ids)
    return History(promoted, np.array(in_use))


def summary(scenario: Scenario, n: int, histories: Sequence[History]) -> Year:
    """Count over histories, with Wilson intervals at 95%."""

    def share(looks: int, wrong: bool) -> Estimate:
        happened = [
            any(number <= looks and (truth <= 0 or not wrong) for number, truth in item.promoted) for item in histories
        ]
        return win_rate(np.array(happened), alpha=0.025)

    in_use = np.array([item.in_use for item in histories])
    return Year(
        scenario,
        n,
        len(histories),
        false={looks: share(looks, True) for looks in WITHIN},
        promoted={looks: share(looks, False) for looks in BY_LOOK},
        promotions=float(np.mean([len(item.promoted) for item in histories])),
        in_use={looks: (float(np.median(in_use[:, looks - 1])), float(in_use[:, looks - 1].min())) for looks in WITHIN},
        fallen=float((np.maximum.accumulate(in_use, axis=1) - in_use).max()),
    )


def year_table(years: Sequence[Year]) -> str:
    """Markdown: false promotions, promotions by look, and what is in use, by scenario and number of prompts."""
    heads = (
        "candidates",
        "prompts",
        f"false promotion within {_listed(WITHIN)} looks",
        f"any promotion by look {_listed(BY_LOOK)}",
        "promotions in the year",
        f"gain in use after {_listed(WITHIN)} looks: median (worst)",
        "furthest below the best before",
    )
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for year in years:
        cells = (
            f"**{year.scenario.name}**: {year.scenario.truth}",
            f"{year.prompts}",
            ", ".join(percent(share, 1) for share in year.false.values()),
            ", ".join(f"{share.value:.0%}" for share in year.promoted.values()),
            f"{year.promotions:.1f}",
            ", ".join(f"{median:.2f} ({worst:.2f})" for median, worst in year.in_use.values()),
            f"{year.fallen:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _train(population: Population, truth: float, asked: Prompts, rng: np.random.Generator) -> Policy:
    return Policy(population, draw_gain(population, asked, truth, rng), truth)


def _evaluation(
    candidate: Policy, champion: Policy | None, anchor: Policy | None, asked: Prompts, rng: np.random.Generator
) -> pd.DataFrame:
    """Answers of all systems; an anchor that is the champion answers once."""
    systems = {"candidate": candidate, "champion": champion, "anchor": None if anchor is champion else anchor}
    reference = answers(PLAIN, "reference", asked, np.zeros(len(asked.ids)), rng)
    others = (
        answers(policy.population, system, asked, policy.gain, rng) for system, policy in systems.items() if policy
    )
    return pd.concat([reference, *others], ignore_index=True)


def _may_pass(rows: pd.DataFrame, gate: Gate) -> bool:
    """Whether the gains over the reference and over the anchor are shown, without which nothing is promoted.

    These two are quick, and most looks of a year end here.
    """
    systems = answers_of(rows)
    if not criteria.reward_gain(systems["reference"], systems["candidate"], gate).passed:
        return False
    anchor = against_anchor(systems, gate)
    return anchor is None or anchor.not_behind.passed is True


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))
