r"""Prompts that no column holds: dialogues, and the words with which both answers begin.

hh-rlhf (Bai et al. 2022): chosen and rejected are whole dialogues ``\n\nHuman: ...\n\nAssistant: ...``. TRL's implicit
prompt: two texts that begin alike. The second is a guess, because answers of support often begin alike too: it is made
only where a person has confirmed it (``data.prompt_from``, --accept), and no other column could be the prompt.
"""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from kellet.data.exports import parsed
from kellet.data.survey import Survey, count_words, is_messages
from kellet.errors import DataError

TURN = "\n\nAssistant:"
"""Opens each answer of an implicit-prompt dialogue."""
MOST = 0.9
"""Share of the pairs that has to begin alike."""


def answers_hold_prompt(seen: Survey, one: str, other: str, prompt: str | None) -> str:
    """``dialogue`` where the answers are whole dialogues (half of the first rows or more); empty where not.

    Beside a prompt column a text is a dialogue only when it begins as one, with a turn of the human.
    """
    sides = [(values.get(one), values.get(other)) for _, values in seen.sample if values.get(one) and values.get(other)]
    whole = [all(_is_dialogue(side, strict=prompt is not None) for side in pair) for pair in sides]
    return "dialogue" if whole and 2 * sum(whole) >= len(whole) else ""


def no_prompt(
    seen: Survey, names: Mapping[str, str], sides: tuple[str, str], prompt_from: str | None, free: Sequence[str]
) -> str:
    """``beginning``, where that is confirmed. Raises DataError when no column and no guess gives the prompt."""
    columns = seen.names()
    texts = [name for name in free if name not in names.values() and seen.columns[name].prose]
    if texts:
        ways = " or ".join(f"--map {shlex.quote(f'prompt={name}')}" for name in sorted(texts))
        raise DataError(
            f"{seen.path}: column 'prompt' is missing; found {columns}; say which it is: {ways} (data.columns)"
        )
    one, two = (names[side] for side in sides)
    pairs = [(line, _text(values.get(one)), _text(values.get(two))) for line, values in seen.sample]
    begin = [(line, common_beginning(left, right)) for line, left, right in pairs if left and right]
    shared = [(line, text) for line, text in begin if text]
    if sides != ("chosen", "rejected") or not begin or len(shared) < MOST * len(begin):
        raise DataError(
            f"{seen.path}: column 'prompt' is missing; found {columns}; say which it is with --map prompt=COLUMN "
            "(data.columns). chosen and rejected neither hold a '\\n\\nAssistant:' dialogue nor "
            f"begin alike in {MOST:.0%} of the rows, to take a prompt from"
        )
    if prompt_from == "beginning":
        return "beginning"
    line, text = shared[0]
    raise DataError(
        f"{seen.path}: column 'prompt' is missing; found {columns}. chosen and rejected begin alike in {len(shared)} "
        f"of {len(begin)} rows, and the prompt could be that beginning (line {line}: {text.strip()[:80]!r}), or the "
        "answers merely open alike. If it is the prompt, confirm it once with --accept (data.prompt_from: beginning); "
        "if not, add a column with the prompt"
    )


def begin_with_prompt(seen: Survey, prompt: str, answers: tuple[str, str]) -> bool:
    """Whether both answers begin with the text of the prompt column, in most of the first rows, as whole texts do.

    The prompts have to have three words on average: answers may well begin with a shorter text by chance.
    """
    rows = [
        (_text(values.get(prompt)).strip(), [_text(values.get(name)) for name in answers]) for _, values in seen.sample
    ]
    rows = [(text, both) for text, both in rows if text and all(both)]
    whole = sum(all(side.startswith(text) and side != text for side in both) for text, both in rows)
    words = sum(count_words(text) for text, _ in rows)
    return bool(rows) and whole >= MOST * len(rows) and words >= 3 * len(rows)


def refuse_lists(seen: Survey, columns: Sequence[str]) -> None:
    """Raise DataError where a column holds lists of texts, also as a text (``["…"]``, as Kaggle's arena files)."""
    for name in columns:
        cells = [(line, values[name]) for line, values in seen.sample if values.get(name)]
        lists = [line for line, cell in cells if isinstance(parsed(cell), list) and not is_messages(cell)]
        if cells and 2 * len(lists) > len(cells):
            raise DataError(
                f"{seen.path}: {name!r} holds lists (line {lists[0]}), wanted a text or messages; write each as one "
                "text, or as messages with role and content"
            )


def common_beginning(one: str, other: str) -> str:
    """The whole words with which two texts begin alike, white space after them included.

    TRL's ``extract_prompt`` cuts at the first character that differs, which may be in the middle of a word.
    """
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    while same > 0 and not one[same - 1].isspace():
        same -= 1
    return one[:same] if one[:same].strip() else ""


def split_dialogue(text: str, side: str) -> tuple[str, str]:
    r"""(everything up to and including the last ``\n\nAssistant:``, the answer after it); CR LF is a line end too.

    Raises ValueError when there is no such turn.
    """
    if "\r\n\r\n" in text and TURN not in text:
        text = text.replace("\r\n", "\n")
    head, turn, answer = text.rpartition(TURN)
    if not turn:
        raise ValueError(f"{side} is not a dialogue: no '\\n\\nAssistant:' to take the prompt from")
    return head + turn, answer.strip()


def _is_dialogue(value: Any, strict: bool) -> bool:
    if not isinstance(value, str):
        return isinstance(value, list) and len(value) > 1 and is_messages(value)
    if is_messages(value):
        return value.count('"role"') + value.count("'role'") + value.count('"from"') + value.count("'from'") > 1
    text = value.replace("\r\n", "\n")
    return TURN in text and (not strict or bool(re.match(r"\s*Human:", text)))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
