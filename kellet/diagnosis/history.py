"""A training history (history.jsonl), read and checked: one JSON object of metrics for each iteration.

Levels and trends of its metrics, with intervals that respect their autocorrelation, are in kellet/stats/series.py.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kellet.data.raw_files import read_records, suffix_of
from kellet.errors import DataError
from kellet.manifest import check_file


def read_history(path: Path, gaps: bool = False) -> list[dict[str, float | None]]:
    """Read history.jsonl: each row is one iteration, a JSON object of numbers and nulls.

    Values that are text are left out. With ``gaps`` a number that is not finite, as a diverged training writes it, is
    read as null. Raises DataError, naming line and key, for a row that is not an object, a number that is not finite
    (without ``gaps``), iterations that do not increase, and a CSV, in which all is text.
    """
    if suffix_of(path.name).startswith((".csv", ".tsv")):
        raise DataError(f"{path} is a CSV; wanted JSON lines: kellet import-logs makes them of a trainer's log")
    check_file(path)
    rows: list[dict[str, float | None]] = []
    last: float | None = None
    for record in read_records(path, suffix=".jsonl"):
        where = f"{path}: line {record.line}"
        if record.values is None:
            why = record.reason.replace("not valid JSON", " is not JSON", 1)
            raise DataError(f"{where}{why if why != record.reason else f': {why}'}; wanted an object of metrics")
        row = _row(record.values, where, gaps)
        step = row.get("iteration")
        if last is not None and step is not None and step <= last:
            raise DataError(f"{where}, key 'iteration': {step:g} does not rise above {last:g}")
        last = last if step is None else step
        rows.append(row)
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
