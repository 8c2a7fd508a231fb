"""`python -m tests.helpers.judging FOLDER`: every verb that judges files from elsewhere, on small ones in FOLDER.

Prints what each answered, as JSON. Needs only what the light install brings (tests/test_light_install.py).
"""

import json
import os
import sys
from pathlib import Path

import pandas as pd

from tests.helpers.command import kellet
from tests.helpers.evaluations import evaluation
from tests.helpers.foreign_logs import write_logs
from tests.helpers.rows import row, write_jsonl

SMALL = ("--set", "data.validation.min_pairs=10", "--set", "data.split={validation: 0.3, test: 0.3}")
WORK = {
    0: [
        ("validate", "pairs.jsonl", *SMALL),
        ("validate", "pairs.jsonl", "--json", *SMALL),
        ("import-logs", "trainer_state.json", "--out", "runs/theirs"),
        ("follow", "verl.jsonl", "--once", "--out", "runs/watched"),
        ("gate-power", "--prompts", "64", "--replicates", "3", "--population", "null"),
        ("diagnose", "judged.csv", "--history", "runs/theirs/history.jsonl", "--out", "runs/run/diagnosis.json"),
        ("spot-check", "export", "judged.csv", "--pairs", "5"),
        ("spot-check", "import", "anna.csv"),
        ("synthesise", "--set", "data.world.prompts=20", "--out", "world.jsonl"),
    ],
    2: [("validate", "damaged.jsonl", *SMALL)],
    3: [
        ("gate", "judged.csv", "--out", "runs/other/gate.json"),
        ("gate", "runs/run/evaluation.parquet", "--out", "runs/run/gate.json"),
        ("gate", "judged.csv", "--format", "junit"),
        ("gate", "judged.csv", "--programme", "state.json", "--json"),
    ],
}
"""Exit code -> verbs that end with it."""
PAGES = [("report", "--run", "runs/run"), ("compare", "runs/run", "runs/other")]
"""Of what those before wrote."""


def write_files(folder: Path) -> None:
    """Files from elsewhere, and no parameter file."""
    (folder / "runs/run").mkdir(parents=True)
    write_jsonl(folder / "pairs.jsonl", [row(n) for n in range(40)])
    write_jsonl(folder / "damaged.jsonl", [row(n, chosen="caf\ufffd" if n % 2 else "  ") for n in range(40)])
    write_logs(folder)
    answers = evaluation(64, 1)
    answers.to_csv(folder / "judged.csv", index=False)
    answers.to_parquet(folder / "runs/run/evaluation.parquet", index=False)


def work() -> dict[str, tuple[int, str]]:
    """Exit code and standard output of each verb, in the present folder."""
    answers = {}
    for verb in [*(verb for verbs in WORK.values() for verb in verbs), *PAGES]:
        if verb[:2] == ("spot-check", "import"):
            sheet = pd.read_csv("spot_checks/default/comparisons.csv", dtype=str)
            sheet.assign(better=["a", "b", "tie", "a", "b"]).to_csv("anna.csv", index=False)
        if verb[0] == "synthesise":
            Path("params.yaml").write_text("{}\n")
        done = kellet(*verb)
        answers[" ".join(verb)] = (done.exit_code, done.stdout)
        if verb[0] == "synthesise":
            Path("params.yaml").unlink()
    return answers


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    sys.stdout.write(json.dumps(work()))
