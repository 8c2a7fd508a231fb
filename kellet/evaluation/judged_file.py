"""An evaluation with one more judge column, written so that nothing of what was there is lost.

A Parquet file keeps all of its columns, in their order and types, those that Kellet does not read too, and the order of
its rows. Any other file is written anew with the columns that Kellet reads, and therefore never in place.
"""

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kellet.data.raw_files import suffix_of
from kellet.errors import DataError, InputError
from kellet.evaluation.cells import numbers, texts
from kellet.evaluation.columns import TEXTS, ours_to_theirs
from kellet.evaluation.file import check_evaluation, evaluation_hash, read_evaluation, read_table
from kellet.files import atomic_file

PARQUET = (".parquet", ".pq")
RESERVED = ("judge_human", "judge_gold", "judge_reward")
"""Columns of people, of the world's truth and of the second reward model."""
KEY = ["prompt_id", "system", "sample"]


def check_column(name: str) -> None:
    """Raise InputError for a name that no model's column may have."""
    if not re.fullmatch(r"judge_[A-Za-z0-9_.-]+", name):
        raise InputError(
            f"--column got {name!r}; a judge's column is named judge_NAME, of letters, digits, '_', '.', '-'"
        )
    if name.lower() in RESERVED:
        raise InputError(
            f"--column got {name!r}, which is not a model's: it holds {_MEANS[name.lower()]}; name another"
        )


_MEANS = {
    "judge_human": "people's verdicts",
    "judge_gold": "the support world's true helpfulness",
    "judge_reward": "the second reward model's scores",
}


def place_for(source: Path, out: Path | None, in_place: bool) -> Path:
    """Where the judged evaluation goes: ``source`` itself, ``out``, or STEM.judged.parquet beside the source.

    Raises InputError where that would lose columns or is no kind of file that is written.
    """
    if in_place and out is not None:
        raise InputError(f"--in-place and --out {out} both name a place; give one of them")
    if in_place:
        if suffix_of(source.name) not in PARQUET:
            raise InputError(f"--in-place keeps every column of a Parquet file; of {source} give --out FILE.parquet")
        return source
    place = out or source.with_name(f"{source.name.removesuffix(suffix_of(source.name))}.judged.parquet")
    if suffix_of(place.name) not in (*PARQUET, ".csv"):
        raise InputError(f"--out {place}: an evaluation is written as .parquet or .csv")
    if place.exists() and source.exists() and place.samefile(source):
        raise InputError(f"--out {place} is the evaluation itself; write into it with --in-place")
    return place


def merged(rows: pd.DataFrame, column: str, scores: npt.NDArray[np.float64], where: Path) -> pd.DataFrame:
    """``rows`` with the scores in ``column``; what it had is kept.

    Raises InputError where it has another score for an answer that is scored now: that is another judge's.
    """
    new = pd.Series(scores, index=rows.index, dtype=np.float64)
    old = rows[column] if column in rows else pd.Series(np.nan, index=rows.index)
    other = int((old.notna() & new.notna() & (old != new)).sum())
    if other:
        raise InputError(
            f"{where} has other scores in {column} for {other:,} answers, of another judge, rubric or setting; name "
            "another --column"
        )
    return check_evaluation(rows.assign(**{column: new.fillna(old)}))


def scores_at(place: Path, rows: pd.DataFrame, column: str) -> npt.NDArray[np.float64]:
    """The scores (N,) in ``column`` of the file in ``place``, NaN where it has none; all NaN where there is no file.

    Raises InputError where it is not the evaluation ``rows`` with at most this column more: it would be lost.
    """
    nothing = np.full(len(rows), np.nan)
    if not place.exists():
        return nothing
    try:
        there = read_evaluation(place)
    except DataError as error:
        raise InputError(f"{place} exists and is no evaluation ({error}); name another --out") from error
    if _without(there, column) != _without(rows, column):
        raise InputError(
            f"{place} exists and is another evaluation, or has columns that would be lost; judge that one with "
            "--in-place, or name another --out"
        )
    return there[column].to_numpy(np.float64) if column in there else nothing


def write_judged(source: Path, place: Path, judged: pd.DataFrame, column: str) -> None:
    """Write ``judged``, the checked rows of ``source`` with the column, to ``place`` in one step.

    Raises InputError where the answers in ``source`` are others than those that were judged. What else was added to it
    meanwhile is kept.
    """
    now = read_evaluation(source)
    if not now[[*TEXTS, "sample"]].equals(judged[[*TEXTS, "sample"]]):
        raise InputError(f"{source} has changed since it was judged; judge it again, replies that still fit are kept")
    written = merged(now, column, judged[column].to_numpy(np.float64), source)
    if place != source:
        written = merged(written, column, scores_at(place, now, column), place)
    with atomic_file(place) as temporary:
        if suffix_of(source.name) in PARQUET and suffix_of(place.name) in PARQUET:
            pq.write_table(_with_column(source, written, column), temporary)
        elif suffix_of(place.name) in PARQUET:
            written.to_parquet(temporary, index=False)
        else:
            written.to_csv(temporary, index=False)
        _require_whole(temporary, written, place)


def _require_whole(temporary: Path, written: pd.DataFrame, place: Path) -> None:
    """Raise InputError where the new file does not read as what was written, or has not all columns of ``place``."""
    if evaluation_hash(read_evaluation(temporary)) != evaluation_hash(written):
        raise InputError(f"{place}: the evaluation does not read back as it is; write it as --out FILE.parquet")
    lost = set(read_table(place)[0].columns) - set(read_table(temporary)[0].columns) if place.exists() else set()
    if lost:
        raise InputError(
            f"{place} has {', '.join(sorted(map(str, lost)))}, which would be lost; judge that one with --in-place, or "
            "name another --out"
        )


def _with_column(source: Path, written: pd.DataFrame, column: str) -> pa.Table:
    """The table of ``source``, every column as it is, with the scores of ``written`` row by row."""
    table = pq.ParquetFile(source).read()  # read_table would take folders named KEY=VALUE for columns
    names = ours_to_theirs(table.column_names)[0]
    ids, systems, samples = (table.column(names[name]).to_pandas() for name in KEY)
    named = [text.strip().lower() for text in texts(systems, KEY[1])]
    keys = zip(texts(ids, KEY[0]), named, numbers(samples, KEY[2]), strict=True)
    known = written.set_index(KEY)[column].to_dict()
    values = pa.array([known[key] for key in keys], pa.float64(), from_pandas=True)
    if column in names:
        return table.set_column(table.column_names.index(names[column]), names[column], values)
    return table.append_column(column, values)


def _without(rows: pd.DataFrame, column: str) -> str:
    return evaluation_hash(rows.drop(columns=column, errors="ignore"))
