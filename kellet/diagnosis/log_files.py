"""A training log read as rows of metrics, whatever kind of file it came as; the names stay as they are in it.

JSON (lines, arrays, trainer_state.json, columns), CSV and TSV, among them the charts that W&B exports, and Parquet are
read by kellet/data/raw_files.py; TensorBoard's event files, one or a folder of them, and W&B's .wandb files by
event_files.py; any other text by log_lines.py, as printed lines. Each may be packed with gzip.
"""

import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kellet.data.limits import LOG, limit, most_read
from kellet.data.raw_files import Record, read_records, suffix_of
from kellet.data.raw_text import GZIP, Unpacked
from kellet.diagnosis.event_files import WANDB_HEADER, is_event_file, read_events, read_wandb
from kellet.diagnosis.log_lines import number, read_lines
from kellet.diagnosis.log_order import CLOCKS, STEPS
from kellet.errors import DataError

WANTED = (
    "wanted JSON lines, trainer_state.json, CSV, Parquet, TensorBoard event files, a .wandb file, or the text that "
    "verl, TRL or OpenRLHF printed"
)
RUN_COLUMNS = ("run", "run_id", "run_name", "run/name", "experiment", "experiment_name", "Name")
"""Columns of text that say which run a row is of, where a file holds several."""
SPLIT_COLUMNS = ("split", "phase", "mode", "stage")
"""Columns of text that say whether a row is of training."""
_EVALUATION = re.compile(r"^(?:eval|val|test)", re.IGNORECASE)
_DECIMAL_COMMA = re.compile(r"^\s*-?\d+,\d+(?:[eE][+-]?\d+)?\s*$")
_THOUSANDS = re.compile(r"^\s*-?[1-9]\d{0,2}(?:,\d{3})+\s*$")
_LISTED = 12

Row = dict[str, Any]


@dataclass(frozen=True)
class Log:
    """Rows of a log as they came, and what was noticed in reading them."""

    rows: list[Row]
    notes: tuple[str, ...] = ()


def open_log(path: Path, run_name: str | None = None) -> Log:
    """Read a log. ``run_name`` chooses among several runs in one file or folder.

    Raises DataError, saying what was found and what to do, for a file that does not exist or cannot be read, that holds
    no rows of metrics, or that holds several runs.
    """
    if path.is_dir():
        return _folder(path, run_name)
    data = _content(path)
    if not data.strip():
        raise DataError(f"{path} is empty and holds no rows of metrics; {WANTED}")
    rows, notes = _rows(path, data)
    rows = [flat(row) for row in rows]
    rows, more = _one_run(path, rows, run_name)
    rows, beside = _of_training(rows)
    if not rows:
        raise DataError(f"{path} holds no rows of metrics; {WANTED}")
    return Log(rows, (*notes, *more, *beside))


def open_logs(paths: Sequence[Path], run_name: str | None = None) -> Log:
    """Read several logs of one run, such as a chart for each metric or the parts of a resumed run, as one.

    Raises DataError as :func:`open_log`, and when they do not count steps by the same name.
    """
    logs = [open_log(path, run_name) for path in paths]
    names = [{key.removeprefix("train/") for row in log.rows for key in row} & {*STEPS, *CLOCKS} for log in logs]
    if len(logs) > 1 and not set.intersection(*names):
        shown = "; ".join(
            f"{path}: {', '.join(sorted(found)) or 'none'}" for path, found in zip(paths, names, strict=True)
        )
        raise DataError(f"the logs count no steps by the same name ({shown}); give one log, or rename a column")
    notes = [
        note if len(logs) == 1 else f"{path}: {note}"
        for path, log in zip(paths, logs, strict=True)
        for note in log.notes
    ]
    return Log([row for log in logs for row in log.rows], tuple(notes))


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked if they are packed with gzip."""
    most = limit(LOG)
    try:
        with path.open("rb") as file:
            packed = file.read(2) == GZIP
            file.seek(0)
            source = io.BufferedReader(Unpacked(path, file)) if packed else file
            held = io.BytesIO()
            while held.tell() <= most and (piece := source.read(1 << 20)):
                held.write(piece)
            data = held.getvalue()
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; check the log's name") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}; copy it again") from error
    if len(data) > most:
        raise DataError(f"{path} has more than {most:,} bytes, {most_read(LOG)}; split it")
    return data


def _rows(path: Path, data: bytes) -> tuple[list[Row], list[str]]:
    """Rows by the kind of the file, and notes."""
    notes: list[str] = []
    if is_event_file(data[:12]):
        return read_events(path, data), notes
    if data.startswith(WANDB_HEADER[:4]):
        return read_wandb(path, data), notes
    suffix = suffix_of(path.name).removesuffix(".gz")
    if suffix:
        rows = _columns([*_records(path, notes)])
        notes = [note for note in notes if not note.startswith("the rows are the list 'log_history'")]
        return _numbers(rows, notes) if suffix in (".csv", ".tsv") else rows, notes
    if data.startswith(b"PAR1"):
        return _parquet(path, data), notes
    utf_16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    if b"\0" in data[:4096] and not utf_16:
        raise DataError(f"{path} is a binary file of an unknown kind; {WANTED}")
    text = data.decode("utf-16" if utf_16 else "utf-8-sig", "replace")
    rows, notes = read_lines(text)
    rows = rows or _array(text) or _table(path, text, notes)
    if not rows:
        start = text.lstrip()[:80].split("\n")[0]
        told = "".join(f"; {note}" for note in notes)
        raise DataError(f"{path} holds no rows of metrics; it begins with {start!r}{told}; {WANTED}")
    return rows, notes


def _array(text: str) -> list[Row]:
    """The objects of a JSON array in a file whose name does not say what it is; else none."""
    try:
        whole = json.loads(text) if text.lstrip().startswith("[") else []
    except (ValueError, RecursionError):
        return []
    return whole if all(isinstance(row, dict) for row in whole) else []


def _table(path: Path, text: str, notes: list[str]) -> list[Row]:
    """The rows of a CSV whose name does not say that it is one, in which half of the cells or more are numbers."""
    first = text.lstrip().partition("\n")[0]
    if max(map(first.count, ",;\t")) < 1:
        return []
    more: list[str] = []
    try:
        rows = _numbers([*_records(path, more, ".csv")], more)
    except DataError:
        return []
    cells = [value for row in rows for value in row.values()]
    if not cells or 2 * sum(number(cell) is not None for cell in cells) < len(cells):
        return []
    notes += ["the file is read as CSV, although its name does not say so", *more]
    return rows


def _parquet(path: Path, data: bytes) -> list[Row]:
    """Rows of a Parquet file under a name that does not say so, such as one that was packed with gzip."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_table(io.BytesIO(data)).to_pylist())
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a sound Parquet file: {error}; write it again") from error


def _records(path: Path, notes: list[str], suffix: str = "") -> Iterator[Row]:
    """Rows of a file of records. A last line that is cut off, as a training that was killed leaves it, is passed over.

    Raises DataError, naming the line, for another that cannot be read.
    """
    waiting: Record | None = None
    for record in read_records(path, notes, suffix=suffix):
        if waiting is not None:
            raise DataError(f"{path}, line {waiting.line}: {waiting.reason}; mend or remove the line")
        if record.values is None:
            waiting = record
        else:
            yield record.values
    if waiting is not None:
        if not waiting.reason.startswith("not valid JSON") or waiting.line == 1:
            raise DataError(f"{path}, line {waiting.line}: {waiting.reason}; {WANTED}")
        notes.append(f"the last line ({waiting.line}) is cut off and was passed over")


def _columns(rows: list[Row]) -> list[Row]:
    """One object of lists of one length, such as ``{"step": [1, 2], "kl": [0.1, 0.2]}``, as rows."""
    if len(rows) != 1 or not rows[0] or not all(isinstance(value, list) for value in rows[0].values()):
        return rows
    if len({len(value) for value in rows[0].values()}) > 1:
        return rows
    return [dict(zip(rows[0], values, strict=True)) for values in zip(*rows[0].values(), strict=True)]


def _folder(path: Path, run_name: str | None) -> Log:
    """Rows of the event files in one folder, in the order in which they were begun; or of its only .wandb file."""
    files = sorted(file for file in path.rglob("*") if "tfevents" in file.name and file.is_file())
    runs: dict[str, list[list[Row]]] = {}
    for file in files or sorted(path.rglob("*.wandb")):
        data = _content(file)
        rows = (read_events if files else read_wandb)(file, data) if data else []
        if rows:  # a folder of hyperparameters beside the run holds no scalars
            runs.setdefault(str(file.parent.relative_to(path)), []).append(rows)
    if not runs:
        raise DataError(f"{path} is a folder without scalars in event files (*tfevents*) or a .wandb file; {WANTED}")
    parts = runs[_chosen(path, list(runs), run_name)]
    notes = (f"{len(parts)} event files, read in the order of their names",) if len(parts) > 1 else ()
    return Log([flat(row) for rows in parts for row in rows], notes)


def _chosen(path: Path, runs: Sequence[str], run_name: str | None) -> str:
    """The run to read. Raises DataError, with the names, when there are several and none is chosen."""
    if run_name in runs:
        return str(run_name)
    shown = ", ".join(repr(run) for run in sorted(runs)[:_LISTED]) + (", …" if len(runs) > _LISTED else "")
    if run_name is not None:
        raise DataError(f"{path} holds no run {run_name!r}; it holds {shown}")
    if len(runs) > 1:
        raise DataError(f"{path} holds {len(runs)} runs ({shown}); choose one with --run-name")
    return runs[0]


def _one_run(path: Path, rows: list[Row], run_name: str | None) -> tuple[list[Row], list[str]]:
    """The rows of one run: of a W&B chart, or of a file with a column that names the run."""
    names = {key for row in rows for key in row}
    charted = {key for key in names if {f"{key}__MIN", f"{key}__MAX"} <= names}
    if charted:
        run = _chosen(path, sorted({key.rpartition(" - ")[0] for key in charted}), run_name)
        prefix = f"{run} - " if run else ""
        other = {key for key in names if not key.endswith(("__MIN", "__MAX")) and key not in charted}
        keep = {key: key.removeprefix(prefix) for key in charted if key.rpartition(" - ")[0] == run}
        keep |= {
            key: key for key in other if not any(key.startswith(f"{name.rpartition(' - ')[0]} - ") for name in charted)
        }
        kept = [{keep[key]: value for key, value in row.items() if key in keep} for row in rows]
        return kept, [f"a chart of W&B, run {run!r}; its columns __MIN and __MAX are not read"]
    for column in RUN_COLUMNS:
        runs = {str(row[column]) for row in rows if isinstance(row.get(column), str)}
        if len(runs) > 1 or (runs and run_name is not None):
            chosen = _chosen(path, sorted(runs), run_name)
            return [row for row in rows if row.get(column) == chosen], [f"run {chosen!r} of column {column!r}"]
    if run_name is not None:
        raise DataError(f"{path} does not say which rows are of which run; leave --run-name out")
    return rows, []


def of_evaluation(row: Mapping[str, Any]) -> str:
    """The column that says that a row is of an evaluation; empty where none does."""
    return next((column for column in SPLIT_COLUMNS if _EVALUATION.match(str(row.get(column)))), "")


def _of_training(rows: list[Row]) -> tuple[list[Row], list[str]]:
    """Rows without those that a column says are of an evaluation; their metrics have the same names."""
    for column in SPLIT_COLUMNS:
        kept = [row for row in rows if not _EVALUATION.match(str(row.get(column)))]
        if kept and len(kept) < len(rows):
            return kept, [f"{len(rows) - len(kept)} rows are of an evaluation, by column {column!r}, and are left out"]
    return rows, []


def flat(row: Row, levels: int = 8) -> Row:
    """``{"step", "data"}`` of verl's file logger and nested dictionaries as one level, joined by a slash."""
    level: Row = {}
    for key, value in row.items():
        if isinstance(value, Mapping) and levels:
            inner = flat(dict(value), levels - 1)
            prefix = "" if key == "data" and set(row) <= {"step", "data"} else f"{key}/"
            level |= {f"{prefix}{name}": item for name, item in inner.items() if f"{prefix}{name}" not in row}
        else:
            level[str(key)] = value
    return level


def _numbers(rows: list[Row], notes: list[str]) -> list[Row]:
    """Cells as numbers where they spell one, and decimal commas where the whole file has them; empty cells are None."""
    cells = [value for row in rows for value in row.values() if isinstance(value, str) and value.strip()]
    commas = [cell for cell in cells if _DECIMAL_COMMA.match(cell)]
    points = any("." in cell and number(cell) is not None for cell in cells)
    semicolons = any("separated by semicolons" in note for note in notes)
    comma = bool(commas) and not points and (semicolons or not all(_THOUSANDS.match(cell) for cell in commas))
    if comma:
        notes.append("numbers are written with decimal commas")
    return [{key: _cell(value, comma) for key, value in row.items()} for row in rows]


def _cell(value: Any, comma: bool) -> Any:
    if not isinstance(value, str):
        return value
    if not value.strip():
        return None
    found = number(value.replace(",", ".") if comma and _DECIMAL_COMMA.match(value) else value)
    return value if found is None else found
