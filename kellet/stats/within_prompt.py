"""Correlation within prompt, as it is and with other columns held.

Two answers of the *reference* to one prompt differ in length and in reward, and no training has pushed either: how the
two go together is what the reward model pays. With a prompt's own means taken off,

    r = Σ S_xy / √(Σ S_xx Σ S_yy)             S sums products of deviations over a prompt's answers

and with columns z held, x and y are replaced by their residuals after least squares on z (Frisch and Waugh 1933).

Legend: N = answers, n = prompts, k = columns held. ``alpha`` is one-sided.
"""

import numpy as np

from kellet.stats.bootstrap import Codes, Estimate, Floats, studentised

MIN_PROMPTS = 10
"""Prompts whose answers must differ."""


def correlation(
    x: Floats, y: Floats, codes: Codes, held: Floats | None = None, *, alpha: float, resamples: int, seed: int
) -> Estimate | None:
    """Correlation of x and y ``(N,)`` within prompt, with the columns of ``held`` ``(N, k)`` fixed.

    The interval treats the least squares on ``held`` as known, which is right to first order. None where x or y does
    not vary within MIN_PROMPTS prompts.
    """
    n = int(codes.max()) + 1
    x, y = _centred(x, codes, n), _centred(y, codes, n)
    if held is not None and held.any():
        z = np.column_stack([_centred(column, codes, n) for column in held.T])
        x, y = (column - z @ np.linalg.lstsq(z, column, rcond=None)[0] for column in (x, y))
    sums = [np.bincount(codes, a * b, n).astype(np.float64) for a, b in ((x, y), (x, x), (y, y))]
    columns: Floats = np.column_stack(sums)
    if min((columns[:, 1] > 1e-12).sum(), (columns[:, 2] > 1e-12).sum()) < MIN_PROMPTS:
        return None
    columns = columns / np.array([np.sqrt(columns[:, 1].mean() * columns[:, 2].mean()), *columns[:, 1:].mean(axis=0)])

    def value(m: Floats) -> Floats:
        r: Floats = m[..., 0] / np.sqrt(m[..., 1] * m[..., 2])
        return r

    def gradient(m: Floats) -> Floats:
        r, root = value(m), np.sqrt(m[..., 1] * m[..., 2])
        return np.stack([1 / root, -r / (2 * m[..., 1]), -r / (2 * m[..., 2])], axis=-1)

    return studentised(columns, value, gradient, alpha=alpha, resamples=resamples, seed=seed)


def _centred(values: Floats, codes: Codes, n: int) -> Floats:
    counts = np.maximum(np.bincount(codes, minlength=n), 1)
    centred: Floats = values - (np.bincount(codes, values, n) / counts)[codes]
    return centred
