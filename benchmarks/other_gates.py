"""How often two other release gates promote the simulated policies of the gate (docs/measured/gate.md).

    pip install statgate evalsig
    PYTHONPATH=. python benchmarks/other_gates.py

Both ask one question about one score, here the reward: what is its mean difference over the prompts? Neither claims to
look at length, KL, style or judges.

    statgate   promotes (SHIP) when the 95% BCa bootstrap interval of the difference lies above minus its ``margin``:
               not worse, rather than better. Gets every answer; it takes the mean of the answers to a prompt itself.
    evalsig    promotes (ALLOW) when a one-sided test of the difference has p < 0.05 and the difference is at least
               ``min_delta``: sign flips, or a bootstrap of clusters where items have one. Gets the mean reward of each
               prompt, because it would use only the first of several answers, and the column ``cluster`` where the
               evaluation has it.

Every setting is the package's default, except statgate's seed. evalsig's function has no default for ``min_delta``;
0.005 is that of its pytest plugin and of the examples in its documentation. ``margin`` and ``min_delta`` are in units
of the reward. The policies are those of kellet/gate/populations.py, the evaluations those that `kellet gate-power`
draws.
"""

import argparse
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec

import numpy as np
import pandas as pd

from kellet.config.judgement import Gate
from kellet.gate.populations import chosen, settings
from kellet.gate.simulated import Population, draw
from kellet.gate.verdict import decide
from kellet.stats.format import percent
from kellet.stats.win_rate import win_rate

PACKAGES = ("statgate", "evalsig")
MIN_DELTA = 0.005


def statgate_ships(evaluation: pd.DataFrame, _: Population) -> bool:
    """Whether statgate ships the candidate."""
    from statgate import EvalRecord, GateSettings, Verdict, evaluate_gate

    records = {
        system: [
            EvalRecord(case_id=prompt, score=reward, run_index=sample)
            for prompt, reward, sample in zip(rows["prompt_id"], rows["reward"], rows["sample"], strict=True)
        ]
        for system, rows in evaluation.groupby("system")
    }
    return evaluate_gate(records["reference"], records["candidate"], GateSettings(seed=0)).verdict is Verdict.SHIP


def evalsig_allows(evaluation: pd.DataFrame, _: Population) -> bool:
    """Whether evalsig allows the candidate."""
    from evalsig import GateVerdict, ItemResult, RunFrame, gate

    cluster = "cluster" if "cluster" in evaluation else None
    topics = dict(zip(evaluation["prompt_id"], evaluation[cluster], strict=True)) if cluster else {}
    runs = {}
    for system, rows in evaluation.groupby("system"):
        means = rows.groupby("prompt_id")["reward"].mean()
        items = [ItemResult(prompt, reward, topics.get(prompt)) for prompt, reward in means.items()]
        runs[system] = RunFrame(system, system, "simulated", "reward", items)
    report = gate(runs["reference"], runs["candidate"], min_delta=MIN_DELTA, cluster=cluster)
    return report.verdict is GateVerdict.ALLOW


def kellet_promotes(evaluation: pd.DataFrame, population: Population) -> bool:
    """Whether Kellet promotes the candidate, by the parameters that the population's team has set."""
    return decide(evaluation, settings(population, Gate())).promote


def main() -> None:
    """Print a table of the share of evaluations in which each gate promotes, with 95% intervals of the simulation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replicates", type=int, default=200, help="evaluations drawn of each population")
    parser.add_argument("--prompts", type=int, default=256)
    parser.add_argument("--population", nargs="+", default=[], help="only these")
    parser.add_argument("--kellet", action="store_true", help="Kellet's gate too, on the same evaluations")
    given = parser.parse_args()
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        parser.exit(2, f"not installed: {', '.join(missing)}; install with: pip install {' '.join(missing)}\n")
    gates: dict[str, Callable[[pd.DataFrame, Population], bool]] = {
        f"statgate {version('statgate')}": statgate_ships,
        f"evalsig {version('evalsig')}": evalsig_allows,
    }
    if given.kellet:
        gates["Kellet"] = kellet_promotes
    print(f"| policy | should be promoted | {' | '.join(gates)} |")
    print("|---|---|" + "---|" * len(gates))
    for population in chosen(given.population):
        seeds = [[0, given.prompts, replicate] for replicate in range(given.replicates)]
        promoted = np.array(
            [
                [promotes(evaluation, population) for promotes in gates.values()]
                for evaluation in (draw(population, given.prompts, seed) for seed in seeds)
            ]
        )
        shares = [percent(win_rate(column, alpha=0.025)) for column in promoted.T]
        should = "yes" if population.good else "no"
        print(f"| **{population.name}**: {population.truth} | {should} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
