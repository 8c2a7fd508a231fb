"""Cells of a foreign table as texts, numbers and yes or no: each column is read whole, and an error names the cell.

A number cell is a number, or its text as CSV files have it: ``0.5``, ``-3``, ``1e-4``; ``0,5`` where the columns say so
(:func:`decimal_commas`); empty, null, NaN, None, NA: unknown. Texts are never turned into numbers nor back.
"""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.data.record import MISSING
from kellet.errors import DataError

At = Callable[[int, str], str]
"""Row (from 0) and column of the contract -> where that is in the user's file."""
Mask = npt.NDArray[np.bool_]

UNKNOWN = MISSING | {"none"}
"""Texts in a number cell that say 'no value'."""
NO_LABEL = {"", "nan", "none", "null", "<na>"}
YES, NO = {"true", "t", "yes", "y", "1", "1.0"}, {"false", "f", "no", "n", "0", "0.0"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)
COMMA = re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?", re.ASCII)
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
POINT = re.compile(r"[+-]?\d*\.\d+([eE][+-]?\d+)?", re.ASCII)


def at_row(row: int, column: str) -> str:
    """The place of a cell in a table that came from no text file."""
    return f"row {row + 1}, column {column!r}"


def refuse(wrong: Mask, column: str, values: "pd.Series[Any] | Sequence[Any]", why: str, at: At = at_row) -> None:
    """Raise DataError for the first row at which ``wrong`` is True, if any."""
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    more = f" (and {int(wrong.sum()) - 1} more rows)" if wrong.sum() > 1 else ""
    value = values.iloc[row] if isinstance(values, pd.Series) else values[row]
    shown = "nothing" if is_null(value) else repr(str(value)[:80])
    raise DataError(f"{at(row, column)}: {shown}: {why}{more}")


def is_null(value: Any) -> bool:
    """Whether a cell holds no value: None, NaN, NaT, NA."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, Decimal) and value.is_nan())


def texts(values: "pd.Series[Any]", column: str, at: At = at_row) -> npt.NDArray[np.object_]:
    """A column of texts; whole numbers are written out. Everything else is refused: null, lists, floats, dates, bytes.

    A float is refused because its text is lost: 007 and 2.50 have become 7.0 and 2.5 before they came here.
    """
    cells = values.to_numpy(dtype=object)
    if not all(type(cell) is str for cell in cells):
        refuse(np.array([is_null(cell) for cell in cells], bool), column, values, "null, wanted text", at)
        kinds = [type(cell) if not isinstance(cell, np.generic) else type(cell.item()) for cell in cells]
        wrong = np.array([kind not in (str, int) and not issubclass(kind, str) for kind in kinds], bool)
        if wrong.any():
            kind = kinds[int(np.argmax(wrong))]
            advice = "; write the column as text, as it was before a program took it for a number"
            refuse(wrong, column, values, f"{_kind(kind)}, wanted text{advice if kind is float else ''}", at)
        cells = np.array([str(cell) for cell in cells], dtype=object)
    try:
        "\0".join(cells).encode()
    except UnicodeEncodeError:
        half = np.array([_lone_surrogate(cell) for cell in cells], bool)
        refuse(half, column, values, "half a character (a lone surrogate), which no UTF-8 file can hold", at)
    return cells


def labels(values: "pd.Series[Any]", column: str, at: At = at_row) -> npt.NDArray[np.object_]:
    """A column of labels, stripped; no label is an empty text."""
    cells = values.to_numpy(dtype=object)
    none = [is_null(cell) or (isinstance(cell, str) and cell.strip().lower() in NO_LABEL) for cell in cells]
    # As 3.0 is how pandas keeps the label 3 of a column in which some are missing.
    known = [str(cell) if isinstance(cell, float) else cell for cell in cells]
    filled = pd.Series(["" if empty else cell for empty, cell in zip(none, known, strict=True)], dtype=object)
    return np.array([text.strip() for text in texts(filled, column, at)], dtype=object)


def numbers(
    values: "pd.Series[Any]", column: str, at: At = at_row, *, commas: bool = False, truths: bool = False
) -> npt.NDArray[np.float64]:
    """A column of numbers, NaN where unknown.

    ``commas``: 0,5 is one half. ``truths``: a column of nothing but true and false is one of ones and zeros.
    """
    kind = values.dtype.kind if isinstance(values.dtype, np.dtype) else "O"
    if kind in ("iufb" if truths else "iuf"):
        return values.to_numpy(dtype=np.float64)
    cells = [cell.strip() if isinstance(cell, str) else cell for cell in values.to_numpy(dtype=object)]
    null = [is_null(cell) or (isinstance(cell, str) and cell.lower() in UNKNOWN) for cell in cells]
    told = [_truth(cell) if truths else None for cell in cells]
    if any(truth is not None for truth in told):
        other = np.array([truth is None and not empty for truth, empty in zip(told, null, strict=True)], bool)
        refuse(other, column, values, "among true and false; wanted one kind in the whole column", at)
        return np.array([np.nan if truth is None else truth for truth in told], np.float64)
    read = np.array(
        [np.nan if empty else _number(cell, commas) for empty, cell in zip(null, cells, strict=True)], float
    )
    wrong = np.isnan(read) & ~np.array(null, bool)
    if wrong.any():
        refuse(wrong, column, values, _not_a_number(cells[int(np.argmax(wrong))]), at)
    return read


def yes_or_no(values: "pd.Series[Any]", column: str, at: At = at_row) -> npt.NDArray[np.float64]:
    """A column of true (1) and false (0), NaN where unknown; also yes and no, 1 and 0, in any case."""
    kind = values.dtype.kind if isinstance(values.dtype, np.dtype) else "O"
    if kind in "biuf":
        given = values.to_numpy(dtype=np.float64)
        refuse(~np.isin(given, (0.0, 1.0)) & ~np.isnan(given), column, values, "wanted true or false", at)
        return given
    read, wrong = np.full(len(values), np.nan), np.zeros(len(values), bool)
    for row, cell in enumerate(values.to_numpy(dtype=object)):
        text = "" if is_null(cell) else str(cell).strip().lower()
        if text in YES or text in NO:
            read[row] = float(text in YES)
        else:
            wrong[row] = text not in UNKNOWN
    refuse(wrong, column, values, "wanted true or false", at)
    return read


def decimal_commas(columns: Iterable["pd.Series[Any]"]) -> bool:
    """Whether the number columns of a file write one half as 0,5, as spreadsheets of many countries do.

    All of them together decide: one cell that cannot be thousands (0,5; 12,25) settles it, a decimal point anywhere
    speaks against it. Where only 1,234 is seen it may be either, and :func:`numbers` refuses it.
    """
    cells = [
        cell.strip()
        for values in columns
        if not isinstance(values.dtype, np.dtype) or values.dtype.kind == "O"
        for cell in values.to_numpy(dtype=object)
        if isinstance(cell, str)
    ]
    commas = [cell for cell in cells if COMMA.fullmatch(cell)]
    return any(not THOUSANDS.fullmatch(cell) for cell in commas) and not any(POINT.fullmatch(cell) for cell in cells)


def _number(cell: Any, commas: bool) -> float:
    """The number in a cell; NaN where there is none."""
    if isinstance(cell, bool | np.bool_):
        return math.nan
    if isinstance(cell, int | float | Decimal | np.integer | np.floating):
        try:
            return float(cell)
        except (OverflowError, ValueError):  # an integer beyond 1e308; a signalling NaN
            return math.inf
    if not isinstance(cell, str):
        return math.nan
    if commas and COMMA.fullmatch(cell):
        cell = cell.replace(",", ".")
    return float(cell) if NUMBER.fullmatch(cell) else math.nan


def _truth(cell: Any) -> float | None:
    if isinstance(cell, bool | np.bool_):
        return float(cell)
    return {"true": 1.0, "false": 0.0}.get(cell.lower()) if isinstance(cell, str) else None


def _not_a_number(cell: Any) -> str:
    if not isinstance(cell, str):
        return f"{_kind(type(cell))}, not a number"
    if THOUSANDS.fullmatch(cell):
        point, plain = cell.replace(",", "."), cell.replace(",", "")
        return f"not a number that can be told: it may be {point} or {plain}; write one of these"
    if COMMA.fullmatch(cell):
        return "not a number: other cells of the file have a decimal point, this one a comma; write a point"
    return "not a number"


def _kind(kind: type) -> str:
    known = {list: "a list", dict: "an object", float: "a number with decimals", bool: "true or false", bytes: "bytes"}
    return known.get(kind, "a list" if kind is np.ndarray else f"a {kind.__name__}")


def _lone_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)
