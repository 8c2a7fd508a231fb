"""Blind comparisons by people: drawn from an evaluation as a sheet, and read back as the column judge_human.

Each row of a sheet is one comparison: two answers to the same prompt, called A and B in random order. The key, which
the reviewers do not get, says which is the candidate's. Each reviewer fills in a copy of the sheet. An answer's score
is the mean of its reviewers' verdicts: 1 where it was called better, 0.5 for a tie, 0 where it was called worse. The
gate then counts a win where most reviewers preferred the candidate.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kellet.data.conversation import as_text
from kellet.data.raw_files import read_records
from kellet.data.record import shown
from kellet.errors import DataError, InputError
from kellet.evaluation.file import evaluation_hash
from kellet.files import atomic_file, value_hash, write_json

CANDIDATE = "candidate"
JUDGE = "judge_human"
FIELDS = ("item", "prompt", "answer_a", "answer_b", "better", "comment")
VERDICTS = ("a", "b", "tie")
FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that starts with one of these is a formula to a spreadsheet program."""

Key = dict[str, Any]


def draw(rows: pd.DataFrame, against: str, pairs: int, seed: int) -> tuple[pd.DataFrame, Key]:
    """A sheet of up to ``pairs`` comparisons of the candidate with ``against``, and its key.

    ``rows`` are a checked evaluation's. Prompts are drawn at random, with one comparison each, among the answers that
    nobody has judged yet. Equal answers count as ties without asking anybody; they are in the key but not in the sheet.
    Raises InputError when there is nothing to compare.
    """
    table = rows if JUDGE in rows else rows.assign(**{JUDGE: np.nan})
    unjudged = table[table[JUDGE].isna()]
    if against not in set(rows["system"]):
        raise InputError(f"the evaluation has no answers of {against!r}; it has {', '.join(rows['system'].unique())}")
    sides = [unjudged[unjudged["system"] == system] for system in (CANDIDATE, against)]
    both = sides[0].merge(sides[1], on=["prompt_id", "sample"], suffixes=("_candidate", "_other"))
    if both.empty:
        raise InputError(f"people have judged every answer of candidate and {against} already ({JUDGE} is filled)")
    rng = np.random.default_rng([seed, 11])
    # In random order the first row of each prompt is a random sample of it, and the first prompts are random prompts.
    drawn = both.iloc[rng.permutation(len(both))].drop_duplicates("prompt_id").head(pairs)
    digest, lines, items, ties = evaluation_hash(rows), [], [], []
    for row, candidate_first in zip(drawn.to_dict("records"), rng.random(len(drawn)) < 0.5, strict=True):
        answer = {"prompt_id": row["prompt_id"], "sample": int(row["sample"])}
        if row["response_candidate"].strip() == row["response_other"].strip():
            ties.append(answer)
            continue
        item = value_hash([digest, seed, *answer.values()])[:8]
        texts = (row["response_candidate"], row["response_other"])
        first, second = texts if candidate_first else texts[::-1]
        lines.append((item, as_text(row["prompt_candidate"]), first, second, "", ""))
        items.append({"item": item, **answer, "candidate": "a" if candidate_first else "b"})
    key = {"evaluation_rows_sha256": digest, "against": against, "seed": seed, "items": items, "ties": ties}
    return pd.DataFrame(lines, columns=FIELDS), key


def write(sheet: pd.DataFrame, key: Key, path: Path, key_path: Path) -> None:
    """Write the sheet as CSV that spreadsheet programs open, and the key as JSON.

    Raises InputError when the key exists: sheets that were filled in for it could not be read without it.
    """
    if key_path.exists():
        raise InputError(f"{key_path} exists, and filled sheets may need it; name another --key, or remove it")
    safe = sheet.map(lambda text: f"'{text}" if text.startswith(FORMULA) else text)
    with atomic_file(path) as temporary:
        # The byte order mark tells spreadsheet programs that this is UTF-8.
        safe.to_csv(temporary, index=False, encoding="utf-8-sig", quoting=csv.QUOTE_ALL)
    write_json(key_path, key)


def read_key(path: Path) -> Key:
    """Read the key of a sheet. Raises DataError when the file is not a key."""
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        return key if {"evaluation_rows_sha256", "against", "items", "ties"} <= set(key) else _no_key(path)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: no key of 'kellet spot-check export' ({error}); name it with --key") from error


def read_verdicts(files: Sequence[Path], key: Key) -> pd.DataFrame:
    """One row for each verdict: reviewer (the file's name), item, candidate (1 better, 0.5 tie, 0 worse), verdict.

    Rows without a verdict are skipped. Raises DataError with row and column for an unknown item, an item given twice or
    a verdict other than a, b and tie, and when a file has no verdict or two files have the same name.
    """
    sides = {entry["item"]: entry["candidate"] for entry in key["items"]}
    parts: list[pd.DataFrame] = []
    for file in files:
        sheet = _read_sheet(file)
        better = sheet["better"].str.strip().str.lower()
        item = sheet["item"].str.strip().str.removeprefix("'")
        _refuse(~item.isin(list(sides)), file, "item", sheet, "no comparison of this key; a sheet of another export?")
        _refuse(item.duplicated(), file, "item", sheet, "given twice; a reviewer judges a comparison once")
        _refuse(~better.isin(["", *VERDICTS]), file, "better", sheet, "wanted a, b, tie, or nothing where not judged")
        given = better != ""
        if not given.any():
            raise DataError(f"{file}: column 'better' is empty in every row; write a, b or tie")
        if file.stem in {str(part["reviewer"].iloc[0]) for part in parts}:
            raise DataError(f"two sheets are called {file.stem!r}; name each file after its reviewer")
        won = (better == item.map(sides)).astype(float).where(better != "tie", 0.5)
        verdicts = pd.DataFrame({"reviewer": file.stem, "item": item, "candidate": won, "verdict": better})
        parts.append(verdicts[given])
    return pd.concat(parts, ignore_index=True)


def add_verdicts(rows: pd.DataFrame, key: Key, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Write the verdicts as scores of both answers into judge_human; scores that it had before stay.

    Raises DataError when ``rows`` is not the evaluation that the sheet was drawn from.
    """
    if evaluation_hash(rows) != key["evaluation_rows_sha256"]:
        raise DataError("this is not the evaluation that the sheet was drawn from; name that one with --evaluation")
    mean = verdicts.groupby("item")["candidate"].mean()
    scores: dict[tuple[str, str, int], float] = {}
    for entry in [*key["items"], *key["ties"]]:
        score = mean.get(entry["item"], np.nan) if "item" in entry else 0.5
        scores[CANDIDATE, entry["prompt_id"], entry["sample"]] = score
        scores[key["against"], entry["prompt_id"], entry["sample"]] = 1 - score
    keys = zip(rows["system"], rows["prompt_id"], rows["sample"], strict=True)
    new = pd.Series([scores.get(answer, np.nan) for answer in keys], index=rows.index, dtype=float)
    return rows.assign(**{JUDGE: new.fillna(rows[JUDGE]) if JUDGE in rows else new})


def _read_sheet(file: Path) -> pd.DataFrame:
    """A filled sheet, its cells as texts, indexed by the line on which each row starts; rows without any text left out.

    Spreadsheet programs write semicolons where a comma is the decimal sign, and leave out empty cells at a row's end.
    """
    names, lines, rows = list[str](), list[int](), list[dict[str, str]]()
    for record in read_records(file, short_rows=True, suffix=".csv"):
        if record.values is None:
            raise DataError(f"{file}: line {record.line}: {record.reason}; save the sheet again as CSV")
        row = {name: "" if value is None else str(value) for name, value in record.values.items()}
        names += [name for name in row if name not in names]
        if any(cell.strip() for cell in row.values()):
            lines.append(record.line)
            rows.append(row)
    missing = [name for name in ("item", "better") if name not in names]
    if missing:
        raise DataError(f"{file}: column {missing[0]!r} is missing; found {', '.join(map(shown, names))}")
    return pd.DataFrame(rows, index=lines, columns=names, dtype=object).fillna("")


def _refuse(wrong: "pd.Series[bool]", file: Path, column: str, sheet: pd.DataFrame, why: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong.to_numpy()))
        more = f" (and {int(wrong.sum()) - 1} more rows)" if wrong.sum() > 1 else ""
        cell = sheet[column].iloc[row][:80]
        raise DataError(f"{file}: line {sheet.index[row]}, row {row + 1}, column {column!r}: {cell!r}: {why}{more}")


def _no_key(path: Path) -> Key:
    raise DataError(f"{path}: no key of 'kellet spot-check export'; name it with --key")
