"""A copy of all rows on disk, so that they can be written in the order of their hash without being held in memory.

Rows are numbered in the order in which they are added. Accepted rows are first distributed to one file for each GROUP
rows of the output, and each of these files is then sorted by itself.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

GROUP = 131_072
"""Rows in a row group of the files that are written, and rows that are sorted in memory at a time."""
QUARANTINE = ("row", "file", "line", "reason")
KINDS = {"line": pa.int64(), "margin": pa.float64(), "weight": pa.float64(), "number": pa.int64(), "rank": pa.int64()}
TEXTS = ("pair_id", "prompt", "chosen", "rejected", "annotator", "created_at", "file", "row", "reason", "split")
SCHEMA = pa.schema([(name, KINDS.get(name, pa.string())) for name in (*TEXTS, "line", "margin", "number")])


class Spill:
    """All rows of some raw files, in a folder that is removed afterwards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = 0
        """Rows that could be read; the next one gets this number."""
        self.refused: Counter[str] = Counter()
        """Rows that could not be read, by reason."""
        self._filled: set[str] = set()
        self._writer = pq.ParquetWriter(folder / "rows.parquet", SCHEMA, compression="lz4")

    def add(self, rows: pd.DataFrame, refused: pd.DataFrame) -> None:
        """Add the rows and refused rows of a chunk; those of one file stay in the order of its lines."""
        numbered = rows.assign(number=range(self.rows, self.rows + len(rows)))
        self.rows += len(rows)
        self.refused.update(refused["reason"])
        self._filled |= {str(name) for name in rows if rows[name].notna().any()}
        both = pd.concat([numbered, refused.assign(number=-1)]) if len(rows) else refused.assign(number=-1)
        chunk = both.reindex(columns=SCHEMA.names).sort_values("line", kind="stable")
        self._writer.write_table(_arrow(chunk, SCHEMA))

    def write_accepted(
        self, path: Path, rank: npt.NDArray[np.int64], weight: npt.NDArray[np.float64], columns: Sequence[str]
    ) -> None:
        """Write the rows whose ``rank`` (by number) is not -1, in its order; ``weight`` is by number too.

        Optional columns are left out where no row has a value. Nothing can be added afterwards.
        """
        self._writer.close()
        always = {"source", "weight"}
        kept = [name for name in columns if name in always or name in self._filled or not _optional(name)]
        schema = pa.schema([(name, KINDS.get(name, pa.string())) for name in kept])
        writers: dict[int, Any] = {}
        for chunk in self._chunks():
            number = chunk["number"].to_numpy()
            ranks = np.where(number >= 0, rank[number] if len(rank) else -1, -1)
            whole = chunk.append_column("rank", pa.array(ranks)).append_column("source", chunk["file"])
            whole = whole.append_column("weight", pa.array(weight[number] if len(weight) else np.ones(len(number))))
            for group in np.unique(ranks[ranks >= 0] // GROUP):
                part = whole.filter(pa.array(ranks // GROUP == group)).select([*kept, "rank"])
                if group not in writers:
                    writers[group] = pq.ParquetWriter(self._group(group), part.schema, compression="lz4")
                writers[group].write_table(part)
        for writer in writers.values():
            writer.close()
        with pq.ParquetWriter(path, schema, compression="zstd") as out:
            for group in sorted(writers):
                rows = pq.read_table(self._group(group))
                rows = rows.take(pc.sort_indices(rows["rank"])).drop_columns("rank")
                out.write_table(rows.cast(schema).combine_chunks())
                self._group(group).unlink()
            if not writers:
                out.write_table(schema.empty_table())

    def write_quarantine(self, path: Path, reasons: npt.NDArray[np.object_]) -> dict[str, tuple[str, int]]:
        """Write the refused rows and those with one of ``reasons`` (by number; empty: none), as they came.

        Returns (file, line) of the first row of each reason.
        """
        schema = pa.schema([(name, KINDS.get(name, pa.string())) for name in QUARANTINE])
        first: dict[str, tuple[str, int]] = {}
        waiting = schema.empty_table()
        with pq.ParquetWriter(path, schema, compression="zstd") as out:
            for chunk in self._chunks():
                number, unreadable = chunk["number"].to_numpy(), chunk["reason"].to_pylist()
                why = [reasons[n] if n >= 0 else text for n, text in zip(number, unreadable, strict=True)]
                chunk = chunk.set_column(chunk.schema.get_field_index("reason"), "reason", pa.array(why, pa.string()))
                bad = chunk.filter(pa.array([bool(text) for text in why])).select(QUARANTINE)
                for file, line, reason in zip(*(bad[c].to_pylist() for c in ("file", "line", "reason")), strict=True):
                    first.setdefault(reason, (file, line))
                waiting = pa.concat_tables([waiting, bad])
                if len(waiting) >= GROUP:
                    out.write_table(waiting.combine_chunks())
                    waiting = schema.empty_table()
            out.write_table(waiting.combine_chunks())
        return first

    def _chunks(self) -> Any:
        rows = pq.ParquetFile(self.folder / "rows.parquet")
        for number in range(rows.num_row_groups):
            yield rows.read_row_group(number)

    def _group(self, number: int) -> Path:
        return self.folder / f"group-{number}.parquet"


def _optional(name: str) -> bool:
    return name in ("annotator", "created_at", "margin")


def _arrow(frame: pd.DataFrame, schema: Any) -> Any:
    return pa.Table.from_pandas(frame, schema=schema, preserve_index=False).replace_schema_metadata(None)
