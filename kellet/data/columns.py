"""Which column of a foreign file is which column of the contract, and who won.

There are two kinds of files. Pairs: ``chosen`` and ``rejected``. Comparisons: two answers in the order in which
they were shown (``answer_a``, ``answer_b``) and ``preferred``, which says who won, as annotation tools export them:
- Label Studio, CSV: the task's own columns, one named like the control tag, ``annotator``, ``created_at``. A Pairwise
  tag exports ``[{"selected": "left"}]`` (or the tag's leftChoiceValue), a Choices tag its text.
  Source: label-studio-sdk, ``converter/exports/csv2.py`` and ``converter/utils.py``.
- Argilla, ``to_list(flatten=True)``: the fields, ``QUESTION.responses`` and ``QUESTION.responses.users``, lists with
  one entry for each annotator; a ranking is a list of ``{"value": …, "rank": …}``.
  Source: argilla, ``records/_io/_generic.py``.
"""

import ast
import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

from kellet.data.conversation import as_messages
from kellet.data.raw_files import Record
from kellet.errors import DataError

TURN = "\n\nAssistant:"
"""Opens each answer of an implicit-prompt dialogue."""
PAIR, COMPARISON = ("chosen", "rejected"), ("answer_a", "answer_b", "preferred")
OPTIONAL = ("annotator", "created_at", "margin")
NAMES = ("prompt", *PAIR, *COMPARISON, *OPTIONAL)
"""The columns of the contract; ``data.columns`` and ``--map`` say which column of a foreign file is which."""
ALIASES = {
    "prompt": ("instruction", "question"),
    "answer_a": ("answer1", "answer_1", "response_a", "response1", "response_1", "completion_a", "text1"),
    "answer_b": ("answer2", "answer_2", "response_b", "response2", "response_2", "completion_b", "text2"),
    "preferred": ("preference", "winner", "choice", "comparison", "pairwise", "pw", "label"),
}
"""Names that are understood where the contract's name is missing and no other is given."""
RESPONSES = ".responses"
FIRST = {"a", "left", "1", "first", "answer_a", "model_a", "response_a"}
SECOND = {"b", "right", "2", "second", "answer_b", "model_b", "response_b"}
TIES = {"tie", "both", "neither", "equal", "same", "draw", "none", "tie (bothbad)"}


class Form(NamedTuple):
    """How a file is read."""

    names: dict[str, str]
    """Column of the contract -> column of the file."""
    comparison: bool
    """Two answers and who won, rather than chosen and rejected."""
    implicit: str
    """Where the prompt is when no column holds it: ``dialogue`` (hh-rlhf), ``beginning`` (common to both answers)."""

    def renamed(self) -> dict[str, str]:
        """The columns whose name in the file is another."""
        return {ours: theirs for ours, theirs in self.names.items() if ours != theirs}


def find_form(path: Path, columns: Set[str], records: Sequence[Record], given: Mapping[Any, str]) -> Form:
    """Decide how a file with these columns is read; ``records`` are its first rows, ``given`` is ``data.columns``.

    Raises DataError naming what is missing, and how to say where it is.
    """
    absent = [f"{ours}={theirs}" for ours, theirs in given.items() if theirs not in columns]
    if absent:
        raise DataError(f"{path}: mapped {', '.join(absent)}, found the columns {', '.join(sorted(columns))}")
    names = {name: name for name in NAMES if name in columns} | dict(given)
    if set(PAIR) <= set(names):
        missing = [name for name in ("prompt",) if name not in _with_aliases(names, columns, ("prompt",))]
        implicit = _implicit(path, records, names) if missing else ""
        names = names if missing else _with_aliases(names, columns, ("prompt",))
        pair = ("prompt", *PAIR, *OPTIONAL)
        return Form({name: names[name] for name in pair if name in names}, False, implicit)
    compared = _with_aliases(names, columns, ("prompt", *COMPARISON))
    if {"prompt", *COMPARISON} <= set(compared):
        users = compared["preferred"] + ".users"
        compared |= {"annotator": users} if users in columns and "annotator" not in compared else {}
        return Form({name: compared[name] for name in compared if name not in PAIR}, True, "")
    missing = [name for name in ("prompt", *PAIR) if name not in compared]
    raise DataError(_missing(path, missing, columns))


def judgements(values: Mapping[str, Any], form: Form) -> list[tuple[str, Any]]:
    """(winner, annotator) of each judgement in a row of a comparison file; winner is ``a``, ``b`` or ``tie``.

    Raises ValueError when there is none or it is not understood.
    """
    preferred, who = _parsed(values["preferred"]), _parsed(values.get("annotator"))
    if isinstance(preferred, list) and not any(isinstance(item, dict) for item in preferred):
        if not preferred:
            raise ValueError("nobody judged it: preferred is an empty list")
        users = who if isinstance(who, list) else [who] * len(preferred)
        if len(users) != len(preferred):
            raise ValueError(f"{len(preferred)} judgements by {len(users)} annotators")
        return [(_winner(item, values, form), user) for item, user in zip(preferred, users, strict=True)]
    return [(_winner(preferred, values, form), values.get("annotator"))]


def _winner(value: Any, values: Mapping[str, Any], form: Form) -> str:
    value = _parsed(value)
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        if all("rank" in item for item in value):
            ranks = {_side(item.get("value"), values, form): item["rank"] for item in value}
            if set(ranks) == {"a", "b"}:
                return "tie" if ranks["a"] == ranks["b"] else min(ranks, key=lambda side: ranks[side])
        value = value[0].get("selected", value) if len(value) == 1 else value
    return _side(value, values, form)


def _side(value: Any, values: Mapping[str, Any], form: Form) -> str:
    if value is None or value == "":
        raise ValueError("nobody judged it: preferred is empty")
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    word = str(value).strip().lower()
    for side, words in (("a", FIRST), ("b", SECOND), ("tie", TIES)):
        if word in words or word == form.names.get(f"answer_{side}", "").lower() != "":
            return side
    for side in ("a", "b"):
        if isinstance(value, str) and value == values[f"answer_{side}"]:
            return side
    raise ValueError(f"preferred is {value!r}, wanted a, b or tie (or left, right; 1, 2; a column's name; the answer)")


def _parsed(value: Any) -> Any:
    """A list that a CSV file holds as JSON, or as Python writes it; anything else as it is."""
    if not isinstance(value, str) or not value.startswith("["):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return parsed if isinstance(parsed, list) else value
    return value


def _with_aliases(names: Mapping[str, str], columns: Set[str], wanted: Sequence[str]) -> dict[str, str]:
    """``names`` and, for what is missing of ``wanted``, the first alias that is a column not taken yet."""
    mapping = dict(names)
    lower = {column.lower(): column for column in sorted(columns)}
    for name in wanted:
        candidates = [
            lower[alias] for alias in ALIASES.get(name, ()) if alias in lower and lower[alias] not in mapping.values()
        ]
        if name == "preferred":
            candidates += sorted(column for column in columns if column.endswith(RESPONSES))
        if name not in mapping and candidates:
            mapping[name] = candidates[0]
    return mapping


def _implicit(path: Path, records: Sequence[Record], names: Mapping[str, str]) -> str:
    sides = [tuple(record.values.get(names[side]) for side in PAIR) for record in records if record.values is not None]
    if any(_messages(chosen) for chosen, _ in sides):
        return "dialogue"
    texts = [(chosen, rejected) for chosen, rejected in sides if isinstance(chosen, str) and isinstance(rejected, str)]
    if any(TURN in chosen for chosen, _ in texts):
        return "dialogue"
    shared = sum(bool(common_beginning(chosen, rejected)) for chosen, rejected in texts)
    if texts and 2 * shared >= len(texts):
        return "beginning"
    raise DataError(
        _missing(path, ["prompt"], {key for record in records for key in record.values or ()})
        + " (and chosen and rejected neither hold a '\\n\\nAssistant:' dialogue nor begin alike, to take a prompt from)"
    )


def common_beginning(one: str, other: str) -> str:
    """The whole words with which two texts begin alike, white space after them included.

    TRL's ``extract_prompt`` cuts at the first character that differs, which may be in the middle of a word.
    """
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    while same > 0 and not one[same - 1].isspace():
        same -= 1
    return one[:same] if one[:same].strip() else ""


def _messages(value: Any) -> bool:
    try:
        return as_messages(value) is not None
    except ValueError:
        return True


def _missing(path: Path, missing: Sequence[str], columns: Set[str]) -> str:
    return (
        f"{path}: column {' and '.join(map(repr, missing))} is missing; found {', '.join(sorted(columns))}; wanted "
        "prompt, chosen and rejected, or prompt, answer_a, answer_b and preferred: rename the columns, or say which is "
        f"which with --map {missing[0]}=COLUMN (data.columns)"
    )
