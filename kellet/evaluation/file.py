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

Other columns are allowed and ignored. Errors name a row by its number among the data rows, counted from 1.
"""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.errors import DataError

SYSTEMS = ("candidate", "reference", "champion", "anchor")
TEXTS = ("prompt_id", "prompt", "system", "response")
NEEDED = (*TEXTS, "sample", "reward", "length_tokens")
OPTIONAL = ("kl_nats", "truncated")
CLUSTER, DRAW = "cluster", "draw"
KL_NOISE = 1e-6
"""A full KL may be this far below zero by rounding, nats."""
LARGEST = 1e100
"""Larger values are refused: every interval squares and sums them, which would overflow."""
BOOLEANS = {"true": 1.0, "1": 1.0, "1.0": 1.0, "false": 0.0, "0": 0.0, "0.0": 0.0}

Mask = npt.NDArray[np.bool_]


def read_evaluation(path: Path) -> pd.DataFrame:
    """Read ``.parquet`` or ``.csv`` (UTF-8), check it, and return it with rows and columns in a fixed order.

    Raises DataError with the row and the column of the first error; see :func:`check_evaluation`.
    """
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            table = pd.read_parquet(path)
        elif path.suffix.lower() == ".csv":
            text = path.read_bytes().decode("utf-8-sig")
            table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, quotechar='"')
        else:
            raise DataError(f"{path}: an evaluation file ends in .parquet or .csv, got {path.suffix or 'no ending'!r}")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: line {line} is not UTF-8 ({error.reason}); save the file as UTF-8") from error
    except (OSError, ValueError) as error:  # pandas and pyarrow raise subclasses of ValueError
        raise DataError(f"{path}: cannot be read as an evaluation file: {error}") from error
    try:
        return check_evaluation(table)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def check_evaluation(table: pd.DataFrame) -> pd.DataFrame:
    """Check ``table`` and return the columns above, typed, sorted by prompt_id, system and sample.

    Raises DataError, with row and column, for: a missing column or system, an empty table, a value of the wrong kind,
    a reward or length that is not finite, a negative length, a KL or reward_std that is infinite or negative, a key
    (prompt_id, system, sample) given twice, one prompt_id with two texts, prompts that not all systems answered, and
    sample numbers of which two systems share none.
    """
    missing = [name for name in NEEDED if name not in table.columns]
    if missing:
        found = ", ".join(map(str, table.columns))
        raise DataError(f"column {', '.join(map(repr, missing))} is missing; found {found}")
    if not len(table):
        raise DataError("the evaluation has no rows; it needs answers of the candidate and of the reference")
    rows = pd.DataFrame({name: _texts(table, name) for name in TEXTS})
    extra = sorted(str(name) for name in table.columns if str(name).startswith("judge_") or name == "reward_std")
    for name in ("sample", "reward", "length_tokens", *([DRAW] if DRAW in table.columns else [])):
        rows[name] = _numbers(table, name, nullable=False)
    if CLUSTER in table.columns:
        rows[CLUSTER] = table[CLUSTER].where(table[CLUSTER].notna(), "").astype(str).str.strip().to_numpy(dtype=object)
    for name in (*OPTIONAL, *extra):
        rows[name] = _numbers(table, name, nullable=True) if name in table.columns else np.full(len(table), np.nan)
    _check_values(rows, extra)
    _check_keys(rows)
    rows["sample"] = rows["sample"].astype(np.int64)
    if DRAW in rows:
        rows[DRAW] = rows[DRAW].astype(np.int64)
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


def _texts(table: pd.DataFrame, name: str) -> npt.NDArray[np.object_]:
    values = table[name]
    _refuse(values.isna().to_numpy(), name, values, "null, wanted text")
    texts = values.astype(str).to_numpy(dtype=object)
    if name == "prompt_id":
        _refuse(np.array([not text.strip() for text in texts]), name, values, "blank, wanted an id")
    if name == "system":
        _refuse(~np.isin(texts.astype(str), SYSTEMS), name, values, f"wanted one of {', '.join(SYSTEMS)}")
    return texts


def _numbers(table: pd.DataFrame, name: str, nullable: bool) -> npt.NDArray[np.float64]:
    """Convert a column to floats, null to NaN; text that is not a number is refused."""
    values = table[name]
    if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        null = np.isnan(numbers)
    else:
        texts = values.astype(object).where(values.notna(), "").astype(str).str.strip().str.lower()
        null = texts.isin(["", "nan", "none", "null", "<na>"]).to_numpy()
        convert: Callable[[Any], Any] = BOOLEANS.get if name == "truncated" else _number
        pairs = zip(null, texts, strict=True)
        numbers = np.array([np.nan if empty else convert(text) for empty, text in pairs], object).astype(np.float64)
        wanted = "wanted true or false" if name == "truncated" else "not a number"
        _refuse(np.isnan(numbers) & ~null, name, values, wanted)
    if not nullable:
        _refuse(null, name, values, "missing or NaN, wanted a finite number")
    return numbers


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _check_values(rows: pd.DataFrame, extra: list[str]) -> None:
    for name in ("sample", "reward", "length_tokens", *OPTIONAL, *extra):
        _refuse(np.isinf(rows[name].to_numpy()), name, rows[name], "infinite, wanted a finite number")
        _refuse(np.abs(rows[name].to_numpy()) > LARGEST, name, rows[name], f"wanted a number of at most {LARGEST:g}")
    sample, length, kl = (rows[name].to_numpy() for name in ("sample", "length_tokens", "kl_nats"))
    _refuse((sample < 0) | (sample % 1 != 0), "sample", rows["sample"], "wanted 0, 1, 2, ...")
    _refuse(length < 0, "length_tokens", rows["length_tokens"], "negative, wanted a count of tokens")
    if "reward_std" in extra:
        wrong = rows["reward_std"].to_numpy() < 0
        _refuse(wrong, "reward_std", rows["reward_std"], "negative, wanted a standard deviation")
    wanted = "negative, which full KL never is; give full KL (or the k3 estimator), not the k1 sum"
    _refuse(kl < -KL_NOISE, "kl_nats", rows["kl_nats"], wanted)
    odd = ~np.isin(rows["truncated"].to_numpy(), (0.0, 1.0)) & rows["truncated"].notna().to_numpy()
    _refuse(odd, "truncated", rows["truncated"], "wanted true or false")


def _check_keys(rows: pd.DataFrame) -> None:
    repeated = rows.duplicated(["prompt_id", "system", "sample"]).to_numpy()
    wanted = "the same prompt_id, system and sample as an earlier row; number the samples"
    _refuse(repeated, "sample", rows["prompt_id"] + "/" + rows["system"], wanted)
    first = rows.groupby("prompt_id", sort=False)["prompt"].transform("first")
    _refuse((rows["prompt"] != first).to_numpy(), "prompt", rows["prompt_id"], "another text than this prompt_id had")
    if CLUSTER in rows:
        first = rows.groupby("prompt_id", sort=False)[CLUSTER].transform("first")
        wanted = "another cluster than this prompt_id had; a prompt belongs to one"
        _refuse((rows[CLUSTER] != first).to_numpy(), CLUSTER, rows[CLUSTER], wanted)
    present = [name for name in SYSTEMS if (rows["system"] == name).any()]
    for name in SYSTEMS[:2]:
        if name not in present:
            raise DataError(f"column 'system' has no row for {name!r}; found only {', '.join(present)}")
    ids = {name: set(rows.loc[rows["system"] == name, "prompt_id"]) for name in present}
    for name in SYSTEMS[:2] if DRAW in rows else present:
        absent = ~rows["prompt_id"].isin(list(ids[name])).to_numpy()
        _refuse(absent, "prompt_id", rows["prompt_id"], f"a prompt that {name!r} has not answered; answer all alike")
    candidate = rows["system"] == "candidate"
    for name in present[1:]:
        keys = [rows.loc[part, ["prompt_id", "sample"]] for part in (candidate, rows["system"] == name)]
        if keys[0].merge(keys[1]).empty:
            wanted = f"no answer of {name!r} to the same prompt has this number; number each system's samples alike"
            _refuse(candidate.to_numpy(), "sample", rows["sample"], wanted)


def _refuse(wrong: Mask, column: str, values: "pd.Series[Any]", why: str) -> None:
    """Raise DataError for the first row at which ``wrong`` is True, if any."""
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    more = f" (and {int(wrong.sum()) - 1} more rows)" if wrong.sum() > 1 else ""
    raise DataError(f"row {row + 1}, column {column!r}: {str(values.iloc[row])[:80]!r}: {why}{more}")
