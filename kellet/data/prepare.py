"""Raw preference files -> the prepared table, its quarantine and a summary.

Every row that comes in is either in preferences.parquet or, as it came, in quarantine.parquet. The bytes depend on the
rows alone: pairs are sorted by their content hash, and no time is written.

Memory does not grow with the texts: rows are read, judged and written some thousands at a time, with a copy on disk in
between (kellet/data/spill.py). Of each row, hashes and counts are kept, about half a kilobyte (docs/use/data.md).
"""

import hashlib
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kellet.config.data import Data, Split
from kellet.data.annotators import resolve
from kellet.data.checks import longer_preferred
from kellet.data.form import OPTIONAL, Form, Said
from kellet.data.preferences import pair_ids, read_preferences
from kellet.data.prompts import prepare_prompts, prompt_key
from kellet.data.raw_files import SUFFIXES, suffix_of
from kellet.data.spill import Spill
from kellet.data.validation import TableReport, check_pairs, check_rows, check_table, row_keys
from kellet.errors import DataError
from kellet.files import atomic_folder, write_json
from kellet.progress import Progress, quiet
from kellet.stats.win_rate import wilson

COLUMNS = ("pair_id", "prompt", "chosen", "rejected", *OPTIONAL, "weight", "source", "split")


class Prepared(NamedTuple):
    """The result of :func:`examine` beside the two tables, which are files."""

    summary: dict[str, Any]
    report: TableReport
    first: dict[str, tuple[str, int]]
    """(file, line) of the first row of each reason in quarantine."""
    columns: dict[str, dict[str, str]]
    """Of each file, the contract's columns whose name in it is another."""
    forms: dict[str, Form]
    """How each file was read, with the account of its columns."""

    def raise_if_failed(self, docs: Path | None = None) -> None:
        """Raise DataError naming the failing expectations, the quarantined rows by reason, and the Data Docs."""
        quarantined = (
            f"{count} × {reason} (first: {self.first[reason][0]} line {self.first[reason][1]})"
            for reason, count in self.summary["reasons"].items()
        )
        hint = ". Quarantined: " + "; ".join(quarantined) if self.summary["reasons"] else ""
        self.report.raise_if_failed(hint + (f". Data Docs: {docs / 'index.html'}" if docs is not None else ""))

    def left_out(self) -> dict[str, dict[str, str]]:
        """Of each file, the columns that are not in the table, each with the reason."""
        left = {
            name: {
                entry.name: entry.why
                for entry in sorted(form.account, key=lambda entry: entry.name)
                if not entry.taken_for
            }
            for name, form in self.forms.items()
        }
        return {name: columns for name, columns in left.items() if columns}

    def notes(self) -> list[str]:
        """What is not usual about a file, such as semicolons between columns."""
        return [f"{name}: {note}" for name, form in self.forms.items() for note in form.notes]

    def to_dict(self) -> dict[str, Any]:
        """Whether the rows can be used, the summary and every check, for JSON."""
        return {
            "usable": not self.report.failed,
            "columns": self.columns,
            "account": {name: [entry.to_dict() for entry in form.account] for name, form in self.forms.items()},
            "notes": self.notes(),
            "summary": self.summary,
            "checks": [asdict(check) for check in self.report.checks],
        }


def prepare(data: Data, root: Path, out: Path, docs: Path | None = None, progress: Progress = quiet) -> dict[str, Any]:
    """Write preferences.parquet, quarantine.parquet and summary.json as the folder ``out``; return the summary.

    With ``data.prompts`` also prompts.parquet and prompts_quarantine.parquet (kellet/data/prompts.py).
    ``data.files`` are relative to ``root``. Data Docs go to ``docs`` if given, also when the table is refused.
    Raises DataError when a file cannot be used or the table fails as a whole; ``out`` is then as it was.
    """
    files = raw_files(data, root)
    with atomic_folder(out) as folder:
        prepared = examine(files, data, folder, docs, progress)
        prepared.raise_if_failed(docs)
        told = {"left_out": prepared.left_out(), "notes": prepared.notes()}
        prepared.summary.update({key: value for key, value in told.items() if value})
        if data.prompts.train:
            prepared.summary["prompt_files"] = prepare_prompts(data, root, folder)
        write_json(folder / "summary.json", prepared.summary)
    return prepared.summary


def raw_files(data: Data, root: Path) -> list[tuple[str, Path]]:
    """(name, path) of ``data.files``; a folder stands for the preference files in it, in the order of their names.

    Raises DataError when a folder has none.
    """
    files: list[tuple[str, Path]] = []
    for name in data.files:
        path = root / name
        inside = sorted(file.name for file in path.iterdir() if _is_raw(file)) if path.is_dir() else None
        if inside == []:
            raise DataError(
                f"{path} is a folder without preference files ({', '.join(SUFFIXES)}); ingest a batch first"
            )
        files += [(name, path)] if inside is None else [(f"{name.rstrip('/')}/{file}", path / file) for file in inside]
    return files


def examine(
    files: Sequence[tuple[str, Path]], data: Data, folder: Path, docs: Path | None = None, progress: Progress = quiet
) -> Prepared:
    """Judge the rows of (name, path) files; write preferences.parquet and quarantine.parquet into ``folder``.

    Raises DataError when a file cannot be used; ``report`` says whether the table can be used. ``progress`` counts
    percent of the bytes.
    """
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        spill = Spill(Path(temporary))
        keys, results, forms = _read(files, data, spill, progress, docs is not None)
        pairs = check_pairs(keys, docs is not None)
        reasons = keys.pop("reason")
        reasons = reasons.mask(
            (reasons == "") & keys.index.isin(pairs.reasons.index), pairs.reasons.reindex(keys.index)
        )
        good = keys[reasons == ""]
        set_aside, weights = resolve(good.assign(winner=good["chosen"]), data.disagreement)
        reasons[set_aside.index] = set_aside
        accepted = (reasons == "").to_numpy()
        rank = np.full(len(keys), -1, dtype=np.int64)
        order = np.argsort(keys["pair_id"].to_numpy()[accepted], kind="stable")
        rank[np.flatnonzero(accepted)[order]] = np.arange(len(order))
        weight = np.ones(len(keys))
        weight[good.index] = weights
        kept = {column for column in COLUMNS if column != "weight" or data.disagreement == "weights"}
        spill.write_accepted(folder / "preferences.parquet", rank, weight, [c for c in COLUMNS if c in kept])
        first = spill.write_quarantine(folder / "quarantine.parquet", reasons.to_numpy(object))
    table = keys[accepted].sort_values("pair_id", ignore_index=True)
    counts = Counter(spill.refused) + Counter(reasons[reasons != ""])
    summary = _summary(table, counts, len(keys) + spill.refused.total())
    report, result = check_table(table, summary, data, docs is not None)
    summary["warnings"] = [*report.warnings, *few_prompts(table)]
    if docs is not None:
        from kellet.data.data_docs import write_docs
        from kellet.data.expectations import merge_results

        rows = {"rows": merge_results(results), "pairs": pairs.result, "table": result}
        write_docs(docs, report, summary["reasons"], rows)
    columns = {name: form.renamed() for name, form in forms.items() if form.renamed()}
    return Prepared(summary, report, first, columns, forms)


def _read(
    files: Sequence[tuple[str, Path]], data: Data, spill: Spill, progress: Progress, docs: bool
) -> tuple[pd.DataFrame, list[Any], dict[str, Form]]:
    """Put all rows into ``spill``; return their keys with pair_id, split and reason, the row checks, and the forms."""
    sizes = [path.stat().st_size if path.is_file() else 0 for _, path in files]
    keys: list[pd.DataFrame] = []
    results: list[Any] = []
    forms: dict[str, Form] = {}
    said = Said.of(data)
    for number, (name, path) in enumerate(files):
        for rows, refused, share, form in read_preferences(path, name, said=said):
            forms |= {name: form} if form is not None else {}
            if len(rows):
                report = check_rows(rows, data.validation, docs)
                results.append(report.result)
                splits = {prompt: split_of(prompt, data.split) for prompt in rows["prompt"].dropna().unique()}
                rows = rows.assign(pair_id=pair_ids(rows), split=rows["prompt"].map(splits).astype(object))
                reason = report.reasons.reindex(rows.index).fillna("")
                numbers = row_keys(rows, prompt_key)
                keys.append(numbers.assign(pair_id=rows["pair_id"], split=rows["split"], reason=reason))
            spill.add(rows, refused)
            done = (sum(sizes[:number]) + share * sizes[number]) / max(sum(sizes), 1)
            progress(int(100 * done), 100, {"rows": float(spill.rows + spill.refused.total())})
    table = pd.concat(keys, ignore_index=True)
    for column in ("split", "reason"):
        table[column] = table[column].astype("category").astype(object)  # one string object for equal values
    return table, results, forms


def split_of(prompt: str, split: Split) -> str:
    """``test``, ``validation`` or ``train``, from the prompt alone.

    The first 8 bytes of SHA-256 of the prompt (of its :func:`prompt_key` when ``split.normalise``), as a share u of
    [0, 1): test if u < split.test, validation if it is below split.test + split.validation, else train. Data that are
    added later move no prompt to another split.
    """
    key = prompt_key(prompt) if split.normalise else prompt
    share = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    if share < split.test:
        return "test"
    return "validation" if share < split.test + split.validation else "train"


def few_prompts(table: pd.DataFrame) -> list[str]:
    """A warning where so few prompts have so many pairs that another column may be the prompt.

    Fewer than 20, or fewer than one for 25 pairs, of 200 pairs and more. Public sets have from one pair for a prompt
    (hh-rlhf) to about twenty (SHP: 385,563 pairs of 18,604 posts).
    """
    prompts, pairs = table["prompt"].nunique(), len(table)
    if pairs < 200 or (prompts >= 20 and 25 * prompts >= pairs):
        return []
    return [f"{prompts} distinct prompts for {pairs} pairs: is it the right column that was read as the prompt?"]


def _is_raw(file: Path) -> bool:
    return file.is_file() and bool(suffix_of(file.name)) and not file.name.startswith(".")


def _summary(table: pd.DataFrame, reasons: Counter[str], rows_in: int) -> dict[str, Any]:
    more, fewer, equal = longer_preferred(table)
    low, high = wilson(more, more + fewer)
    splits = [name for name in ("train", "validation", "test") if (table["split"] == name).any()]
    return {
        "rows_in": rows_in,
        "accepted": len(table),
        "quarantined": reasons.total(),
        "reasons": {reason: reasons[reason] for reason in sorted(reasons)},
        "splits": {name: int((table["split"] == name).sum()) for name in splits},
        "prompts": {name: int(table.loc[table["split"] == name, "prompt"].nunique()) for name in splits},
        "longer_preferred": {
            "share": round(more / (more + fewer), 6) if more + fewer else None,
            "interval": [round(low, 6), round(high, 6)],
            "pairs": more + fewer,
            "equal_length": equal,
        },
        "warnings": [],
    }
