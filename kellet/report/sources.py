"""Where the report's verdict comes from: the data, the reward model's card, parameters, versions, lineage."""

import platform
import re
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml

from kellet import __version__
from kellet.report import svg
from kellet.report.judgements import words
from kellet.reward.card_text import STYLES

LIBRARIES = ("numpy", "pandas", "peft", "tokenizers", "torch", "transformers")
PREDICTS = {
    "accuracy": "all that was fitted",
    "length_baseline": "'always the longer one'",
    "lift": "lift over it",
    "accuracy_reward": "the reward alone, which the policy sees",
    "accuracy_longer_rejected": "the reward alone, where the longer answer was rejected",
}
PAYS = {
    "length_slope": "one more token, within a pair",
    "filler_probe": "a courtesy sentence appended (probe)",
    "truncation_probe": "the last sentence cut off (probe)",
}
OWN = {"name", "tracking"}
"""Sections that name a run and decide nothing of it."""
MAX_ROWS = 200
"""Rows of a table of facts."""


def card_tables(card: Mapping[str, Any]) -> dict[str, Any]:
    """The reward model's card as the page shows it: warnings, what it predicts, what it pays for, its calibration."""
    shares = {key: card[key] for key in PREDICTS if _estimate(card.get(key))}
    wide = _ends({key: told for key, told in shares.items() if key != "lift"})
    predicts = [
        (title, words(shares[key], "share"), _drawn(title, shares[key], *((0.0, []) if key == "lift" else (0.5, wide))))
        for key, title in PREDICTS.items()
        if key in shares
    ]
    found = {PAYS[key]: card[key] for key in PAYS if _estimate(card.get(key))}
    found |= {
        f"{STYLES.get(axis, axis)}, at equal length": told
        for axis, told in (card.get("style_slopes") or {}).items()
        if _estimate(told)
    }
    pays = [(title, words(told, "reward"), _drawn(title, told, 0.0, _ends(found))) for title, told in found.items()]
    bins = (card.get("calibration") or {}).get("reliability", ())
    points = [(one["confidence"], one["right"]["value"], *one["right"]["interval"]) for one in bins]
    points = [point for point in points if None not in point]
    drawing = svg.reliability("Calibration: confidence against what was right", points) if points else None
    return {
        "warnings": list(card.get("warnings", ())),
        "predicts": predicts,
        "pays": pays,
        "calibration": drawing,
        "rest": facts({key: value for key, value in card.items() if key != "warnings"}),
    }


def _estimate(told: Any) -> bool:
    return isinstance(told, Mapping) and told.get("value") is not None and bool(told.get("interval"))


def _ends(found: Mapping[str, Mapping[str, Any]]) -> list[float]:
    return [end for told in found.values() for end in told["interval"] if end is not None]


def _drawn(title: str, told: Mapping[str, Any], threshold: float, reach: list[float]) -> Any:
    label = f"{title}: {words(told, 'reward')}, against {threshold:g}"
    mark, ends = f"{threshold:g}", told["interval"]
    return svg.interval(told["value"], ends, threshold, "above", None, label, mark=mark, area="plain", domain=reach)


def data_card(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The data's summary: warnings, and everything else as rows."""
    rest = {key: value for key, value in summary.items() if key != "warnings"}
    return {"warnings": list(summary.get("warnings", ())), "facts": facts(rest)}


def differing(ours: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """(parameter, theirs, ours) of those that differ; names of the run and of its records are left out."""
    left, right = (
        dict(_leaves({key: value for key, value in (one or {}).items() if key not in OWN})) for one in (theirs, ours)
    )
    return [
        (key, _text(left.get(key)), _text(right.get(key)))
        for key in sorted({*left, *right})
        if left.get(key) != right.get(key)
    ]


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def versions() -> dict[str, str]:
    """Kellet, Python and the computing libraries of this process."""
    found = {"Kellet": __version__, "Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def masked(config: Mapping[str, Any]) -> str:
    """The configuration as YAML, without a user and password that a tracking URI may hold."""
    text = str(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def patch(recommendation: Mapping[str, Any]) -> list[str]:
    """The patch as options of ``kellet`` and ``flows.retrain``."""
    return [f"--set {key}={value}" for key, value in recommendation["patch"].items()]


def measured(recommendation: Mapping[str, Any]) -> tuple[str, str] | None:
    """(Verdict, what was measured) of a change that ``flows.remedies`` ran (kellet/remedies/text.py); None before."""
    told = recommendation.get("measured")
    if not told:
        return None
    return str(told["verdict"]), " ".join(map(str, told["sentences"])).removeprefix("Measured: ")


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested values as (name, text) rows, at most MAX_ROWS; {value or share, interval} becomes 'value [low, high]'."""
    rows = list(_flat(values))
    more = len(rows) - MAX_ROWS
    return rows if more <= 0 else [*rows[:MAX_ROWS], ("…", f"{more:,} more rows in the file itself")]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = prefix + str(key).replace("_", " ")
        number = "share" if isinstance(value, Mapping) and "share" in value else "value"
        if isinstance(value, Mapping) and number in value and "interval" in value:
            rest = {k: v for k, v in value.items() if k not in (number, "interval", "unit")}
            ends = value["interval"]
            text = _text(value[number]) + (f" [{', '.join(_text(end) for end in ends)}]" if ends else "")
            yield name, f"{text} {value.get('unit', '')}".strip()
            yield from _flat(rest, f"{name}: ")
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for place, item in enumerate(value, 1):
                yield from _flat(item, f"{name} {place}: ")
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value) or "none"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
