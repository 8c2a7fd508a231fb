"""Samples: two files of answers, as trainers dump them, joined to one evaluation."""

from pathlib import Path

import pandas as pd

from kellet.data.raw_files import read_records
from kellet.errors import DataError
from kellet.evaluation.file import prompt_id

SAMPLES = {
    "prompt": ("prompt", "input", "query", "question"),
    "response": ("response", "completion", "output", "generated_text", "answer"),
    "reward": ("reward", "score", "scores", "rewards"),
    "length_tokens": ("length_tokens", "response_length", "num_tokens", "length"),
    "kl_nats": ("kl_nats", "kl"),
    "truncated": ("truncated",),
}
"""Column of the evaluation file -> its names in files of samples; verl's dumps have input, output and score."""


def import_samples(candidate: Path, reference: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """An evaluation table from two files of samples (.jsonl, .csv) on the same prompts, and notes for the user.

    Prompts that only one file has are left out; several answers to a prompt are numbered. Without a length column words
    are counted. Raises DataError when a column is missing or no prompt is in both.
    """
    parts, notes = [], []
    for system, path in (("candidate", candidate), ("reference", reference)):
        table = _table(path)
        part = pd.DataFrame({"system": system}, index=table.index)
        for ours, theirs in SAMPLES.items():
            column = next((name for name in theirs if name in table.columns), None)
            if column is not None:
                part[ours] = table[column]
            elif ours in ("prompt", "response", "reward"):
                raise DataError(
                    f"{path} has no {ours}; looked for {', '.join(theirs)}; found {', '.join(table.columns)}"
                )
        if "length_tokens" not in part:
            part["length_tokens"] = [len(str(text).split()) for text in part["response"]]
            notes.append(f"{path.name} has no length column: words are counted, not tokens")
        part["prompt_id"] = [prompt_id(str(text)) for text in part["prompt"]]
        part["sample"] = part.groupby("prompt_id").cumcount()
        parts.append(part)
    both = set(parts[0]["prompt_id"]) & set(parts[1]["prompt_id"])
    if not both:
        raise DataError(f"{candidate} and {reference} share no prompt; let both systems answer the same prompts")
    table = pd.concat([part[part["prompt_id"].isin(list(both))] for part in parts], ignore_index=True)
    left_out = sum(len(part) for part in parts) - len(table)
    if left_out:
        notes.append(f"{left_out:,} answers to prompts of only one side were left out")
    return table, tuple(notes)


def _table(path: Path) -> pd.DataFrame:
    rows = []
    for record in read_records(path):
        if record.values is None:
            raise DataError(f"{path}: line {record.line}: {record.reason}")
        rows.append(record.values)
    return pd.DataFrame(rows)
