"""A new batch of preferences: checked by itself, and what it changes, each figure with its interval.

Changes are of rows, length bias, agreement and prompts.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kellet.config.data import Data
from kellet.data.conversation import as_text
from kellet.data.prepare import examine
from kellet.data.prompt_drift import prompt_drift
from kellet.data.raw_files import suffix_of
from kellet.errors import DataError, InputError
from kellet.files import content_hash
from kellet.stats.format import percent
from kellet.stats.win_rate import wilson
from kellet.stats.words import word_count

BY_ITSELF = ("quarantined_share", "longer_preferred", "labels_to_vary")
"""The table checks that a batch must pass by itself; the others are about the whole data set."""


@dataclass(frozen=True)
class IncomingBatch:
    """A file on its way into a data set."""

    source: Path
    folder: str
    """The folder of ``data.files`` that it goes to."""
    name: str
    """Its name in that folder: the name of the file, with the first 8 hex digits of its SHA-256."""

    @property
    def target(self) -> str:
        """Its path in the project."""
        return f"{self.folder}/{self.name}"


def check_batch(file: Path, data: Data, params: Path) -> IncomingBatch:
    """Check the rows of a file by themselves. ``params``: the parameter file that ``data`` comes from, for messages.

    Raises DataError when the file cannot be used, InputError when the data set takes no batches.
    """
    folders = [name.rstrip("/") for name in data.files if not suffix_of(name)]
    if data.source != "files" or not folders:
        raise InputError(
            f"data set {data.name!r} takes no batches: in {params} set data.source to "
            "files and list a folder in data.files, such as data/raw/mine"
        )
    with tempfile.TemporaryDirectory() as temporary:
        prepared = examine([(str(file), file)], data, Path(temporary))
    if not prepared.summary["accepted"]:
        prepared.raise_if_failed()
    failed = [str(check) for check in prepared.report.failed if any(part in check.name for part in BY_ITSELF)]
    if failed:
        raise DataError(f"{file} cannot be used: {'; '.join(failed)}. Quarantined: {prepared.summary['reasons']}")
    suffix = suffix_of(file.name)
    name = f"{file.name[: -len(suffix)]}-{content_hash(file)[:8]}{suffix}"
    return IncomingBatch(source=file, folder=folders[0], name=name)


def batch_vs_data(table: pd.DataFrame, batch: str) -> dict[str, Any]:
    """Compare the rows of a prepared table whose source is ``batch`` with all others.

    Gives rows and new prompts; longer_preferred of both, with the difference; agreement before and with the batch;
    drift of the prompts (kellet/data/prompt_drift.py).
    """
    new, old = table[table["source"] == batch], table[table["source"] != batch]
    longer = {name: _longer(part) for name, part in (("current", old), ("batch", new))}
    old_prompts = set(old["prompt"])
    return {
        "rows": {"current": len(old), "batch": len(new)},
        "new_prompts": int((~new["prompt"].drop_duplicates().isin(old_prompts)).sum()),
        "longer_preferred": longer | {"difference": _difference(longer["batch"], longer["current"])},
        "agreement": {"current": _agreement(old), "with_batch": _agreement(table)},
        "drift": prompt_drift([as_text(p) for p in old["prompt"]], [as_text(p) for p in new["prompt"]]),
    }


def describe(comparison: dict[str, Any]) -> list[str]:
    """What :func:`batch_vs_data` gives, as sentences."""
    longer, agreement, drift = comparison["longer_preferred"], comparison["agreement"], comparison["drift"]
    rows, new_prompts = comparison["rows"], comparison["new_prompts"]
    sentences = [
        f"{rows['batch']:,} pairs join {rows['current']:,}; {new_prompts:,} prompts are new",
        f"longer answer preferred: current {_percent(longer['current'])}, batch {_percent(longer['batch'])}, "
        f"difference {_percent(longer['difference'])}",
        f"pairs of answers that were judged several times, all alike: before {_percent(agreement['current'])}, "
        f"with the batch {_percent(agreement['with_batch'])}",
    ]
    if drift["auc"] is None:
        return [
            *sentences,
            f"prompt drift cannot be told: {drift['prompts'][0]} and {drift['prompts'][1]} distinct prompts",
        ]
    low, high = drift["interval"]
    line = f"prompt drift: AUC {drift['auc']:.3f} [{low:.3f}, {high:.3f}] (0.5: alike), p = {drift['p_value']:.2g}"
    return [*sentences, f"{line}; telling words: {', '.join(drift['words'])}"]


def _longer(table: pd.DataFrame) -> dict[str, Any]:
    words = [table[side].map(word_count) for side in ("chosen", "rejected")]
    return _share(int((words[0] > words[1]).sum()), int((words[0] != words[1]).sum()))


def _agreement(table: pd.DataFrame) -> dict[str, Any]:
    """Share of answer pairs with two judgements or more in which all say the same."""
    either = table[["chosen", "rejected"]].min(axis=1)
    other = table[["chosen", "rejected"]].max(axis=1)
    groups = table["chosen"].groupby([table["prompt"], either, other])
    several = groups.size() > 1
    return _share(int((groups.nunique()[several] == 1).sum()), int(several.sum()))


def _share(successes: int, trials: int) -> dict[str, Any]:
    value = successes / trials if trials else None
    return {"value": value, "interval": list(wilson(successes, trials)), "pairs": trials}


def _difference(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Difference of two independent shares with its 95% interval: Newcombe 1998, method 10, from Wilson's."""
    if one["value"] is None or other["value"] is None:
        return {"value": None, "interval": [-1.0, 1.0], "pairs": one["pairs"] + other["pairs"]}
    (l1, u1), (l2, u2) = one["interval"], other["interval"]
    value = one["value"] - other["value"]
    low = value - ((one["value"] - l1) ** 2 + (u2 - other["value"]) ** 2) ** 0.5
    high = value + ((u1 - one["value"]) ** 2 + (other["value"] - l2) ** 2) ** 0.5
    return {"value": value, "interval": [low, high], "pairs": one["pairs"] + other["pairs"]}


def _percent(share: dict[str, Any]) -> str:
    if share["value"] is None:
        return "not known (no such pair)"
    return f"{percent(share, 1)} of {share['pairs']:,}"
