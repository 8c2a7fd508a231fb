"""Preference rows for tests."""

import gzip
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def row(number: int, **other: Any) -> dict[str, Any]:
    """A sound pair; the longer answer is chosen in the even ones."""
    answers = [f"Take the link in mail {number}.", f"Please wait {number}."]
    if number % 2:
        answers.reverse()
    return {"prompt": f"Where is parcel {number}?", "chosen": answers[0], "rejected": answers[1]} | other


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    text = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path
