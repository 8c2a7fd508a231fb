r"""Preference files -> rows of the contract: prompt, chosen, rejected, and where given annotator, created_at, margin.

What is read (kellet/data/columns.py decides which, by the columns):
- standard: prompt, chosen and rejected hold texts;
- conversational (TRL): they hold lists of messages; the answer is one message of the assistant, the prompt the messages
  before it, kept as JSON text (kellet/data/conversation.py) until a tokenizer renders it;
- implicit prompt: no prompt column, and chosen and rejected hold it too. Lists of messages: all but the last. hh-rlhf
  (Bai et al. 2022): whole dialogues ``\n\nHuman: ...\n\nAssistant: ...``; the prompt is everything up to and including
  the last ``\n\nAssistant:``, the answers are what follows it, stripped. Other texts: the words with which both begin;
- comparisons: two answers and who won; one row for each judgement.
Columns that the contract does not name are left out of the table; quarantine keeps rows as they came.
"""

import datetime
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kellet.data.columns import OPTIONAL, TURN, Form, common_beginning, find_form, judgements
from kellet.data.conversation import Messages, as_messages, to_prompt
from kellet.data.raw_files import Record, read_chunks
from kellet.errors import DataError

TEXTS = ("prompt", "chosen", "rejected")
LABELS = ("label", "preferred")
"""Columns of a judgement beside chosen and rejected, which do not need one; the table checks look at them."""
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


class _RowError(ValueError):
    """Why one row cannot be read."""


def read_preferences(
    path: Path, name: str | None = None, columns: Mapping[Any, str] | None = None, size: int = CHUNK
) -> Iterator[Chunk]:
    """Read one preference file, ``size`` rows at a time; ``name`` stands in the column ``file`` (default: the path).

    ``columns`` names the contract's columns in the file, where they have other names. Raises DataError when the file
    as a whole cannot be used.
    """
    form: Form | None = None
    accepted, total = 0, 0
    first = ("", 0)
    for records, share in read_chunks(path, size):
        present = {key for record in records if record.values for key in record.values}
        if form is None and present:
            form = find_form(path, present, records, columns or {})
        rows, refused = [], []
        for record in records:
            origin = {"file": name or str(path), "line": record.line, "row": _writable(record.text)}
            try:
                rows += [row | origin for row in _contract(record, form)]
            except ValueError as reason:
                refused.append(origin | {"reason": str(reason)})
        total, accepted = total + len(records), accepted + len(rows)
        if refused and not first[1]:
            first = (str(refused[0]["reason"]), int(str(refused[0]["line"])))
        yield Chunk(_frame(rows, ROW), _frame(refused, REFUSED), share, form)
    if not accepted:
        raise DataError(f"{path}: none of its {total} rows can be read; line {first[1]}: {first[0]}")


def read_file(
    path: Path, name: str | None = None, columns: Mapping[Any, str] | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """All of (rows, refused) at once; see :func:`read_preferences`."""
    chunks = list(read_preferences(path, name, columns))
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


def _contract(record: Record, form: Form | None) -> list[dict[str, Any]]:
    """The rows that a record makes: one, or one for each judgement."""
    if record.values is None or form is None:
        raise _RowError(record.reason)
    raw = record.values
    values = {ours: raw.get(theirs) for ours, theirs in form.names.items()}
    other = {"created_at": _created_at(values.get("created_at")), "margin": _margin(values.get("margin"))}
    if not form.comparison:
        label = next((raw[name] for name in LABELS if raw.get(name) is not None), None)
        other |= {"label": None if label is None else str(label), "tie": False}
        sides = _sides(values, ("chosen", "rejected"), form.implicit)
        return [sides | other | {"annotator": _annotator(values.get("annotator"))}]
    rows = []
    for winner, who in judgements(values, form):
        order = ("answer_b", "answer_a") if winner == "b" else ("answer_a", "answer_b")
        judgement = {"annotator": _annotator(who), "label": None, "tie": winner == "tie"}
        rows.append(_sides(values, order, "") | other | judgement)
    return rows


def _sides(values: Mapping[str, Any], order: tuple[str, str], implicit: str) -> dict[str, Any]:
    """prompt, chosen, rejected and rejected_prompt of a row whose better answer is in the first column of ``order``."""
    conversations = [as_messages(values.get(side)) for side in order]
    if all(conversations):
        named = zip(conversations, order, strict=True)
        return _row(*(_last_turn(messages, side, values.get("prompt")) for messages, side in named if messages))
    if any(conversations):
        raise _RowError(f"of {order[0]} and {order[1]} one is a conversation and the other is not")
    texts = [_text(values, side) for side in order]
    if implicit == "dialogue":
        return _row(*(_split_dialogue(text, side) for text, side in zip(texts, order, strict=True)))
    if implicit == "beginning" and texts[0] is not None and texts[1] is not None:
        begin = common_beginning(texts[0], texts[1])
        if not begin:
            raise _RowError(f"{order[0]} and {order[1]} share no beginning to take the prompt from")
        return _row(*((begin.strip(), text[len(begin) :].strip()) for text in texts if text is not None))
    messages = as_messages(values.get("prompt"))
    prompt = to_prompt(messages) if messages else _text(values, "prompt")
    return _row((prompt, texts[0]), (prompt, texts[1]))


def _row(chosen: tuple[str | None, str | None], rejected: tuple[str | None, str | None]) -> dict[str, Any]:
    row = {"prompt": chosen[0], "chosen": chosen[1], "rejected": rejected[1], "rejected_prompt": rejected[0]}
    for name in ("prompt", *TEXTS[1:]):
        _text(row, name)
    return row


def _last_turn(messages: Messages, side: str, prompt: Any) -> tuple[str, str]:
    """(prompt, answer) of a conversation; the column ``prompt`` counts where it has no messages before the answer."""
    *before, last = messages
    if last["role"] != "assistant":
        raise _RowError(f"{side} ends with a message of {last['role']!r}, wanted the assistant's answer")
    given = as_messages(prompt)
    if given is None and isinstance(prompt, str) and not before:
        given = [{"role": "user", "content": prompt}]
    if not before and not given:
        raise _RowError(f"{side} is an answer without a prompt")
    if before and given and before != given:
        raise _RowError(f"{side} holds {len(messages)} messages beside a prompt, wanted one answer")
    return to_prompt(before or given or []), last["content"]


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
    """The time as text; it is kept as it is, not interpreted."""
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
