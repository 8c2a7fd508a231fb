"""Level, change, growth and trend of a time series, with intervals that respect its autocorrelation.

Iterations of one run depend on each other: the noise of neighbours is alike, and the policy drifts. An interval that
counts 30 iterations as 30 independent draws is far too short. Here a figure is a weighted sum of the iterations, and
its uncertainty is measured by a sequence of orthonormal polynomials q_0, q_1, ... over them:

    level    c·y, c = 1/T everywhere                                 d = 0
    change   c·y, c = 1/m in the last m, less a line at the first k  d = 3 (2 below 20 iterations)
    trend    c·y, c = q_1·(span of q_1): a straight line, times T-1  d = 1
    interval c·y ± t_B·√ω·|c|,  ω = mean of (q_j·y)² over j = d + 1 .. d + B,  B = 0.4·T^(2/3)

The low polynomials are affected by slow noise just as the figure is, so ω estimates the long-run variance, and
Student's t has only B degrees of freedom. Polynomials up to degree d are what the curve itself may be; they do not
count as noise. What of a curve is rougher than that (a step, a sharp bend) widens the interval and never shortens it.
Sources: Sun 2011, Robust trend inference with series variance estimator; Lazarus, Lewis, Stock and Watson 2018, HAR
Inference (the rule for B). For coverage in runs of 10, 30 and 100 iterations see docs/measured/diagnosis.md. The
interval is about this run's own course, not about what another seed would do.

The size of a rise is ``change``: late level minus level at the start, whatever the course between; a straight line
through all iterations halves a rise that saturates early. Late is the mean of the last third. The level at the start is
that of a line through the first k = 0.3·T^(4/5) iterations, at least 3, at the first of them: their mean would have the
best part of such a rise in it already (Fan and Gijbels 1996, Local Polynomial Modelling: at an edge a local line has
the smaller bias, and the order of k is the one at which bias and noise shrink alike). ``trend`` asks whether a series
went up or down.

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
"""A metric that fewer than this share of the iterations have, or of the last third of them, is not read."""
LATE = 1 / 3
"""'Late' is this last share of the run."""
MIN_EARLY = 3
"""The level at the start is made of at least so many of the first iterations."""

Row = Mapping[str, float | None]


def series(history: Sequence[Row], *names: str) -> list[Floats] | None:
    """Values ``(T,)`` of each named metric over the iterations that have all of them; a number must be finite.

    None when these are fewer than MIN_ITERATIONS, or fewer than MIN_PRESENT of the history or of its last third, or
    when the last two iterations lack one: what came to no number in the end is not judged by what it was before.
    """
    rows = [[row.get(name) for name in names] for row in history]
    kept = [[value for value in row if value is not None and math.isfinite(value)] for row in rows]
    whole = [len(row) == len(names) for row in kept]
    if sum(whole) < max(MIN_ITERATIONS, MIN_PRESENT * len(history)) or ends_early(whole):
        return None
    return list(np.array([row for row, all_there in zip(kept, whole, strict=True) if all_there], dtype=np.float64).T)


def ends_early(present: Sequence[bool]) -> bool:
    """Whether too little of the last third is present to say how a run ended."""
    last = present[-math.ceil(LATE * len(present)) :]
    return sum(last) < MIN_PRESENT * len(last) or not any(last[-2:])


def late(values: Floats) -> Floats:
    """The last third."""
    return values[-math.ceil(LATE * len(values)) :]


def start(values: Floats) -> float:
    """Level at the first iteration, by a line through the first k of ``(T,)``."""
    weights = _start_weights(len(values))
    return float(weights @ values[: len(weights)])


def _start_weights(size: int) -> Floats:
    """Weights ``(k,)`` of the first k of ``size`` values, never more than a third, in the line's first value."""
    count = max(1, min(max(MIN_EARLY, round(0.3 * size**0.8)), size // 3))
    place = np.arange(count, dtype=np.float64) - (count - 1) / 2
    weights: Floats = 1 / count + place[0] * place / (float(place @ place) or 1.0)  # of one value there is no slope
    return weights


def level(values: Floats, alpha: float = 0.05) -> Estimate:
    """Mean over the iterations ``(T,)`` given; a trend among them widens the interval."""
    return _interval(values, np.full(len(values), 1 / len(values)), 0, alpha)


def change(values: Floats, alpha: float = 0.05) -> Estimate:
    """Late level minus level at the start: the mean of the last third less :func:`start`."""
    weights, first, last = np.zeros(len(values)), _start_weights(len(values)), len(late(values))
    weights[: len(first)] -= first
    weights[-last:] += 1 / last
    # Few iterations have no room for a cubic and for what is left of the noise after it.
    return _interval(values, weights, min(3 if len(values) >= 20 else 2, (len(values) - 1) // 2), alpha)


def growth(values: Floats, alpha: float = 0.05) -> Estimate:
    """Factor from the start to late, of positive values: exp of the change of the logarithm.

    NaN with an infinite interval when a value is not positive.
    """
    if (values <= 0).any():
        return Estimate(math.nan, -math.inf, math.inf, len(values))
    return exponential(change(np.log(values), alpha))


def trend(values: Floats, alpha: float = 0.05) -> Estimate:
    """Change of a straight line from the first iteration to the last: a test of the direction, not a size."""
    if len(values) < 3:
        return Estimate(math.nan, -math.inf, math.inf, len(values))
    line = np.linalg.qr(legvander(np.linspace(-1, 1, len(values)), 1))[0][:, 1]
    return _interval(values, line * (line[-1] - line[0]), 1, alpha)


def ratio(over: Estimate, under: Estimate) -> Estimate:
    """``over`` divided by ``under``, both positive, from their intervals (MOVER: Zou and Donner 2008).

    Exact in the limit where the two are independent; where they rise together it is too long. NaN with an infinite
    interval where ``under`` is not shown to be positive.
    """
    a, b = over.value, under.value
    if under.low <= 0:
        return Estimate(math.nan, -math.inf, math.inf, under.clusters)
    down, up = over.low * (2 * a - over.low), over.high * (2 * a - over.high)
    near, far = under.low * (2 * b - under.low), under.high * (2 * b - under.high)
    with np.errstate(divide="ignore", invalid="ignore"):
        low = (a * b - math.sqrt(max((a * b) ** 2 - down * far, 0))) / far if far > 0 else 0.0
        high = (a * b + math.sqrt(max((a * b) ** 2 - up * near, 0))) / near
    return Estimate(a / b, low, high, under.clusters)


def exponential(log: Estimate) -> Estimate:
    """The estimate of exp(x) from that of x."""
    with np.errstate(over="ignore"):
        value, low, high = np.exp([log.value, log.low, log.high])
    return Estimate(float(value), float(low), float(high), log.clusters)


def _interval(y: Floats, weights: Floats, degree: int, alpha: float) -> Estimate:
    """The sum of y with these weights c; polynomials up to ``degree`` are the curve (the top of this module)."""
    size = len(y)
    scatter = min(max(2, round(0.4 * size ** (2 / 3))), size - degree - 1)  # B
    value = float(weights @ y)
    if scatter < 1:
        return Estimate(value, -math.inf, math.inf, size)
    q = np.linalg.qr(legvander(np.linspace(-1, 1, size), degree + scatter))[0]
    omega = float(((q.T @ y)[degree + 1 :] ** 2).mean())
    half = float(student.ppf(1 - alpha, scatter)) * math.sqrt(omega) * float(np.linalg.norm(weights))
    return Estimate(value, value - half, value + half, size)
