"""A training history (history.jsonl): read and checked, and intervals that respect its autocorrelation.

Iterations of one run depend on each other: noise of neighbours is alike, and the policy drifts. An interval that counts
30 iterations as 30 independent draws is far too short. Here level and trend are coefficients of the first two of a row
of orthonormal polynomials q_0, q_1, ... over the iterations, and the scatter of the next few coefficients says how
uncertain they are:

    level    b = q_0·y / √T,              ω = mean of (q_j·y)² over j = 1 .. B
    change   b = q_1·y · (span of q_1),   ω = mean of (q_j·y)² over j = 2 .. B + 1
    interval b ± t_B·√ω · (the same factor),  B = 0.4·T^(2/3)

The low polynomials see slow noise as well as the coefficient does, so ω is the long-run variance, and Student's t has
only B degrees of freedom. Independent Gaussian noise makes it exact. Sources: Sun 2011, Robust trend inference with
series variance estimator; Lazarus, Lewis, Stock and Watson 2018, HAR Inference (the rule for B). Coverage for runs of
10, 30 and 100 iterations stands in docs/measured/diagnosis.md. The interval is about this run's own course, not about what
another seed would do.

Legend: T iterations. ``alpha`` is one-sided, as everywhere (kellet/stats/bootstrap.py); ``clusters`` counts iterations.
"""

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from kellet.errors import DataError


def read_history(path: Path, gaps: bool = False) -> list[dict[str, float | None]]:
    """Read history.jsonl: one JSON object of numbers and nulls in each line, one line for each iteration.

    Text values are left out. ``gaps`` takes a figure that is not finite as unknown, as a training that diverged writes
    it. Raises DataError, naming line and key, for a line that is no object, a number that is not
    finite (JSON has none, but writers differ), or iterations that do not rise.
    """
    rows: list[dict[str, float | None]] = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the history {path}: {error}; give a JSON-lines file") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}: line {number} is not JSON ({error.msg}); wanted an object of metrics") from error
        if not isinstance(values, dict):
            raise DataError(f"{path}: line {number} is a {type(values).__name__}; wanted an object of metrics")
        rows.append(_row(values, f"{path}: line {number}", gaps))
    if not rows:
        raise DataError(f"{path} has no lines; wanted one JSON object for each iteration")
    steps = [row.get("iteration") for row in rows]
    for number, (before, after) in enumerate(pairwise(steps), 2):
        if before is not None and after is not None and after <= before:
            raise DataError(f"{path}: line {number}, key 'iteration': {after:g} does not rise above {before:g}")
    return rows


def _row(values: Mapping[str, Any], where: str, gaps: bool) -> dict[str, float | None]:
    row: dict[str, float | None] = {}
    for key, value in values.items():
        if value is not None and not isinstance(value, int | float):
            continue
        if value is not None and not math.isfinite(value):
            if gaps:
                row[str(key)] = None
                continue
            raise DataError(f"{where}, key {key!r}: {value!r} is not finite; write null where a figure is unknown")
        row[str(key)] = None if value is None else float(value)
    return row
