"""A training history (history.jsonl), read and checked: one JSON object of metrics for each iteration.

Levels and trends of its metrics, with intervals that respect their autocorrelation, are in kellet/stats/series.py.
"""

import json
import math
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from kellet.errors import DataError


def read_history(path: Path, gaps: bool = False) -> list[dict[str, float | None]]:
    """Read history.jsonl: each line is one iteration, a JSON object of numbers and nulls.

    Values that are text are left out. With ``gaps`` a number that is not finite, as a diverged training writes it, is
    read as null. Raises DataError, naming line and key, for a line that is not an object, a number that is not finite
    (without ``gaps``), and iterations that do not increase.
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
