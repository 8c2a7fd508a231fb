"""Time and memory of the gate on 100,000 evaluation rows (goal: 20 s and 1 GB): ``python benchmarks/gate.py``.

Both wall and processor time are told: on a busy machine only the second says what the gate took.
"""

import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from evaluations import evaluation

from kellet.config import Gate
from kellet.gate import decide, read_evaluation

for prompts, samples, champion in ((25_000, 2, None), (50_000, 1, None), (16_667, 2, 0.0), (250, 200, None)):
    table = evaluation(prompts, samples, judged=40, champion_gain=champion)
    table["response"] = table["response"] + " This is how we handle it, step by step, as our policy says." * 5
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "evaluation.parquet"
        table.to_parquet(path)
        start, busy = time.perf_counter(), time.process_time()
        read = read_evaluation(path)
        middle = time.perf_counter()
        decision = decide(read, Gate())
        end, busy = time.perf_counter(), time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{len(table):7,} rows, {prompts:6,} prompts x {samples:3} samples, champion {champion is not None!s:5}: "
        f"read {middle - start:4.1f} s, decide {end - middle:4.1f} s, processor {busy:4.1f} s, "
        f"peak {peak:.2f} GB, {decision.verdict}"
    )
