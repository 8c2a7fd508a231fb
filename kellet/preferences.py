r"""Preference files -> rows of the contract: prompt, chosen, rejected, and where given annotator, created_at, margin.

Two forms are read. Standard: the columns prompt, chosen and rejected hold texts. Implicit prompt (hh-rlhf, Bai et al.
2022): there is no prompt column, and chosen and rejected are whole dialogues ``\n\nHuman: ...\n\nAssistant: ...``;
the prompt is everything up to and including the last ``\n\nAssistant:``, the answers are what follows it, stripped.
Columns that the contract does not name are left out of the table; quarantine keeps rows as they came.
"""

import datetime
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kellet.errors import DataError
from kellet.raw_files import Record, read_records

TURN = "\n\nAssistant:"
"""Opens each answer of an implicit-prompt dialogue."""
TEXTS = ("prompt", "chosen", "rejected")
OPTIONAL = ("annotator", "created_at", "margin")
LABELS = ("label", "preferred")
"""Columns of a judgement beside chosen and rejected, which need none; the table checks look at them."""


class _RowError(ValueError):
    """Why one row cannot be read."""


def read_file(path: Path, name: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read one preference file; ``name`` stands in the column ``file`` (default: the path as given).

    Returns (rows, refused). Rows: prompt, chosen, rejected (text or None), the optional columns that the file has,
    rejected_prompt (implicit form: the prompt of the rejected dialogue, which a row check compares), label (a label or
    preferred column, as text), file, line, row (as it came). Refused: file, line, row, reason.
    Raises DataError when the file as a whole cannot be used.
    """
    records = read_records(path)
    columns = {key for record in records if record.values for key in record.values}
    implicit = _is_implicit(path, columns, records)
    rows, refused = [], []
    for record in records:
        origin = {"file": name or str(path), "line": record.line, "row": _writable(record.text)}
        try:
            rows.append(_contract(record, implicit) | origin)
        except _RowError as reason:
            refused.append(origin | {"reason": str(reason)})
    if not rows:
        raise DataError(
            f"{path}: none of its {len(records)} rows can be read; line {refused[0]['line']}: {refused[0]['reason']}"
        )
    kept = [*TEXTS, *(column for column in OPTIONAL if column in columns)]
    kept += ["rejected_prompt"] * implicit + ["label"] * bool(columns & set(LABELS)) + ["file", "line", "row"]
    return _frame(rows, kept), _frame(refused, ["file", "line", "row", "reason"])


def pair_ids(rows: pd.DataFrame) -> list[str]:
    """Content hash of each row: the first 16 hex digits of SHA-256 of prompt, chosen, rejected and annotator if any."""
    annotators = rows["annotator"] if "annotator" in rows else [None] * len(rows)
    keys = zip(rows["prompt"], rows["chosen"], rows["rejected"], annotators, strict=True)
    return [_digest([part for part in key if isinstance(part, str)]) for key in keys]


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    """Object columns, so that None stays None and every version of pandas sees the same."""
    frame = pd.DataFrame({column: pd.Series([row[column] for row in rows], dtype=object) for column in columns})
    kinds = {"line": "int64"} | ({"margin": "float64"} if "margin" in columns else {})
    return frame.astype(kinds)


def _is_implicit(path: Path, columns: set[str], records: list[Record]) -> bool:
    missing = [column for column in TEXTS if column not in columns]
    if not columns or not missing:
        return False
    dialogues = (
        isinstance(record.values.get("chosen"), str) and TURN in record.values["chosen"]
        for record in records
        if record.values
    )
    if missing == ["prompt"] and any(dialogues):
        return True
    why = "" if missing != ["prompt"] else " (and chosen holds no '\\n\\nAssistant:' dialogue to take a prompt from)"
    raise DataError(
        f"{path}: column {' and '.join(map(repr, missing))} is missing{why}; found {', '.join(sorted(columns))}; "
        "wanted prompt, chosen and rejected: rename the columns"
    )


def _contract(record: Record, implicit: bool) -> dict[str, Any]:
    if record.values is None:
        raise _RowError(record.reason)
    values = record.values
    row: dict[str, Any] = {name: _text(values, name) for name in TEXTS}
    if implicit:
        row["prompt"], row["chosen"] = _split_dialogue(row["chosen"], "chosen")
        row["rejected_prompt"], row["rejected"] = _split_dialogue(row["rejected"], "rejected")
    label = next((values[name] for name in LABELS if values.get(name) is not None), None)
    return row | {
        "annotator": _annotator(values.get("annotator")),
        "created_at": _created_at(values.get("created_at")),
        "margin": _margin(values.get("margin")),
        "label": None if label is None else str(label),
    }


def _split_dialogue(text: str | None, side: str) -> tuple[str | None, str | None]:
    r"""(everything up to and including the last ``\n\nAssistant:``, the answer after it)."""
    if text is None:
        return None, None
    head, turn, answer = text.rpartition(TURN)
    if not turn:
        raise _RowError(f"{side} is not a dialogue: no '\\n\\nAssistant:' to take the prompt from")
    return head + turn, answer.strip()


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(name)
    if value is None or (isinstance(value, str) and _writable(value) == value):
        return value
    if isinstance(value, str):
        raise _RowError(f"{name} holds half of a surrogate pair, which is no character")
    raise _RowError(f"{name} is a {type(value).__name__}, wanted a text")


def _writable(text: str) -> str:
    """``text`` with lone surrogates, which no file can hold, as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _annotator(value: Any) -> str | None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return _text({"annotator": value}, "annotator")
    if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
        return str(int(value))
    raise _RowError(f"annotator is {value!r}, wanted a text or a whole number")


def _created_at(value: Any) -> str | None:
    """The moment as text; it is carried along, not interpreted."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str):
        return _text({"created_at": value}, "created_at")
    raise _RowError(f"created_at is {value!r}, wanted a text such as 2026-01-31T12:00:00Z")


def _margin(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise _RowError(f"margin is {value!r}, wanted a finite number")
    return number
