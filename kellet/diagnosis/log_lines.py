"""Metrics in text that a training printed: verl's console lines, and dictionaries as TRL and OpenRLHF print them.

verl     ``(TaskRunner pid=12) step:1 - critic/score/mean:0.02 - actor/kl_loss:np.float64(0.001)``, colours around it
TRL      ``{'loss': 0.1, 'kl': nan, 'epoch': 0.31}`` among progress bars and warnings; also with text for numbers
OpenRLHF ``INFO ... Global step 3: {'policy_loss': 0.1, 'kl': 0.02}``
JSON     one object a line, between other lines

Sources: verl/utils/logger/aggregate_logger.py, transformers/trainer_callback.py, openrlhf/trainer/ppo_trainer.py.
"""

import ast
import json
import math
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

_COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_PREFIX = re.compile(r"^\s*\([^()]*pid=[^()]*\)\s*")
_STEP = re.compile(r"(?<![\w/.])step:(-?\d+)\s+-\s+(.*)$", re.DOTALL)
"""Not part of a longer name; a progress bar may stand right before it, without a blank."""
_GLOBAL_STEP = re.compile(r"[Gg]lobal step (\d+): *$")
_NUMBER = re.compile(r"^(?:np\.\w+\(|tensor\()?(-?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+|nan|inf))\)?(?:\s|\[|$)")
_GOES_ON = re.compile(r"^(?:[\w/@.-]*:\S+|-?[\d.]+(?:[eE][+-]?\d+)?)(?: - |\s*$)")
_THREE_DECIMALS = re.compile(r":-?\d+\.\d{3}(?=\s|$)")
_OTHER_NUMBER = re.compile(r":(?:-?\d+\.(?!\d{3}(?:\s|$))\d+|np\.)")
_OPENS = re.compile(r"\{\s*['\"][\w/@.-]+['\"]\s*:")
_MOST_LINES = 100
"""Over so many lines, at the most, a broken dictionary is put together."""
_LONGEST = 1_000_000
"""A longer line is no row of metrics."""


class TwiceError(Exception):
    """A line has a name twice with other values, so that it has no one reading."""


def read_lines(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of metrics in printed text, and notes: how many lines were none, and how the numbers were rounded.

    A line that has a metric twice, with other values, goes unread and is told.
    """
    rows: list[dict[str, Any]] = []
    others = 0
    twice: list[str] = []
    lines = list(_whole_lines(text))
    console = [line for line in lines if _STEP.search(line)]
    for line in lines:
        try:
            row = _row(line)
        except TwiceError as error:
            twice.append(str(error))
            continue
        if row is None:
            others += 1
        else:
            rows.append(row)
    notes = [f"{len(twice)} lines went unread, of which the first has {twice[0]}"] if twice else []
    if rows and others:
        held = "1 line holds" if others == 1 else f"{others:,} lines hold"
        notes.append(f"{held} no metrics and went unread")
    if console and all(_THREE_DECIMALS.search(line) and not _OTHER_NUMBER.search(line) for line in console):
        notes.append("the console rounded to 3 decimals: a figure below 0.0005, such as a KL per token, shows as 0")
    return rows, notes


def number(value: Any) -> float | None:
    """``value`` as a number, NaN and infinity included; None for what is none. Text that spells a number is one."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return _float(value)
    if isinstance(value, str) and len(value) < 64:
        text = value.strip()
        if text.lower().lstrip("+-") in ("nan", "inf", "infinity") or (text and text[-1] in ".0123456789"):
            return None if "_" in text else _float(text)
    return None


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _whole_lines(text: str) -> Iterator[str]:
    """Lines without colours and prefixes; what was one line before a terminal or a notebook broke it is one again."""
    waiting, lines = "", 0
    for piece in text.replace("\r", "\n").split("\n"):
        line = _PREFIX.sub("", _COLOURS.sub("", piece))
        if not line.strip():
            continue
        begins = bool(_STEP.search(line)) or bool(_OPENS.search(line))
        if waiting and not begins and _goes_on(waiting, line) and lines < _MOST_LINES:
            waiting, lines = waiting + line if _STEP.search(waiting) else f"{waiting} {line.strip()}", lines + 1
            continue
        if waiting:
            yield waiting
        waiting, lines = (line, 1) if begins else ("", 0)
        if not waiting:
            yield line
    if waiting:
        yield waiting


def _goes_on(begun: str, line: str) -> bool:
    """Whether a line is the rest of one that a terminal or a notebook has broken."""
    if _STEP.search(begun):
        return bool(_GOES_ON.match(line))
    return begun.count("{") > begun.count("}")


def _row(line: str) -> dict[str, Any] | None:
    """The metrics of a line, or None. A row needs one number at least."""
    if len(line) > _LONGEST:
        return None
    console = _STEP.search(line)
    row = _console(int(console[1]), console[2]) if console else _printed(line)
    return row if row and any(number(value) is not None for value in row.values()) else None


def _console(step: int, text: str) -> dict[str, Any]:
    row: dict[str, Any] = {"step": step}
    for part in text.split(" - "):
        name, colon, value = part.strip().rpartition(":")
        matched = _NUMBER.match(value)
        if colon and name and matched:
            _set(row, name, float(matched[1]))
    return row


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for key, value in pairs:
        _set(row, key, value)
    return row


def _set(row: dict[str, Any], key: str, value: Any) -> None:
    """Put a value into a row. Raises TwiceError where the row has another one by that name."""
    if key in row and repr(row[key]) != repr(value):
        raise TwiceError(f"{key!r} twice, as {row[key]!r:.50} and {value!r:.50}")
    row[key] = value


def _printed(line: str) -> dict[str, Any] | None:
    """A dictionary as Python prints it, or a JSON object, at the end of a line."""
    start = line.find("{")
    end = line.rfind("}")
    if start < 0 or end < start or (line[:start].strip() and line[end + 1 :].strip()):
        return None  # braces in the middle of a line, as in an answer that the log shows
    text = line[start : end + 1]
    try:
        row = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        row = _literal(text)
    if not isinstance(row, dict):
        return None
    step = _GLOBAL_STEP.search(line[:start])
    found = {str(key): value for key, value in row.items() if isinstance(key, str)}
    return {"step": int(step[1]), **found} if step else found


def _literal(text: str) -> Any:
    """The value of a Python literal with ``nan``, ``inf``, ``np.float64(1.0)`` and ``tensor(1.0)`` in it; else None."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler, about text that is no Python
            return _value(ast.parse(text, mode="eval").body)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Dict):
        return _unique(_items(zip(node.keys, node.values, strict=True)))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = number(_value(node.operand))
        return None if value is None else -value
    if isinstance(node, ast.Name):
        return {"nan": math.nan, "inf": math.inf}.get(node.id)
    if isinstance(node, ast.Call) and node.args:  # np.float64(0.1), tensor(0.1, device='cuda:0')
        return _value(node.args[0])
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    return None


def _items(pairs: Iterable[tuple[ast.expr | None, ast.expr]]) -> Iterator[tuple[Any, Any]]:
    for key, value in pairs:
        name = None if key is None else _value(key)
        if isinstance(name, str):
            yield name, _value(value)
