"""Prompts without answers: for PPO and evaluation, where they are not the prompts of the preferences.

``data.prompts`` names the files. They are prepared with the preferences, into prompts.parquet of the same folder, so
that one hash names all data of a retraining. Without such files both use the prompts of the preferences.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pandas as pd

from kellet.config.data import Data, Prompts
from kellet.data.conversation import as_text, prompt_of, to_prompt
from kellet.data.raw_files import read_records
from kellet.data.record import shown
from kellet.data.spill import QUARANTINE
from kellet.errors import DataError
from kellet.stats.words import seen

FILE, REFUSED = "prompts.parquet", "prompts_quarantine.parquet"
IN_TRAINING = "also a training prompt (case and white space left out)"
SAME = "the same prompt before (case and white space left out)"


def prompts_of(preferences: Path, split: str) -> list[str]:
    """The distinct prompts of a split (train, test): of the prepared prompt files if there are, else of the pairs."""
    given = preferences.parent / FILE
    table = pd.read_parquet(given if given.is_file() else preferences, columns=["prompt", "split"])
    return list(dict.fromkeys(table.loc[table["split"] == split, "prompt"]))


def prompt_key(prompt: str) -> str:
    """The prompt without differences in case, white space, invisible characters and Unicode's normal forms (NFC)."""
    text = as_text(prompt).casefold()
    return " ".join((text if text.isascii() else normalize("NFC", seen(text))).split())


def prepare_prompts(data: Data, root: Path, folder: Path) -> dict[str, Any]:
    """Write prompts.parquet (prompt, source, split) and prompts_quarantine.parquet into ``folder``; return counts.

    Prompts are distinct and sorted by their SHA-256, and no test prompt is a training prompt. Raises DataError
    when a file cannot be used, a split has no prompt, or too large a share is quarantined.
    """
    from kellet.data.validation import check_prompts

    files = [(split, name) for split in ("train", "test") for name in getattr(data.prompts, split)]
    rows = [row for split, name in files for row in _read(split, name, root / name, data.prompts)]
    table = pd.DataFrame(rows, dtype=object).astype({"line": "int64"})
    table.loc[table["reason"] == "", "reason"] = check_prompts(table["prompt"], data.validation)
    keys = table["prompt"].map(prompt_key, na_action="ignore")
    good = table["reason"] == ""
    repeated = keys[good].duplicated()
    training = keys[good & (table["split"] == "train")]
    leaking = keys[good].isin(set(training)) & (table.loc[good, "split"] == "test")
    table.loc[repeated.index[repeated], "reason"] = SAME
    table.loc[leaking.index[leaking], "reason"] = IN_TRAINING
    good, reasons = table["reason"] == "", Counter(table.loc[table["reason"] != "", "reason"])
    counts = {split: int((good & (table["split"] == split)).sum()) for split in ("train", "test")}
    _refuse(counts, reasons, len(table), data)
    kept = table[good].sort_values("prompt", key=lambda column: column.map(_digest))
    kept.assign(source=kept["file"])[["prompt", "source", "split"]].to_parquet(folder / FILE, index=False)
    table.loc[~good, list(QUARANTINE)].to_parquet(folder / REFUSED, index=False)
    by_reason = {reason: reasons[reason] for reason in sorted(reasons)}
    return {"rows_in": len(table), "accepted": counts, "quarantined": reasons.total(), "reasons": by_reason}


def _read(split: str, name: str, path: Path, source: Prompts) -> Sequence[dict[str, Any]]:
    rows, present, column = [], set(), source.column
    for record in read_records(path):
        present |= set(record.values or ())
        value, reason = (record.values or {}).get(column), record.reason
        try:
            prompt = _prompt(value, (record.values or {}).get("tools"), source)
        except ValueError as error:
            prompt, reason = None, str(error)
        origin = {"file": name, "line": record.line, "row": record.text}
        rows.append({"prompt": prompt, "split": split, "reason": reason} | origin)
    if column not in present:
        raise DataError(
            f"{path}: no column {column!r}; found {', '.join(map(shown, sorted(present)))}; set data.prompts.column"
        )
    return rows


def _prompt(value: Any, tools: Any, source: Prompts) -> str | None:
    prompt = prompt_of(value, tools)
    if prompt is None and value is not None and not isinstance(value, str):
        raise ValueError(f"{source.column} is a {type(value).__name__}, wanted a text")
    if prompt is None and value is not None and source.conversation:
        return to_prompt([{"role": "user", "content": value}])
    return value if prompt is None else prompt


def _refuse(counts: dict[str, int], reasons: Counter[str], rows: int, data: Data) -> None:
    why = "; ".join(f"{count} × {reason}" for reason, count in reasons.items()) or "none quarantined"
    for split, count in counts.items():
        if not count:
            raise DataError(f"data.prompts.{split} leaves no prompt ({why}); give other files")
    if reasons.total() > data.validation.max_quarantined * rows:
        raise DataError(
            f"{reasons.total()} of {rows} prompts are quarantined: {why}; at most a share of "
            f"{data.validation.max_quarantined} may be (data.validation.max_quarantined)"
        )


def _digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()
