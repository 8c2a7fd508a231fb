"""Draws of the cluster bootstrap: how often each row comes in a resample, in chunks, kept for the next statistic."""

import functools
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.uint8]

CHUNK = 4_000_000
"""Weights (resamples x prompts) in use at a time: 32 MB."""
KEPT = 64_000_000
"""Up to this many weights are cached as bytes for the next statistic of the same prompts and resamples."""


def resampled_means(rows: Floats, resamples: int, seed: int) -> Iterator[Floats]:
    """Means of ``rows`` ``(n, k)`` over ``resamples`` draws of n rows with replacement, in chunks ``(b, k)``."""
    n = len(rows)
    drawn = _kept(n, resamples, seed, CHUNK) if n * resamples <= KEPT else _drawn(n, resamples, seed, CHUNK)
    for counts in drawn:
        yield counts.astype(np.float64) @ rows / n


def _drawn(n: int, resamples: int, seed: int, chunk: int) -> Iterator[Counts]:
    """How often each of n rows is drawn, ``(b, n)``; a byte suffices: 256 draws of one row are too unlikely."""
    rng = np.random.default_rng(seed)
    size = max(1, chunk // n)
    for start in range(0, resamples, size):
        b = min(size, resamples - start)
        rows = rng.integers(0, n, size=(b, n), dtype=np.int64)
        rows += np.arange(b, dtype=np.int64)[:, None] * n
        yield np.bincount(rows.ravel(), minlength=b * n).reshape(b, n).astype(np.uint8)


@functools.lru_cache(maxsize=4)
def _kept(n: int, resamples: int, seed: int, chunk: int) -> Iterable[Counts]:
    return tuple(_drawn(n, resamples, seed, chunk))
