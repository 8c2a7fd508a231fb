"""Rows, seconds and peak memory of `prepare`: python benchmarks/validation.py [ROWS] (default 200000).

Two rows in a hundred of the synthetic file are spoilt, so that quarantine has work. The limit to hold: 200,000 rows in
60 s on 2 cores. Memory is the process's largest resident set, Python and Great Expectations included.
"""

import gzip
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from kellet.config.data import Data
from kellet.data.prepare import prepare
from kellet.progress import lines

WORDS = ["order", "parcel", "refund", "account", "please", "thank", "you", "we", "will", "the", "a", "is", "today"]


def write_rows(path: Path, rows: int) -> None:
    """Messages of 15 words, answers of 10 to 60, three pairs to a prompt, written as .jsonl.gz."""
    rng = np.random.default_rng(0)
    prompt = ""
    with gzip.open(path, "wt", encoding="utf-8", compresslevel=1) as file:
        for number in range(rows):
            if number % 3 == 0:
                prompt = f"{' '.join(rng.choice(WORDS, 15))} {number}"
            chosen, rejected = (" ".join(rng.choice(WORDS, rng.integers(10, 60))) for _ in range(2))
            row = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "annotator": f"a{number % 7}"}
            if number % 50 == 0:
                row["rejected"] = ("", chosen, "cafÃ©")[number // 50 % 3]
            file.write(json.dumps(row) + "\n")


def main() -> None:
    """Print rows, seconds and what was found."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        write_rows(root / "rows.jsonl.gz", rows)
        start, before = time.perf_counter(), time.process_time()
        data, report = Data(name="bench", files=("rows.jsonl.gz",)), lines("prepare", ("rows",), every=30)
        summary = prepare(data, root, root / "out", root / "docs", report)
        seconds, processor = time.perf_counter() - start, time.process_time() - before
        size = (root / "rows.jsonl.gz").stat().st_size / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    told = "Great Expectations' import and Data Docs included"
    print(f"{summary['rows_in']} rows ({size:.0f} MiB) in {seconds:.1f} s ({processor:.1f} s of processor), {told}")
    print(f"peak resident memory {peak:.0f} MiB")
    print(f"accepted {summary['accepted']}, quarantined {summary['quarantined']}: {summary['reasons']}")


if __name__ == "__main__":
    main()
