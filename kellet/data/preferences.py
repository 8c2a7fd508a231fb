r"""Preference files -> rows of the contract: prompt, chosen, rejected, and where given annotator, created_at, margin.

What is read (kellet/data/reading.py decides, by all rows of the file):
- standard: prompt, chosen and rejected hold texts;
- conversational (TRL): they hold lists of messages; the answer is one message of the assistant, the prompt the messages
  before it, kept as JSON text (kellet/data/conversation.py) until a tokenizer renders it;
- implicit prompt: no prompt column, and chosen and rejected hold it too (kellet/data/implicit.py);
- comparisons: two answers and who won; one row for each judgement (kellet/data/judgements.py).
What became of every other column is in the account (kellet/data/leftovers.py); quarantine keeps rows as they came.
"""

import datetime
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kellet.data.annotators import NOT_SUBMITTED
from kellet.data.exports import UNFINISHED, unfolded
from kellet.data.form import LABELS, OPTIONAL, Form, Said
from kellet.data.judgements import judgements
from kellet.data.raw_files import Record, read_chunks
from kellet.data.reading import find_form
from kellet.data.sides import sides_of, text_of, writable
from kellet.data.survey import number_of
from kellet.errors import DataError

TEXTS = ("prompt", "chosen", "rejected")
ROW = (*TEXTS, "rejected_prompt", *OPTIONAL, "label", "tie", "file", "line", "row")
REFUSED = ("file", "line", "row", "reason")
CHUNK = 50_000
"""Rows in memory at a time."""


class Chunk(NamedTuple):
    """Some consecutive rows of a file."""

    rows: pd.DataFrame
    """Columns of ROW: texts or None, rejected_prompt (the prompt of the rejected side, which a row check compares),
    label (a label or preferred column beside chosen and rejected, as text), tie (neither won; then chosen is the first
    answer), file, line, row (as it came)."""
    refused: pd.DataFrame
    """Columns of REFUSED: rows that cannot be read."""
    share: float
    """Of the file's bytes, read so far."""
    form: Form | None
    """How the file is read; None while no row could be."""


def read_preferences(
    path: Path,
    name: str | None = None,
    columns: Mapping[Any, str] | None = None,
    size: int = CHUNK,
    said: Said | None = None,
) -> Iterator[Chunk]:
    """Read one preference file, ``size`` rows at a time; ``name`` stands in the column ``file`` (default: the path).

    The file is read once before, because its columns are understood by all of their values. ``columns`` names the
    contract's columns in the file, where they have other names; ``said`` is all that the parameters say, in its place.
    Raises DataError when the file as a whole cannot be used.
    """
    form = find_form(path, said or Said(columns or {}), size)
    accepted, total = 0, 0
    first = ("", 0)
    for records, share in read_chunks(path, size):
        rows, refused = [], []
        for record in records:
            origin = {"file": name or str(path), "line": record.line, "row": writable(record.text)}
            try:
                found, aside = _contract(record, form)
            except ValueError as reason:
                found, aside = [], [str(reason)]
            rows += [row | origin for row in found]
            refused += [origin | {"reason": reason} for reason in aside]
        total, accepted = total + len(records), accepted + len(rows)
        if refused and not first[1]:
            first = (str(refused[0]["reason"]), int(str(refused[0]["line"])))
        yield Chunk(_frame(rows, ROW), _frame(refused, REFUSED), share, form)
    if not accepted:
        raise DataError(f"{path}: none of its {total} rows can be read; line {first[1]}: {first[0]}")


def read_file(
    path: Path, name: str | None = None, columns: Mapping[Any, str] | None = None, said: Said | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All of (rows, refused) at once; see :func:`read_preferences`."""
    chunks = list(read_preferences(path, name, columns, said=said))
    rows = pd.concat([chunk.rows for chunk in chunks], ignore_index=True)
    return rows, pd.concat([chunk.refused for chunk in chunks], ignore_index=True)


def pair_ids(rows: pd.DataFrame) -> list[str]:
    """Content hash of each row: the first 16 hex digits of SHA-256 of prompt, chosen, rejected and annotator if any."""
    annotators = rows["annotator"] if "annotator" in rows else [None] * len(rows)
    keys = zip(rows["prompt"], rows["chosen"], rows["rejected"], annotators, strict=True)
    return [_digest([part for part in key if isinstance(part, str)]) for key in keys]


def _digest(parts: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _frame(rows: list[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Object columns, so that None stays None and every version of pandas sees the same."""
    frame = pd.DataFrame({column: pd.Series([row[column] for row in rows], dtype=object) for column in columns})
    kinds = {"line": "int64", "margin": "float64", "tie": "bool"}
    return frame.astype({column: kind for column, kind in kinds.items() if column in columns})


def _contract(record: Record, form: Form | None) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows that a record makes, one or one for each judgement, and why judgements of it are set aside.

    Raises ValueError when the record cannot be used.
    """
    if record.values is None or form is None:
        raise ValueError(record.reason)
    raw = unfolded(record.values)
    values = {ours: raw.get(theirs) for ours, theirs in form.names.items()}
    other: dict[str, Any] = {"created_at": _created_at(values.get("created_at"))}
    if form.scale is None:
        if str(values.get("status")).casefold() in UNFINISHED:
            raise ValueError(NOT_SUBMITTED)
        label = next((raw[name] for name in LABELS if raw.get(name) is not None), None)
        other |= {"label": None if label is None else str(label), "tie": False, "margin": _margin(values.get("margin"))}
        sides = sides_of(values, ("chosen", "rejected"), form)
        return [sides | other | {"annotator": _annotator(values.get("annotator"))}], []
    rows = []
    judged = judgements(raw, form.names, form.scale)
    for each in judged:
        if not each.aside:
            order = ("answer_b", "answer_a") if each.winner == "b" else ("answer_a", "answer_b")
            judgement: dict[str, Any] = {
                "annotator": _annotator(each.annotator),
                "label": None,
                "tie": each.winner == "tie",
            }
            judgement["margin"] = _margin(_strength(values, form))
            rows.append(sides_of(values, order, form) | other | judgement)
    return rows, [each.aside for each in judged if each.aside]


def _strength(values: Mapping[str, Any], form: Form) -> Any:
    """The margin; where its column is the one that says who won, the distance from the middle of that scale."""
    value, middle = values.get("margin"), form.scale.reading.middle if form.scale else None
    if middle is None or form.names.get("margin") != form.names["preferred"]:
        return value
    return None if (number := number_of(value)) is None else abs(number - middle)


def _annotator(value: Any) -> str | None:
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str):
        return text_of({"annotator": value}, "annotator")
    if isinstance(value, int | float) and not isinstance(value, bool) and value == int(value):
        return str(int(value))
    raise ValueError(f"annotator is {value!r}, wanted a text or a whole number")


def _created_at(value: Any) -> str | None:
    """The time as text; it is kept as it is, not interpreted."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str):
        return text_of({"created_at": value}, "created_at")
    raise ValueError(f"created_at is {value!r}, wanted a text such as 2026-01-31T12:00:00Z")


def _margin(value: Any) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"margin is {value!r}, wanted a finite number")
    return number
