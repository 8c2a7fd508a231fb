"""The evaluation file: each row is one answer of one system to one held-out prompt. It is checked, never repaired.

    prompt_id      names the prompt; all systems answer the same prompts
    prompt         its text
    system         candidate, reference, champion (optional) or anchor (optional: the champion that was last shown
                   better than the anchor before it; left out where that is the champion of now)
    sample         0, 1, ...: several answers of a system to the same prompt
    response       the answer's text, may be empty
    reward         score that the policy was trained on, finite
    length_tokens  tokens of the response, >= 0
    kl_nats        full KL of this response from the reference, nats; null where unknown, >= 0
    reward_std     standard deviation of the reward between an ensemble's members; may be left out, >= 0
    truncated      whether the response was cut at the token limit; null where unknown
    judge_*        any number of judges' scores, higher is better; null where not judged
    cluster        topic, customer or conversation that the prompt belongs to; may be left out. What shares one is not
                   independent: intervals are made over clusters. Blank or null: of none. Equal prompt texts are always
                   one cluster
    draw           only in joined evaluations (kellet/evaluation/joined.py): 1 for the first answers to a prompt, 2 for
                   those drawn anew, which have an id of their own; not all draws have a champion and an anchor

Names may differ in case and in surrounding blanks; other columns are left out, and named (columns.py beside this).
What a cell may hold: cells.py. A response or a prompt may be a list of messages: messages.py. Errors name the column
and the line of the file, or the row among the data rows, counted from 1.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from kellet.data.account import Entry
from kellet.data.raw_files import read_records, suffix_of
from kellet.errors import DataError
from kellet.evaluation.cells import At, at_row, decimal_commas, labels, numbers, refuse, texts, yes_or_no
from kellet.evaluation.columns import CLUSTER as CLUSTER
from kellet.evaluation.columns import DRAW as DRAW
from kellet.evaluation.columns import JUDGE, OPTIONAL, STD, TEXTS, ours_to_theirs
from kellet.evaluation.messages import prompt_texts, response_texts
from kellet.evaluation.oddities import (
    oddities,
    refuse_codes,
    refuse_lost_answers,
    refuse_padded_lengths,
    unmeasured_kl,
)
from kellet.manifest import check_file

SYSTEMS = ("candidate", "reference", "champion", "anchor")
KL_NOISE = 1e-6
"""A full KL may be this far below zero by rounding, nats."""
UNMEASURED = (
    "the KL of the candidate is exactly 0 in every answer, although they are not the reference's: it was not measured, "
    "and is taken as unknown"
)
LARGEST = 1e100
"""Larger values are refused: every interval squares and sums them, which would overflow."""
LARGEST_SAMPLE = 2**31
"""Sample numbers are below this: prompts times samples have to fit 64 bits."""


def read_evaluation(path: Path) -> pd.DataFrame:
    """Read a file of rows (:func:`kellet.data.raw_files.read_records`), check it, and return it in a fixed order.

    Raises DataError with the place and the column of the first error; see :func:`check_evaluation`.
    """
    return read_accounted(path)[0]


def read_accounted(path: Path, notes: list[str] | None = None) -> tuple[pd.DataFrame, list[Entry]]:
    """As :func:`read_evaluation`, and the account of the file's columns; ``notes`` gets sentences on what is odd."""
    table, lines = read_table(path, notes)
    try:
        names, entries = ours_to_theirs(list(table.columns))
        place = place_of(path)
        rows = _checked(table, names, lambda row, column: f"{place} {lines[row]}, column {names.get(column, column)!r}")
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    if notes is not None:
        notes += oddities(rows)
        if "kl_nats" in names and rows["kl_nats"].isna().all():
            given = numbers(table[names["kl_nats"]], "kl_nats")
            notes += [] if np.isnan(given).all() else [UNMEASURED]
    known = {name: float(rows[name].notna().mean()) for name in rows.columns}
    return rows, [replace(entry, share=known.get(entry.taken_for)) for entry in entries]


def read_table(path: Path, notes: list[str] | None = None) -> tuple[pd.DataFrame, list[int]]:
    """The rows of a file as they are, nothing converted, and the line (in Parquet: the row) of each.

    Raises DataError for a row that cannot be read, and for a file that is not as the manifest beside it says.
    """
    check_file(path)
    rows, lines = [], []
    for record in read_records(path, notes):
        if record.values is None:
            raise DataError(f"{path}: {place_of(path)} {record.line}: {record.reason}")
        rows.append(record.values)
        lines.append(record.line)
    names = list(dict.fromkeys(name for row in rows for name in row))
    columns = {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names}
    return pd.DataFrame(columns), lines


def place_of(path: Path) -> str:
    """What a row of a file is called in an error."""
    return "row" if suffix_of(path.name) in (".parquet", ".pq") else "line"


def check_evaluation(table: pd.DataFrame) -> pd.DataFrame:
    """Check ``table`` and return the columns above, typed, sorted by prompt_id, system and sample.

    Raises DataError, with row and column, for: a missing column or system, a column that is there twice or looks like
    one of ours misspelt, an empty table, a value of the wrong kind, a reward or length that is not finite, a negative
    length, a KL or reward_std that is infinite or negative, a key (prompt_id, system, sample) given twice, one
    prompt_id with two texts, prompts that not all systems answered, and sample numbers of which two systems share none.
    """
    return checked(table, at_row)


def checked(table: pd.DataFrame, at: At) -> pd.DataFrame:
    """As :func:`check_evaluation`; ``at`` says in an error where a row came from."""
    return _checked(table, ours_to_theirs(list(map(str, table.columns)))[0], at)


def _checked(table: pd.DataFrame, names: dict[str, str], at: At) -> pd.DataFrame:
    if not len(table):
        raise DataError("the evaluation has no rows; it needs answers of the candidate and of the reference")
    given = {ours: table.iloc[:, [str(name) for name in table.columns].index(theirs)] for ours, theirs in names.items()}
    readers = {"prompt": prompt_texts, "response": response_texts}
    rows = pd.DataFrame({name: readers.get(name, texts)(given[name], name, at) for name in TEXTS})
    _check_texts(rows, at)
    extra = sorted(name for name in names if name.startswith(JUDGE) or name == STD)
    needed = ("sample", "reward", "length_tokens", *([DRAW] if DRAW in names else []))
    counted = [name for name in (*needed, "kl_nats", *extra) if name in names]
    commas = decimal_commas(given[name] for name in counted)
    read = {
        name: numbers(given[name], name, at, commas=commas, truths=name == "reward" or name.startswith(JUDGE))
        for name in counted
    }
    if "truncated" in names:
        read["truncated"] = yes_or_no(given["truncated"], "truncated", at)
    for name in needed:
        rows[name] = read[name]
        refuse(np.isnan(read[name]), name, given[name], "missing or NaN, wanted a finite number", at)
    if CLUSTER in names:
        rows[CLUSTER] = labels(given[CLUSTER], CLUSTER, at)
    for name in (*OPTIONAL, *extra):
        rows[name] = read.get(name, np.full(len(table), np.nan))
    _check_values(rows, extra, at)
    refuse_codes(rows, at)
    refuse_lost_answers(rows, at)
    refuse_padded_lengths(rows, at)
    _check_keys(rows, at)
    if unmeasured_kl(rows):
        rows["kl_nats"] = np.nan
    for name in ("sample", *([DRAW] if DRAW in rows else [])):
        rows[name] = rows[name].astype(np.int64)
    return rows.sort_values(["prompt_id", "system", "sample"], kind="stable", ignore_index=True)


def prompt_id(prompt: str) -> str:
    """First 16 hex digits of the SHA-256 of a prompt's text: the ``prompt_id`` that Kellet writes."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:16]


def evaluation_hash(rows: pd.DataFrame) -> str:
    """SHA-256 (hex) of checked rows; it does not depend on the file format or on the order of the rows."""
    digest = hashlib.sha256()
    for name in rows.columns:
        values = rows[name]
        text = "\0".join(values.astype(str)) if name in (*TEXTS, CLUSTER) else values.to_numpy(np.float64).tobytes()
        digest.update(name.encode() + b"\0" + (text.encode() if isinstance(text, str) else text) + b"\0")
    return digest.hexdigest()


def _check_texts(rows: pd.DataFrame, at: At) -> None:
    rows["system"] = [text.strip().lower() for text in rows["system"]]
    blank = np.array([not text.strip() for text in rows["prompt_id"]])
    refuse(blank, "prompt_id", rows["prompt_id"], "blank, wanted an id", at)
    wrong = ~rows["system"].isin(SYSTEMS).to_numpy()
    wanted = (
        f"wanted one of {', '.join(SYSTEMS)}; rename the trained policy to candidate and the model it started from "
        "to reference"
    )
    refuse(wrong, "system", rows["system"], wanted, at)


def _check_values(rows: pd.DataFrame, extra: list[str], at: At) -> None:
    for name in ("sample", "reward", "length_tokens", *OPTIONAL, *extra):
        refuse(np.isinf(rows[name].to_numpy()), name, rows[name], "infinite, wanted a finite number", at)
        refuse(np.abs(rows[name].to_numpy()) > LARGEST, name, rows[name], f"wanted a number of at most {LARGEST:g}", at)
    sample, length, kl = (rows[name].to_numpy() for name in ("sample", "length_tokens", "kl_nats"))
    odd = (sample < 0) | (sample % 1 != 0) | (sample >= LARGEST_SAMPLE)
    refuse(odd, "sample", rows["sample"], "wanted 0, 1, 2, ...", at)
    refuse(length < 0, "length_tokens", rows["length_tokens"], "negative, wanted a count of tokens", at)
    if "reward_std" in extra:
        wrong = rows["reward_std"].to_numpy() < 0
        refuse(wrong, "reward_std", rows["reward_std"], "negative, wanted a standard deviation", at)
    wanted = (
        "negative, which full KL never is; give full KL (or the k3 estimator), not the k1 sum, or rename the column "
        "(kl_k1), and KL is unknown"
    )
    refuse(kl < -KL_NOISE, "kl_nats", rows["kl_nats"], wanted, at)


def _check_keys(rows: pd.DataFrame, at: At) -> None:
    repeated = rows.duplicated(["prompt_id", "system", "sample"]).to_numpy()
    wanted = "the same prompt_id, system and sample as an earlier row; number the samples"
    refuse(repeated, "sample", rows["prompt_id"] + "/" + rows["system"], wanted, at)
    first = rows.groupby("prompt_id", sort=False)["prompt"].transform("first")
    other = (rows["prompt"] != first).to_numpy()
    wanted = "another text than this prompt_id had"
    if other.any() and (rows["prompt"].str.split() == first.str.split()).all():
        wanted += "; they differ in white space only: write the same text for all systems"
    refuse(other, "prompt", rows["prompt_id"], wanted, at)
    if CLUSTER in rows:
        first = rows.groupby("prompt_id", sort=False)[CLUSTER].transform("first")
        wanted = "another cluster than this prompt_id had; a prompt belongs to one"
        refuse((rows[CLUSTER] != first).to_numpy(), CLUSTER, rows[CLUSTER], wanted, at)
    present = [name for name in SYSTEMS if (rows["system"] == name).any()]
    for name in SYSTEMS[:2]:
        if name not in present:
            raise DataError(f"column 'system' has no row for {name!r}; found only {', '.join(present)}")
    ids = {name: set(rows.loc[rows["system"] == name, "prompt_id"]) for name in present}
    for name in SYSTEMS[:2] if DRAW in rows else present:
        absent = ~rows["prompt_id"].isin(list(ids[name])).to_numpy()
        refuse(absent, "prompt_id", rows["prompt_id"], f"a prompt that {name!r} has not answered; answer all alike", at)
    candidate = rows["system"] == "candidate"
    for name in present[1:]:
        keys = [rows.loc[part, ["prompt_id", "sample"]] for part in (candidate, rows["system"] == name)]
        if keys[0].merge(keys[1]).empty:
            wanted = f"no answer of {name!r} to the same prompt has this number; number each system's samples alike"
            refuse(candidate.to_numpy(), "sample", rows["sample"], wanted, at)
