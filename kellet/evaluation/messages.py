"""Answers and prompts that come as lists of messages, read as the texts that the columns of an evaluation hold."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.data.conversation import answer_of, as_messages, prompt_of
from kellet.data.tool_calls import parse
from kellet.evaluation.cells import At, at_row, refuse, texts

_MESSAGE = re.compile(r"\s*\{(?=.*['\"](role|from)['\"]\s*:)", re.DOTALL)
_WRAPPED = re.compile(r"\s*(\[\s*)?\{\s*['\"](generated_text|content|text|response|completion|message)['\"]\s*:")
_CONTENT = re.compile(r"['\"](content|value|text)['\"]\s*:")


def response_texts(values: "pd.Series[Any]", column: str, at: At = at_row) -> npt.NDArray[np.object_]:
    """A column of answers. A message of the assistant is read as its content; anything else in messages is refused.

    Texts that hold messages, as JSON or as Python prints them, are messages where half of the column or more are: an
    answer may itself be such a text, to somebody who asked for one.
    """
    cells = [_single(_plain(cell)) for cell in values.to_numpy(dtype=object)]
    _refuse_wrapped(cells, column, at)
    like = [isinstance(cell, str) and _holds_messages(cell) for cell in cells]
    other = [
        isinstance(cell, str) and bool(cell.strip()) and not found for cell, found in zip(cells, like, strict=True)
    ]
    if any(like) and sum(like) >= sum(other):
        why = "a text in a column of lists of messages; write all answers as texts, or all as messages"
        refuse(np.array(other, bool), column, values, why, at)
        cells = [[cell] if found else cell for cell, found in zip(cells, like, strict=True)]
    return texts(_converted(cells, column, _answer, at), column, at)


def _refuse_wrapped(cells: list[Any], column: str, at: At) -> None:
    """Refuse a column of which every cell is the JSON of what a pipeline returns, not the answer in it."""
    given = [cell for cell in cells if not isinstance(cell, str) or cell.strip()]
    if given and all(isinstance(cell, str) and _WRAPPED.match(cell) and _holds_one_text(cell) for cell in given):
        why = "every answer is JSON around a text; write the text itself"
        refuse(np.array([isinstance(cell, str) and bool(cell.strip()) for cell in cells], bool), column, cells, why, at)


def _holds_one_text(cell: str) -> bool:
    value = parse(cell)
    value = value[0] if isinstance(value, list) and len(value) == 1 else value
    return isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), str)


def prompt_texts(values: "pd.Series[Any]", column: str, at: At = at_row) -> npt.NDArray[np.object_]:
    """A column of prompts. A conversation is kept as the JSON that kellet/data/conversation.py defines."""
    cells = [_single(_plain(cell)) for cell in values.to_numpy(dtype=object)]
    cells = [[cell] if isinstance(cell, str) and cell.lstrip()[:1] in ("[", "{") else cell for cell in cells]
    return texts(_converted(cells, column, _prompt, at), column, at)


def _plain(cell: Any) -> Any:
    """A list of messages as a list in a list, so that texts and lists are told apart; other cells as they are."""
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if isinstance(cell, list | tuple | Mapping):
        whole = isinstance(cell, Mapping) and "messages" not in cell
        return [[cell]] if whole else [cell if isinstance(cell, Mapping) else list(cell)]
    return cell


def _single(cell: Any) -> Any:
    """A text that holds one message with no list around it, as the text of a list; other cells as they are."""
    found = isinstance(cell, str) and _MESSAGE.match(cell) and _CONTENT.search(cell)
    return f"[{cell.strip()}]" if found else cell


def _holds_messages(text: str) -> bool:
    if text.lstrip()[:1] not in ("[", "{"):
        return False
    try:
        return as_messages(text) is not None
    except ValueError:  # it looks like messages, and _answer says what is wrong with it
        return True


def _converted(cells: list[Any], column: str, convert: Callable[[Any], Any], at: At) -> "pd.Series[Any]":
    for row, cell in enumerate(cells):
        if isinstance(cell, list):
            try:
                cells[row] = convert(cell[0])
            except ValueError as error:
                shown = [str(item[0]) if isinstance(item, list) else item for item in cells]
                refuse(np.arange(len(cells)) == row, column, shown, str(error), at)
    return pd.Series(cells, dtype=object)


def _answer(value: Any) -> str:
    messages = as_messages(value)
    if messages is None:
        raise ValueError("a list that holds no messages with role and content, wanted text")
    if len(messages) != 1:
        raise ValueError(f"{len(messages)} messages, wanted the answer alone; earlier turns belong to the prompt")
    if messages[0]["role"] != "assistant":
        raise ValueError(f"a message of the role {messages[0]['role']!r}, wanted the assistant's answer")
    return answer_of(messages[0])


def _prompt(value: Any) -> str:
    prompt = prompt_of(value)
    if prompt is not None:
        return prompt
    if isinstance(value, str):
        return value
    raise ValueError("a list that holds no messages with role and content, wanted text")
