"""Level, change and growth of a time series, with intervals that respect its autocorrelation.

Iterations of one run depend on each other: the noise of neighbours is alike, and the policy drifts. An interval that
counts 30 iterations as 30 independent draws is far too short. Here level and trend are coefficients of the first two of
a sequence of orthonormal polynomials q_0, q_1, ... over the iterations, and the scatter of the next few coefficients is
the measure of their uncertainty:

    level    b = q_0·y / √T,              ω = mean of (q_j·y)² over j = 1 .. B
    change   b = q_1·y · (span of q_1),   ω = mean of (q_j·y)² over j = 2 .. B + 1
    interval b ± t_B·√ω · (the same factor),  B = 0.4·T^(2/3)

The low polynomials are affected by slow noise just as the coefficient is, so ω estimates the long-run variance, and
Student's t has only B degrees of freedom. For independent Gaussian noise it is exact. Sources: Sun 2011, Robust trend
inference with series variance estimator; Lazarus, Lewis, Stock and Watson 2018, HAR Inference (the rule for B). For its
coverage in runs of 10, 30 and 100 iterations see docs/measured/diagnosis.md. The interval is about this run's own
course, not about what another seed would do.

Legend: T iterations. ``alpha`` is one-sided, as everywhere (kellet/stats/bootstrap.py); ``clusters`` counts iterations.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.polynomial.legendre import legvander
from scipy.stats import t as student

from kellet.stats.bootstrap import Estimate, Floats

MIN_ITERATIONS = 9
"""A shorter history is not judged: a third of it would be fewer than three iterations."""
MIN_PRESENT = 0.75
"""A metric that fewer than this share of the iterations have is not read."""
LATE = 1 / 3
"""'Late' is this last share of the run."""

Row = Mapping[str, float | None]


def series(history: Sequence[Row], *names: str) -> list[Floats] | None:
    """Values ``(T,)`` of each named metric over the iterations that have all of them.

    None when these are fewer than MIN_ITERATIONS, or fewer than MIN_PRESENT of the history.
    """
    rows = [[row.get(name) for name in names] for row in history]
    kept = [[value for value in row if value is not None] for row in rows if None not in row]
    if len(kept) < max(MIN_ITERATIONS, MIN_PRESENT * len(history)):
        return None
    return list(np.array(kept, dtype=np.float64).T)


def late(values: Floats) -> Floats:
    """The last third."""
    return values[-math.ceil(LATE * len(values)) :]


def level(values: Floats, alpha: float = 0.05) -> Estimate:
    """Mean over the iterations ``(T,)`` given; a trend among them widens the interval."""
    return _coefficient(values, 0, alpha)


def change(values: Floats, alpha: float = 0.05) -> Estimate:
    """Fitted change from the first iteration to the last: the slope of a straight line, times T - 1."""
    return _coefficient(values, 1, alpha)


def growth(values: Floats, alpha: float = 0.05) -> Estimate:
    """Fitted factor from the first iteration to the last, of positive values: exp of the change of the logarithm.

    NaN with an infinite interval when a value is not positive.
    """
    if (values <= 0).any():
        return Estimate(math.nan, -math.inf, math.inf, len(values))
    log = change(np.log(values), alpha)
    with np.errstate(over="ignore"):
        value, low, high = np.exp([log.value, log.low, log.high])
    return Estimate(float(value), float(low), float(high), len(values))


def _coefficient(y: Floats, degree: int, alpha: float) -> Estimate:
    """The coefficient b of q_0 (``degree`` 0) or q_1 (1), by the formulas at the top of this module."""
    size = len(y)
    scatter = min(max(2, round(0.4 * size ** (2 / 3))), size - degree - 1)  # B
    if scatter < 1:
        return Estimate(float(y.mean()) if degree == 0 else math.nan, -math.inf, math.inf, size)
    q = np.linalg.qr(legvander(np.linspace(-1, 1, size), degree + scatter))[0]
    projected = q.T @ y
    factor = float(q[-1, degree] - q[0, degree]) if degree else float(q[0, 0])
    value = float(projected[degree]) * factor
    omega = float((projected[degree + 1 :] ** 2).mean())
    half = float(student.ppf(1 - alpha, scatter)) * math.sqrt(omega) * abs(factor)
    return Estimate(value, value - half, value + half, size)
