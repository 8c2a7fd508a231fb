"""Operating characteristics of the gate: how often it errs on the simulated policies of kellet/gate/populations.py.

Legend: n = prompts. ``alpha`` is one-sided; coverage is of two-sided intervals at nominal 95% (alpha = 0.025).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from typing import Any, NamedTuple

import numpy as np

from kellet.config.judgement import Gate
from kellet.gate.populations import settings
from kellet.gate.simulated import Population, draw, truths
from kellet.gate.verdict import GateDecision, decide
from kellet.stats.bootstrap import Estimate
from kellet.stats.format import percent
from kellet.stats.win_rate import win_rate


class Rate(NamedTuple):
    """How often one population is promoted and blocked at one size, with Wilson intervals at 95%."""

    population: Population
    prompts: int
    replicates: int
    promoted: Estimate
    blocked: Estimate
    held_back: str
    """The criterion that failed to pass most often, with its share of replicates; empty when all always passed."""


class Coverage(NamedTuple):
    """How often the nominal 95% interval of one check holds its true value."""

    population: str
    check: str
    prompts: int
    truth: float
    covered: Estimate


class OperatingCharacteristics(NamedTuple):
    """Verdict rates and interval coverage, from :func:`measure`."""

    rates: list[Rate]
    coverages: list[Coverage]

    def to_dict(self) -> dict[str, Any]:
        """As `kellet gate-power --json` prints it."""
        rates = [
            {
                **rate.population.to_dict(),
                "prompts": rate.prompts,
                "replicates": rate.replicates,
                "promoted": rate.promoted.to_dict(),
                "blocked": rate.blocked.to_dict(),
                "held_back": rate.held_back,
            }
            for rate in self.rates
        ]
        return {
            "verdicts": rates,
            "coverage": [{**row._asdict(), "covered": row.covered.to_dict()} for row in self.coverages],
        }


def measure(
    gate: Gate,
    populations: Sequence[Population],
    sizes: Sequence[int],
    replicates: int,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> OperatingCharacteristics:
    """Draw and decide ``replicates`` evaluations of each population and size, with ``workers`` processes at once.

    The result does not depend on the number of workers. Coverage is measured on the populations with ``coverage``.
    """
    jobs: list[Callable[[], Any]] = [
        partial(job, population, gate, n, replicates, seed)
        for population in populations
        for job in ((verdicts, coverage) if population.coverage else (verdicts,))
        for n in sizes
    ]
    rates: list[Rate] = []
    coverages: list[Coverage] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for result in map(_call, jobs) if workers == 1 else pool.map(_call, jobs):
            if isinstance(result, Rate):
                rates.append(result)
                progress(f"{result.population.name}, {result.prompts} prompts: promoted {percent(result.promoted, 1)}")
            else:
                coverages += result
    return OperatingCharacteristics(rates, coverages)


def verdicts(population: Population, gate: Gate, n: int, replicates: int, seed: int = 0) -> Rate:
    """Count how often the population is promoted and blocked, and which criterion held it back most."""
    counts: Counter[str] = Counter()
    not_passed: Counter[str] = Counter()
    for decision in _decisions(population, gate, n, replicates, seed):
        counts[decision.verdict] += 1
        not_passed.update(item.name for item in decision.criteria if item.counted and item.passed is not True)
    promoted, blocked = (
        win_rate(np.arange(replicates) < counts[verdict], alpha=0.025) for verdict in ("promote", "block")
    )
    held_back = "".join(f"{name} ({count / replicates:.0%})" for name, count in not_passed.most_common(1))
    return Rate(population, n, replicates, promoted, blocked, held_back)


def coverage(population: Population, gate: Gate, n: int, replicates: int, seed: int = 0) -> list[Coverage]:
    """Share of nominal 95% intervals that hold the true value, for each check whose true value is known."""
    true_values = truths(population)
    hits: dict[str, list[bool]] = {name: [] for name in true_values}
    for decision in _decisions(population, gate.model_copy(update={"alpha": 0.025}), n, replicates, seed):
        for name, estimate in _estimates(decision):
            if name in hits:
                hits[name].append(estimate.low <= true_values[name] <= estimate.high)
    return [
        Coverage(population.name, name, n, true_values[name], win_rate(np.array(covered), alpha=0.025))
        for name, covered in hits.items()
        if covered
    ]


def verdict_table(rates: Sequence[Rate]) -> str:
    """Markdown: how often bad and good populations are promoted, by size, with 95% intervals for simulation error."""
    sizes = list(dict.fromkeys(rate.prompts for rate in rates))
    lines: list[str] = []
    for good, title in ((False, "promoted, and should not be"), (True, "promoted, and should be")):
        group = [rate.population for rate in rates if rate.population.good is good and rate.prompts == sizes[0]]
        if group:
            lines += ["", f"| {title} | " + " | ".join(f"{n} prompts" for n in sizes) + " | held back most by |"]
            lines += ["|---" * (len(sizes) + 2) + "|"]
        for population in group:
            row = [rate for rate in rates if rate.population == population]
            cells = " | ".join(percent(rate.promoted, 1) for rate in row)
            lines.append(f"| **{population.name}**: {population.truth} | {cells} | {row[-1].held_back} |")
    return "\n".join(lines[1:])


def coverage_table(rows: Sequence[Coverage]) -> str:
    """Markdown: percentage of nominal 95% intervals that hold the true value, by check, population and size."""
    sizes = list(dict.fromkeys(row.prompts for row in rows))
    by_line: dict[tuple[str, str], dict[int, Coverage]] = {}
    for row in rows:
        by_line.setdefault((row.check, row.population), {})[row.prompts] = row
    lines = [f"| interval of | population | truth | {' | '.join(f'{n} prompts' for n in sizes)} |"]
    lines += ["|---" * (len(sizes) + 3) + "|"]
    for (check, population), by_size in sorted(by_line.items()):
        cells = [f"{100 * by_size[n].covered.value:.1f}%" if n in by_size else "" for n in sizes]
        truth = next(iter(by_size.values())).truth
        lines.append(f"| {check.replace('_', ' ')} | {population} | {truth:.3g} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _call(job: Callable[[], Any]) -> Any:
    return job()


def _decisions(population: Population, gate: Gate, n: int, replicates: int, seed: int) -> Iterator[GateDecision]:
    adjusted = settings(population, gate)
    for replicate in range(replicates):
        yield decide(draw(population, n, [seed, n, replicate]), adjusted)


def _estimates(decision: GateDecision) -> Iterator[tuple[str, Estimate]]:
    for criterion in decision.criteria:
        for check in criterion.checks:
            if check.estimate is not None:
                yield check.name, check.estimate
    if decision.length.decomposition is not None:
        yield "explained by length", decision.length.decomposition.explained
