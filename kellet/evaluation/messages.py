"""Answers and prompts that come as lists of messages, read as the texts that the columns of an evaluation hold."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.data.conversation import as_messages, to_prompt
from kellet.evaluation.cells import At, at_row, refuse, texts

ASSISTANT = {"assistant", "gpt", "model", "bot", "chatbot", "ai"}
_BEGINNING = re.compile(r"\s*(array\()?\[?\s*\{")
_ROLE = re.compile(r"""["'](role|from)["']\s*:""")
_CONTENT = re.compile(r"""["'](content|value)["']\s*:""")


def response_texts(values: "pd.Series[Any]", column: str, at: At = at_row) -> npt.NDArray[np.object_]:
    """A column of answers. A message of the assistant is read as its content; anything else in messages is refused.

    Texts that hold messages (JSON, or as Python prints them) are taken for messages where all of the column do.
    """
    values, found = _parsed(values, column, at)
    told = np.array([isinstance(cell, list) for cell in values], bool)
    if told.any():
        blank = np.array([isinstance(cell, str) and not cell.strip() for cell in values], bool)
        why = "a text in a column of which other cells are lists of messages; write all as texts or all as messages"
        refuse(~told & ~blank & found, column, values, why, at)
    return texts(_converted(values, column, _answer, at), column, at)


def prompt_texts(values: "pd.Series[Any]", column: str, at: At = at_row) -> npt.NDArray[np.object_]:
    """A column of prompts. A conversation is kept as the JSON that kellet/data/conversation.py defines."""
    values, _ = _parsed(values, column, at)
    return texts(_converted(values, column, _conversation, at), column, at)


def _parsed(values: "pd.Series[Any]", column: str, at: At) -> tuple["pd.Series[Any]", bool]:
    """The column with messages as lists of dicts, and whether any of them had to be parsed from a text."""
    cells = values.to_numpy(dtype=object)
    suspects = [row for row, cell in enumerate(cells) if _looks_like_messages(cell)]
    if not suspects and all(type(cell) is str for cell in cells):
        return values, False
    read = [_plain(cell) for cell in cells]
    unread = np.zeros(len(cells), bool)
    for row in suspects:
        value = _literal(cells[row])
        unread[row] = value is None
        if _is_messages(value):
            read[row] = [value] if isinstance(value, dict) else value
    why = "looks like messages and is neither JSON nor a Python list; write the column as JSON or as texts"
    refuse(unread, column, values, why, at)
    return pd.Series(read, dtype=object), bool(suspects)


def _looks_like_messages(cell: Any) -> bool:
    found = isinstance(cell, str) and _BEGINNING.match(cell) and _ROLE.search(cell) and _CONTENT.search(cell)
    return bool(found)


def _plain(cell: Any) -> Any:
    """Lists and messages without NumPy arrays (as pandas reads Parquet); a single message as a list of one."""
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, tuple):
        cell = list(cell)
    if isinstance(cell, list):
        return [dict(item) if isinstance(item, Mapping) else item for item in cell]
    return [dict(cell)] if isinstance(cell, Mapping) and _is_messages(cell) else cell


def _literal(text: str) -> Any:
    """A JSON or Python literal; None when it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _is_messages(value: Any) -> bool:
    items = [value] if isinstance(value, Mapping) else value if isinstance(value, list) else []
    return bool(items) and all(isinstance(item, Mapping) and ("role" in item or "from" in item) for item in items)


def _converted(values: "pd.Series[Any]", column: str, convert: Any, at: At) -> "pd.Series[Any]":
    cells = list(values)
    for row, cell in enumerate(cells):
        if isinstance(cell, list):
            try:
                cells[row] = convert(cell)
            except ValueError as error:
                refuse(np.arange(len(cells)) == row, column, values, str(error), at)
    return pd.Series(cells, dtype=object)


def _answer(value: list[Any]) -> str:
    messages = _messages(value)
    if len(messages) != 1:
        raise ValueError(f"{len(messages)} messages, wanted the answer's text; earlier turns belong to the prompt")
    role = messages[0]["role"]
    if role.strip().casefold() not in ASSISTANT:
        raise ValueError(f"a message of {role!r}, wanted the assistant's answer")
    return messages[0]["content"]


def _conversation(value: list[Any]) -> str:
    return to_prompt(_messages(value))


def _messages(value: list[Any]) -> list[dict[str, str]]:
    """Messages with role and content. Raises ValueError for another list, and for content that would be lost."""
    if not value or not _is_messages(value):
        raise ValueError("a list that holds no messages with role and content, wanted text")
    for message in value:
        lost = [
            key for key, item in message.items() if key not in ("role", "content", "from", "value") and _holds(item)
        ]
        if lost:
            raise ValueError(f"a message with {lost[0]!r}, which would be lost; write the answer as one text")
    messages = as_messages(value)
    if messages is None:
        messages = as_messages(
            [{"role": m.get("role", m.get("from")), "content": m.get("content", m.get("value"))} for m in value]
        )
    if messages is None:
        raise ValueError("a list that holds no messages with role and content, wanted text")
    return messages


def _holds(item: Any) -> bool:
    return item is not None and not (hasattr(item, "__len__") and len(item) == 0)
