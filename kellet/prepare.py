"""Raw preference files -> the prepared table, its quarantine and a summary.

Every row that comes in is either in preferences.parquet or, as it came, in quarantine.parquet. The bytes depend on the
rows alone: pairs stand in the order of their content hash, and nothing tells the time.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from kellet.config import Data, Split
from kellet.files import atomic_folder, write_json
from kellet.preferences import OPTIONAL, pair_ids, read_file
from kellet.validation import TableReport, check_rows, check_table

COLUMNS = ("pair_id", "prompt", "chosen", "rejected", *OPTIONAL, "source", "split")
QUARANTINE = ("row", "file", "line", "reason")
Z95 = 1.959963984540054
"""97.5th percentile of the normal distribution."""


class Prepared(NamedTuple):
    """Everything that becomes of raw rows."""

    table: pd.DataFrame
    """Accepted pairs, columns of COLUMNS (annotator, created_at, margin where a file has them), ordered by pair_id."""
    quarantine: pd.DataFrame
    """Refused rows, columns of QUARANTINE, in the order of files and lines."""
    summary: dict[str, Any]
    report: TableReport

    def raise_if_failed(self, docs: Path | None = None) -> None:
        """Raise DataError naming the failing expectations, and what to look at: quarantine by reason, Data Docs."""
        self.report.raise_if_failed(_hint(self, docs))

    def to_dict(self) -> dict[str, Any]:
        """Whether the rows can be used, the summary and every check, for JSON."""
        return {
            "usable": not self.report.failed,
            "summary": self.summary,
            "checks": [asdict(check) for check in self.report.checks],
        }


def prepare(data: Data, root: Path, out: Path, docs: Path | None = None) -> dict[str, Any]:
    """Write preferences.parquet, quarantine.parquet and summary.json as the folder ``out``; return the summary.

    ``data.files`` are relative to ``root``. Data Docs go to ``docs`` if given, also when the table is refused.
    Raises DataError when a file cannot be used or the table fails as a whole; ``out`` is then as it was.
    """
    prepared = examine([(name, root / name) for name in data.files], data, docs)
    prepared.raise_if_failed(docs)
    with atomic_folder(out) as folder:
        _write(prepared.table, folder / "preferences.parquet")
        _write(prepared.quarantine, folder / "quarantine.parquet")
        write_json(folder / "summary.json", prepared.summary)
    return prepared.summary


def examine(files: Sequence[tuple[str, Path]], data: Data, docs: Path | None = None) -> Prepared:
    """Read (name, path) files, judge rows and table, and write nothing but the Data Docs.

    Raises DataError when a file cannot be used; whether the table can be used says ``report``.
    """
    read = [read_file(path, name) for name, path in files]
    rows = pd.concat([rows for rows, _ in read], ignore_index=True)
    for column in rows.columns.difference(["line", "margin"]):
        rows[column] = rows[column].astype(object).where(rows[column].notna(), None)
    if "rejected_prompt" in rows:
        rows["rejected_prompt"] = rows["rejected_prompt"].where(rows["rejected_prompt"].notna(), rows["prompt"])
    judged = check_rows(rows, data.validation)
    bad = rows.loc[judged.reasons.index].assign(reason=judged.reasons)
    good = rows.drop(index=judged.reasons.index)
    quarantine = _in_order_of_files([bad, *(refused for _, refused in read)], [name for name, _ in files])
    table = _table(good, data.split)
    summary = _summary(table, quarantine, len(rows) + sum(len(refused) for _, refused in read))
    report, result = check_table(table, summary, data)
    summary["warnings"] = list(report.warnings)
    if docs is not None:
        from kellet.data_docs import write_docs

        write_docs(docs, report, summary["reasons"], {"rows": judged.result, "table": result})
    return Prepared(table.drop(columns="label", errors="ignore"), quarantine, summary, report)


def split_of(prompt: str, split: Split) -> str:
    """``test``, ``validation`` or ``train``, from the prompt alone.

    The first 8 bytes of SHA-256 of the prompt, as a share u of [0, 1): test if u < split.test, validation if it is
    below split.test + split.validation, else train. Data that are added later move no prompt to another split.
    """
    share = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64
    if share < split.test:
        return "test"
    return "validation" if share < split.test + split.validation else "train"


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95% interval of a share of independent trials (Wilson 1927); (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    # (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    p, z2n = successes / trials, Z95**2 / trials
    half = Z95 * math.sqrt(p * (1 - p) / trials + z2n / (4 * trials))
    return max(0.0, (p + z2n / 2 - half) / (1 + z2n)), min(1.0, (p + z2n / 2 + half) / (1 + z2n))


def _table(good: pd.DataFrame, split: Split) -> pd.DataFrame:
    splits = {prompt: split_of(prompt, split) for prompt in good["prompt"].unique()}
    table = good.assign(pair_id=pair_ids(good), source=good["file"], split=good["prompt"].map(splits).astype(object))
    kept = [column for column in (*COLUMNS, "label") if column in table]
    return table[kept].sort_values("pair_id", ignore_index=True)


def _in_order_of_files(parts: Sequence[pd.DataFrame], names: Sequence[str]) -> pd.DataFrame:
    filled = [part[list(QUARANTINE)] for part in parts if len(part)]
    if not filled:
        return parts[-1][list(QUARANTINE)]
    rank = {name: number for number, name in reversed(list(enumerate(names)))}
    everything = pd.concat(filled, ignore_index=True)
    order = everything.assign(rank=everything["file"].map(rank)).sort_values(["rank", "line"], kind="stable").index
    return everything.loc[order].reset_index(drop=True)


def _summary(table: pd.DataFrame, quarantine: pd.DataFrame, rows_in: int) -> dict[str, Any]:
    from kellet.expectations import longer_preferred

    more, fewer, equal = longer_preferred(table)
    low, high = wilson(more, more + fewer)
    reasons = quarantine["reason"].value_counts()
    splits = [name for name in ("train", "validation", "test") if (table["split"] == name).any()]
    return {
        "rows_in": rows_in,
        "accepted": len(table),
        "quarantined": len(quarantine),
        "reasons": {str(reason): int(reasons[reason]) for reason in sorted(reasons.index)},
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


def _hint(prepared: Prepared, docs: Path | None) -> str:
    """What to look at when the table fails: the quarantine by reason with a first example, and the Data Docs."""
    text = ""
    if len(prepared.quarantine):
        first = prepared.quarantine.drop_duplicates("reason").set_index("reason")
        told = (
            f"{count} × {reason} (first: {first.loc[reason, 'file']} line {first.loc[reason, 'line']})"
            for reason, count in prepared.summary["reasons"].items()
        )
        text = ". Quarantined: " + "; ".join(told)
    return text + (f". Data Docs: {docs / 'index.html'}" if docs is not None else "")


def _write(frame: pd.DataFrame, path: Path) -> None:
    """Parquet without the marks of a pandas version."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"line": pa.int64(), "margin": pa.float64()}
    schema = pa.schema([(str(column), kinds.get(column, pa.string())) for column in frame.columns])
    table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(table, path, compression="zstd")
