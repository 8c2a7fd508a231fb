"""How often 90% intervals of a rare count hold the true value, and how wide they become (docs/measured/gate.md).

    PYTHONPATH=. python benchmarks/rare_counts.py

A prompt has one answer of each system; counts are Poisson. ``former`` is the bootstrap-t whose vanishing standard
errors were held at a thousandth of the sample's; ``bootstrap`` is kellet.stats.bootstrap.mean, and ``counts`` what the
gate's style axes have, kellet.stats.shares.count_difference.
"""

import argparse

import numpy as np

from kellet.stats.bootstrap import Estimate, Floats, mean
from kellet.stats.resampling import resampled_means
from kellet.stats.shares import count_difference

RATES = ((0.01, 0.01), (0.03, 0.03), (0.1, 0.1), (0.01, 0.0), (0.03, 0.0), (0.1, 0.0), (1.0, 1.0))
"""Mean counts of an answer: candidate, reference."""


def former(values: Floats, *, alpha: float, resamples: int, seed: int) -> Estimate:
    """Bootstrap-t of a mean with se* held at se/1000."""
    n, rows = len(values), values - values.mean()
    se = float(rows.std() / np.sqrt(n))
    if se == 0:
        return Estimate(values.mean(), values.mean(), values.mean(), n)
    (means,) = resampled_means(np.column_stack([rows, rows**2]), resamples, seed)
    spreads = np.sqrt(np.maximum(means[:, 1] - means[:, 0] ** 2, 0) / n)
    low, high = np.quantile(means[:, 0] / np.maximum(spreads, 1e-3 * se), [alpha, 1 - alpha])
    se *= np.sqrt(n / (n - 1))
    return Estimate(values.mean(), values.mean() - high * se, values.mean() - low * se, n)


def main() -> None:
    """Print a table of coverage, and of the mean and the largest width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=2000)
    parser.add_argument("--prompts", type=int, nargs="+", default=[64, 256])
    given = parser.parse_args()
    methods = {"former": former, "bootstrap": mean, "counts": count_difference}
    print("| candidate, reference | prompts | " + " | ".join(f"{name}: holds, longest" for name in methods) + " |")
    print("|---|---|" + "---|" * len(methods))
    for candidate, reference in RATES:
        for n in given.prompts:
            rng = np.random.default_rng([n, round(1000 * candidate), round(1000 * reference)])
            drawn = rng.poisson(candidate, (given.replicates, n)) - rng.poisson(reference, (given.replicates, n))
            cells = []
            for method in methods.values():
                intervals = [method(row.astype(float), alpha=0.05, resamples=1000, seed=0) for row in drawn]
                ends = np.array([(one.low, one.high) for one in intervals])
                truth = candidate - reference
                held = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
                cells.append(f"{100 * held:.1f}%, {np.diff(ends).max():.2g}")
            print(f"| {candidate:g}, {reference:g} | {n} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
