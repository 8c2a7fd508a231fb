"""What a new batch of preferences changes: rows, length bias, agreement, prompts; each figure with its interval."""

from typing import Any

import pandas as pd

from kellet.data.conversation import as_text
from kellet.data.prompt_drift import prompt_drift
from kellet.stats.format import percent
from kellet.stats.win_rate import wilson


def batch_vs_data(table: pd.DataFrame, batch: str) -> dict[str, Any]:
    """Compare the rows of a prepared table whose source is ``batch`` with all others.

    Gives rows and new prompts; longer_preferred of both, with the difference; agreement before and with the batch;
    drift of the prompts (kellet/data/prompt_drift.py).
    """
    new, old = table[table["source"] == batch], table[table["source"] != batch]
    longer = {name: _longer(part) for name, part in (("current", old), ("batch", new))}
    known = set(old["prompt"])
    return {
        "rows": {"current": len(old), "batch": len(new)},
        "new_prompts": int((~new["prompt"].drop_duplicates().isin(known)).sum()),
        "longer_preferred": longer | {"difference": _difference(longer["batch"], longer["current"])},
        "agreement": {"current": _agreement(old), "with_batch": _agreement(table)},
        "drift": prompt_drift([as_text(p) for p in old["prompt"]], [as_text(p) for p in new["prompt"]]),
    }


def describe(found: dict[str, Any]) -> list[str]:
    """The comparison as sentences."""
    longer, agreement, drift = found["longer_preferred"], found["agreement"], found["drift"]
    said = [
        f"{found['rows']['batch']:,} pairs join {found['rows']['current']:,}; {found['new_prompts']:,} prompts are new",
        f"longer answer preferred: current {_percent(longer['current'])}, batch {_percent(longer['batch'])}, "
        f"difference {_percent(longer['difference'])}",
        f"pairs of answers that were judged several times, all alike: before {_percent(agreement['current'])}, "
        f"with the batch {_percent(agreement['with_batch'])}",
    ]
    if drift["auc"] is None:
        return [*said, f"prompt drift cannot be told: {drift['prompts'][0]} and {drift['prompts'][1]} distinct prompts"]
    low, high = drift["interval"]
    told = f"prompt drift: AUC {drift['auc']:.3f} [{low:.3f}, {high:.3f}] (0.5: alike), p = {drift['p_value']:.2g}"
    return [*said, f"{told}; telling words: {', '.join(drift['words'])}"]


def _longer(table: pd.DataFrame) -> dict[str, Any]:
    words = [table[side].map(lambda text: len(text.split())) for side in ("chosen", "rejected")]
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
