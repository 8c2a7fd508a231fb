"""What the report's verdict is made from: the data, the reward model's card, parameters, versions, lineage."""

import platform
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import yaml
from markupsafe import Markup

from kellet import __version__
from kellet.config.file import flatten
from kellet.mask import masked_values
from kellet.report import svg
from kellet.report.judgements import text_of
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
NEUTRAL = {"name", "tracking"}
"""Sections that do not change what a run computes."""
MAX_ROWS = 200
"""Rows of a table of facts at most."""


def card_tables(card: Mapping[str, Any]) -> dict[str, Any]:
    """The reward model's card as the page shows it: warnings, what it predicts, what it pays for, its calibration."""
    shares = {key: card[key] for key in PREDICTS if _is_estimate(card.get(key))}
    scale = _ends(share for key, share in shares.items() if key != "lift")
    predicts = [
        (
            title,
            text_of(shares[key], "share"),
            _drawn(title, shares[key], *((0.0, []) if key == "lift" else (0.5, scale))),
        )
        for key, title in PREDICTS.items()
        if key in shares
    ]
    prices = {PAYS[key]: card[key] for key in PAYS if _is_estimate(card.get(key))}
    prices |= {
        f"{STYLES.get(axis, axis)}, at equal length": slope
        for axis, slope in (card.get("style_slopes") or {}).items()
        if _is_estimate(slope)
    }
    scale = _ends(prices.values())
    pays = [(title, text_of(price, "reward"), _drawn(title, price, 0.0, scale)) for title, price in prices.items()]
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


def _is_estimate(value: Any) -> bool:
    return isinstance(value, Mapping) and value.get("value") is not None and bool(value.get("interval"))


def _ends(figures: Iterable[Mapping[str, Any]]) -> list[float]:
    return [end for figure in figures for end in figure["interval"] if end is not None]


def _drawn(title: str, figure: Mapping[str, Any], threshold: float, scale: list[float]) -> Markup:
    label = f"{title}: {text_of(figure, 'reward')}, against {threshold:g}"
    mark, ends = f"{threshold:g}", figure["interval"]
    return svg.interval(figure["value"], ends, threshold, "above", None, label, mark=mark, area="plain", domain=scale)


def data_card(summary: Mapping[str, Any]) -> dict[str, Any]:
    """The data's summary: warnings, and everything else as rows."""
    rest = {key: value for key, value in summary.items() if key != "warnings"}
    return {"warnings": list(summary.get("warnings", ())), "facts": facts(rest)}


def differing(ours: Mapping[str, Any] | None, theirs: Mapping[str, Any] | None) -> list[tuple[str, str, str]]:
    """(parameter, theirs, ours) of each parameter that differs; the sections of NEUTRAL are left out."""
    left, right = (
        flatten(masked_values({key: value for key, value in (one or {}).items() if key not in NEUTRAL}))
        for one in (theirs, ours)
    )
    return [
        (key, _text(left.get(key)), _text(right.get(key)))
        for key in sorted({*left, *right})
        if left.get(key) != right.get(key)
    ]


def versions() -> dict[str, str]:
    """Versions of Kellet, Python and the computing libraries that are installed here."""
    installed = {"Kellet": __version__, "Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


def masked(config: Mapping[str, Any]) -> str:
    """The configuration as YAML, without the credentials that it may hold."""
    return str(yaml.safe_dump(masked_values(dict(config)), sort_keys=False, allow_unicode=True))


def patch(recommendation: Mapping[str, Any]) -> list[str]:
    """The patch as options of ``kellet`` and ``flows.retrain``."""
    return [f"--set {key}={value}" for key, value in recommendation["patch"].items()]


def measured(recommendation: Mapping[str, Any]) -> tuple[str, str] | None:
    """(Verdict, measured effects) of a change that ``flows.remedies`` tried (kellet/remedies/text.py), else None."""
    result = recommendation.get("measured")
    if not result:
        return None
    return str(result["verdict"]), " ".join(map(str, result["sentences"])).removeprefix("Measured: ")


def facts(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Nested values as (name, text) rows, at most MAX_ROWS; {value or share, interval} becomes 'value [low, high]'."""
    rows = list(_rows(values))
    more = len(rows) - MAX_ROWS
    return rows if more <= 0 else [*rows[:MAX_ROWS], ("…", f"{more:,} more rows in the file itself")]


def _rows(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = prefix + str(key).replace("_", " ")
        number = "share" if isinstance(value, Mapping) and "share" in value else "value"
        if isinstance(value, Mapping) and number in value and "interval" in value:
            rest = {k: v for k, v in value.items() if k not in (number, "interval", "unit")}
            ends = value["interval"]
            text = _text(value[number]) + (f" [{', '.join(_text(end) for end in ends)}]" if ends else "")
            yield name, f"{text} {value.get('unit', '')}".strip()
            yield from _rows(rest, f"{name}: ")
        elif isinstance(value, Mapping):
            yield from _rows(value, f"{name}: ")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for place, item in enumerate(value, 1):
                yield from _rows(item, f"{name} {place}: ")
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
