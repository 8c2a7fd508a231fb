"""Lengths of answers: one unit for all that are compared, and tokens rather than characters, as far as texts tell."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kellet.errors import DataError
from kellet.stats.words import word_count

LENGTH = "length_tokens"
SPECIAL = 8
"""Tokens that a tokenizer may add to a response, such as the end."""
ENOUGH = 5
"""Rows with different lengths that are needed to tell a unit."""


def lengths_of(files: Sequence[tuple[str, pd.DataFrame, bool]]) -> list[str]:
    """Fill ``length_tokens`` of both tables and say what was done; each file: its name, rows, whether it says tokens.

    Where one file has no lengths, words are counted in both: only one unit can be compared. Raises DataError for
    lengths in characters under a name that does not say tokens, and for two files in different units.
    """
    absent = [name for name, rows, _ in files if LENGTH not in rows]
    if absent:
        for _, rows, _ in files:
            rows[LENGTH] = [float(word_count(text)) for text in rows["response"]]
        if len(absent) == 1:
            why = "because lengths have to be in one unit"
            return [f"{absent[0]} has no length column: words are counted in both files, not tokens, {why}"]
        return [f"{' and '.join(absent)} have no length column: words are counted, not tokens"]
    notes, units = [], []
    for name, rows, stated in files:
        unit = unit_of(rows)
        if unit in ("characters", "bytes") and not stated:
            raise DataError(f"{name}: the lengths are the number of {unit} of each response; {_ADVICE}")
        if unit == "impossible" and not stated:
            raise DataError(
                f"{name}: most lengths are more than the bytes of their response, or fewer than a third of its words; "
                f"do they count the prompt or padding, or something else? {_ADVICE}"
            )
        if unit == "constant":
            raise DataError(
                f"{name}: every length is {rows[LENGTH].iloc[0]:g}, {_PADDED}; give each answer's own tokens, or leave "
                "the lengths out and words are counted"
            )
        if unit in ("characters", "bytes", "words"):
            notes.append(f"{name}: the lengths are the number of {unit} of each response")
        if unit == "impossible":
            notes.append(f"{name}: most lengths cannot be numbers of tokens of their responses")
        units.append("" if unit == "impossible" else unit)
    if units[0] != units[1] and all(units) and not all(stated for _, _, stated in files):
        named = " and ".join(f"{name} in {unit}" for (name, _, _), unit in zip(files, units, strict=True))
        raise DataError(f"the lengths are in different units: {named}; {_ADVICE}")
    return notes


def notes_on_lengths(rows: pd.DataFrame) -> list[str]:
    """What is odd about the lengths of an evaluation, whose column says tokens: a sentence for each system."""
    notes = []
    for system, part in rows.groupby("system"):
        unit = unit_of(part)
        if unit == "impossible":
            notes.append(f"most lengths of the {system} cannot be numbers of tokens of their responses")
        elif unit == "constant":
            notes.append(f"every length of the {system} is {part[LENGTH].iloc[0]:g}, {_PADDED}")
        elif unit in ("characters", "bytes", "words"):
            notes.append(f"the lengths of the {system} are the number of {unit} of each response")
    return notes


_PADDED = "although the answers differ in length: padding seems to be counted"
_ADVICE = (
    "give tokens in a column length_tokens, or leave it out and words are counted; --map length_tokens=COLUMN takes it "
    "as it is"
)


def unit_of(rows: pd.DataFrame) -> str:
    """What the lengths count, as far as texts tell.

    'characters', 'bytes' or 'words' where they are it in every row, 'impossible' where most rows cannot be tokens,
    'constant' where one number stands in all rows although some texts have twice the words of others and were not all
    cut, else 'tokens'; '' where too few rows differ to tell.
    """
    known = rows[rows[LENGTH].notna()]
    lengths = known[LENGTH].to_numpy(np.float64)
    texts = known["response"].tolist()
    counts = {
        "words": np.array([word_count(text) for text in texts], float),
        "characters": np.array([len(text) for text in texts], float),
        "bytes": np.array([len(text.encode()) for text in texts], float),
    }
    for unit, count in counts.items():
        if (lengths == count).all() and len(set(count)) >= ENOUGH:
            return unit
    wrong = (lengths > counts["bytes"] + SPECIAL) | (3 * lengths < counts["words"])
    if 2 * wrong.sum() > len(lengths) and len(lengths) >= ENOUGH:
        return "impossible"
    if len(set(counts["words"])) < ENOUGH:
        return ""
    cut = "truncated" in known and (known["truncated"] == 1).all()
    constant = len(set(lengths)) == 1 and counts["words"].max() >= 2 * max(1, counts["words"].min()) and not cut
    return "constant" if constant else "tokens"
