"""How often the diagnosis is right on runs whose causes are known: precision and recall of each hypothesis.

    PYTHONPATH=. python benchmarks/diagnosis.py --runs 10 --mixed 300

For each of the thirteen hypotheses ``--runs`` runs in which its cause is planted alone and strong, and as many runs
with nothing to explain. A planted cause may make other hypotheses true as well (a KL of 20 nats is a drift for all of
them); what is true follows from the run's parameters (tests/helpers/simulated_runs.py). ``--mixed`` runs have many
causes at once, most of them weak, on both sides of every threshold. Recall: share supported of those true. Precision:
share true of those supported.
"""

import argparse
from collections import Counter
from collections.abc import Iterable

from kellet.diagnosis.diagnose import diagnose
from tests.helpers.simulated_runs import PRESENT, Causes, mixed, planted, simulate, truth

VERDICTS = ("supported", "not supported", "cannot tell")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="runs for each cause, and without a cause")
    parser.add_argument("--mixed", type=int, default=100, help="runs with many causes at once")
    given = parser.parse_args()
    names = [*PRESENT, "none"]
    alone = [
        (Causes() if name == "none" else planted(name, seed), seed)
        for number, name in enumerate(names)
        for seed in range(1000 * number, 1000 * number + given.runs)
    ]
    table(f"{len(alone)} runs, {given.runs} for each strong cause alone and {given.runs} without one", alone)
    table(f"{given.mixed} runs with many causes at once", [(mixed(seed), seed) for seed in range(given.mixed)])


def table(title: str, runs: Iterable[tuple[Causes, int]]) -> None:
    """Print how often each hypothesis is true and which verdicts it gets."""
    counts: Counter[tuple[str, bool, str]] = Counter()
    for causes, seed in runs:
        true = truth(causes)
        for item in diagnose(simulate(causes, seed)).hypotheses:
            counts[item.id, true[item.id], item.verdict] += 1
    print(f"\n{title}\n")
    print("| | true in | supported (recall) | cannot tell | not supported | false in | called supported | precision |")
    print("|---|---|---|---|---|---|---|---|")
    totals: Counter[tuple[bool, str]] = Counter()
    for id_ in PRESENT:
        cells = {(is_true, verdict): counts[id_, is_true, verdict] for is_true in (True, False) for verdict in VERDICTS}
        totals.update(cells)
        print(f"| {id_} | {row(cells)} |")
    print(f"| all | {row(totals)} |", flush=True)


def row(counts: dict[tuple[bool, str], int]) -> str:
    """One line of the table."""
    true, false = (sum(counts[is_true, verdict] for verdict in VERDICTS) for is_true in (True, False))
    right, wrong = counts[True, "supported"], counts[False, "supported"]
    cells = [
        str(true),
        *(share(counts[True, verdict], true) for verdict in ("supported", "cannot tell", "not supported")),
    ]
    return " | ".join([*cells, str(false), share(wrong, false), share(right, right + wrong)])


def share(part: int, whole: int) -> str:
    """A share in percent; a dash where the whole is zero."""
    return f"{100 * part / whole:.0f}%" if whole else "–"


if __name__ == "__main__":
    main()
