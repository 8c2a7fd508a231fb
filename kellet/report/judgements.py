"""The report's judgements as its templates show them: criteria, systems, judges, hypotheses, with their drawings."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kellet.report import svg
from kellet.stats.bootstrap import cluster_codes, cluster_means, mean
from kellet.stats.format import Figure, Unit, in_words, number, value_and_interval
from kellet.stats.win_rate import win_rate

QUESTIONS = {
    "reward_gain": "Is the reward higher?",
    "length_inflation": "Are answers about as long as before?",
    "controlled_gain": "Is the reward higher at equal length?",
    "kl_budget": "Has the policy stayed near the reference?",
    "kl_price": "Was the reward worth its drift?",
    "independent_judge": "Does a judge that was not optimised against agree?",
    "reward_trust": "Can the reward model be trusted here?",
    "degeneration": "Are truncated, empty, repetitive and duplicate answers as rare as before?",
    "style_shift": "Is there a gain beyond style and length?",
}
CHECKS = {
    "mean_gain": "mean reward gain",
    "length_ratio": "mean length, candidate / reference",
    "matched_length_gain": "gain among answers of about the same length",
    "equal_length_gain": "gain at equal length, by a straight line",
    "unaccounted_judges": "judges that nobody accounted for",
    "equal_length_win_rate": "win rate at equal length",
    "equal_style_gain": "gain at equal style and length",
    "mean_kl": "mean KL of a response",
    "tail_kl": "95th percentile of KL",
    "gain_per_nat": "reward gain per nat of KL",
    "pessimistic_gain": "gain less the ensemble's disagreement",
    "lift": "reward model's lift over 'always the longer one'",
    "win_rate": "win rate by the judge",
    "judge_win_rate": "win rate by the judge",
    "reward_gain": "mean reward gain",
    "truncated": "truncated: candidate − reference",
    "empty": "empty: candidate − reference",
    "repetitive": "repetitive: candidate − reference",
    "duplicate": "duplicate: candidate − reference",
}
TILES = {
    "Reward gain": ("reward_gain", "mean_gain"),
    "Length": ("length_inflation", "length_ratio"),
    "Gain at equal length": ("controlled_gain", "matched_length_gain"),
    "KL from the reference": ("kl_budget", "mean_kl"),
    "Wins by the judge": ("independent_judge", "win_rate"),
}
"""What a reader sees first: a title, and the (criterion, check) of gate.json under it."""
LEADS = re.compile(r"(Why [^.]*\.|Together:|Cannot be told:)\s*")
"""How a paragraph of the explanation begins (kellet/diagnosis/diagnose.py)."""
NOT_KNOWN = "–"
BADGES = {"supported": "fail", "not supported": "pass", "cannot tell": "open"}


def criterion(item: Mapping[str, Any]) -> dict[str, Any]:
    """A criterion of gate.json with its question and its checks' drawings."""
    name = str(item["name"])
    question = QUESTIONS.get(name, name.replace("_", " "))
    return {**item, "question": question, "checks": [check(one) for one in item["checks"]]}


def check(item: Mapping[str, Any]) -> dict[str, Any]:
    """A check of gate.json with its text and its drawing."""
    unit, value, ends = item["unit"], item["value"], item["interval"]
    title = CHECKS.get(str(item["name"]), str(item["name"]).replace("_", " "))
    text = "cannot tell" if value is None or not ends else in_words(item, unit, missing="…")
    limit = number(float(item["threshold"]), unit)
    wanted = f"{item['direction']} {limit}"
    label = f"{title}: {text}, wanted {wanted}"
    drawing = svg.interval(
        value, ends, float(item["threshold"]), str(item["direction"]), item["passed"], label, mark=limit
    )
    return {**item, "title": title, "text": text, "wanted": wanted, "drawing": drawing}


def tiles(criteria: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The checks of TILES that the gate made, under the titles of TILES; a ratio is given as a change in percent."""
    checks = {(item["name"], one["name"]): one for item in criteria for one in item["checks"]}
    shown = []
    for title, key in TILES.items():
        if key in checks:
            tile = {**checks[key], "title": title}
            if tile["unit"] == "ratio" and tile["value"] is not None and tile["interval"]:
                tile["text"] = value_and_interval(tile, _change, "%")
                tile["wanted"] = f"{tile['direction']} {_change(tile['threshold'])}%"
            shown.append(tile)
    return shown


def _change(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.0f}"


def tally(criteria: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    """(badge, text, criteria) of those violated, not shown, holding and not judged; empty groups are left out."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {
        ("fail", "violated"): [one for one in criteria if one["counted"] and one["passed"] is False],
        ("open", "not shown"): [one for one in criteria if one["counted"] and one["passed"] is None],
        ("pass", "hold"): [one for one in criteria if one["counted"] and one["passed"]],
        ("absent", "not judged"): [one for one in criteria if not one["counted"]],
    }
    return [(*key, members) for key, members in groups.items() if members]


def champion(decision: Mapping[str, Any]) -> dict[str, Any] | None:
    """The comparison with the champion; None without one."""
    versus = decision.get("comparison_with_champion")
    if not versus:
        return None
    checks = [check(one) for one in (versus["reward_gain"], *versus["checks"])]
    return {"shown_worse": versus["shown_worse"], "checks": checks}


def anchor(decision: Mapping[str, Any]) -> dict[str, Any] | None:
    """The comparison with the anchor; None without one, and in a gate.json from before there were anchors."""
    comparison = decision.get("comparison_with_anchor")
    if not comparison:
        return None
    whose = "the champion, which is the anchor" if comparison["system"] == "champion" else "the anchor"
    checks = [check(comparison[name]) for name in ("not_behind", "shown_better")]
    return {"whose": whose, "passed": comparison["not_behind"]["passed"], "checks": checks}


def interval_level(alpha: float) -> str:
    """'90%' for a one-sided level of 0.05."""
    return f"{100 * (1 - 2 * alpha):.4g}%"


def systems(rows: pd.DataFrame, gate: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Columns, and for each system its means over prompts with intervals; a dash where no answer has the value."""
    titles = {"reward": "Reward", "length_tokens": "Length, tokens", "kl_nats": "KL, nats", "truncated": "Truncated"}
    titles |= {name: name for name in sorted(map(str, rows.columns)) if name.startswith("judge_")}
    table = []
    for system in ("reference", "anchor", "champion", "candidate"):
        part = rows[rows["system"] == system]
        if len(part):
            table.append((system, [_mean(part, column, gate) for column in titles]))
    kept = [place for place in range(len(titles)) if any(cells[place] != NOT_KNOWN for _, cells in table)]
    columns = list(titles.values())
    return [columns[i] for i in kept], [(system, [cells[i] for i in kept]) for system, cells in table]


def _mean(part: pd.DataFrame, column: str, gate: Mapping[str, Any]) -> str:
    part = part[part[column].notna()]
    if part.empty:
        return NOT_KNOWN
    values, prompts = part[column].to_numpy(float), part["prompt_id"].to_numpy(str)
    if column == "truncated":  # a share, by Wilson's interval: the bootstrap's is unbounded for a rare event
        return text_of(win_rate(values, prompts, alpha=gate["alpha"]), "share")
    (codes,), n = cluster_codes(prompts)
    return text_of(mean(cluster_means(values, codes, n), **settings(gate)), "reward")


def settings(gate: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a bootstrap interval, from the gate's configuration."""
    return {name: gate[name] for name in ("alpha", "resamples", "seed")}


def judges(decision: Mapping[str, Any]) -> list[tuple[str, str, str, int]]:
    """Name, win rate, mean gain and prompts of each judge column."""
    rows = []
    for name, judge in decision.get("judges", {}).items():
        rate, gain = judge["win_rate"], judge["mean_gain"]
        rows.append((name, text_of(rate, "win rate"), text_of(gain, "reward"), int(rate["prompts"])))
    return rows


def text_of(figure: Figure | None, unit: Unit) -> str:
    """``value [low, high]``, an unbounded end as …; a question mark where there is no estimate."""
    missing = figure is None or (isinstance(figure, Mapping) and figure["value"] is None)
    return "?" if figure is None or missing else in_words(figure, unit, missing="…")


def length(decision: Mapping[str, Any]) -> dict[str, Any] | None:
    """How length alone would decide, beside each score, and the gain in strata of matched length."""
    evidence = decision.get("length")
    if not evidence:
        return None
    alone = [
        (
            one["by"],
            text_of(one["win_rate"], "win rate"),
            text_of(one["longer"], "win rate"),
            text_of(one["agreement"], "share"),
            _controlled(one["equal_length"]),
        )
        for one in evidence["alone"]
    ]
    strata = [
        (f"{one['shortest']:.0f} to {one['longest']:.0f}", f"{one['pairs']:,}", text_of(one["gain"], "reward"))
        for one in evidence["strata"]
    ]
    return {"sentence": evidence["sentence"], "alone": alone, "strata": strata, "local": _local(evidence.get("local"))}


def _local(local: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The gain by difference of lengths: a sentence and a drawing."""
    if not local:
        return None
    sentence = (
        f"Among {local['pairs']:,} pairs of answers whose lengths differ by less than {local['bandwidth']:.1f} tokens "
        f"(means of {local['shortest']:.0f} to {local['longest']:.0f} tokens) the gain at equal length is "
        f"{text_of(local['gain'], 'reward')}."
    )
    points = [tuple(point[name] for name in ("difference", "gain", "low", "high")) for point in local["curve"]]
    points = [point for point in points if None not in point]
    axes = "candidate longer by, tokens", "reward gain"
    drawing = (
        svg.estimates("Reward gain by difference of lengths", *axes, points, local["bandwidth"]) if points else None
    )
    return {"sentence": sentence, "drawing": drawing}


def _controlled(level: Mapping[str, Any]) -> str:
    if level["controlled"] is None:
        return "not identified"
    return text_of({"value": level["controlled"], "interval": level["interval"]}, "win rate")


def style(decision: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Axis, shift, price, the gain it explains, whether it is paid for; axes without shift and price are left out."""
    rows = []
    for axis in decision.get("style", {}).get("axes", ()):
        if axis["shift"]["value"] or axis["price"]:
            figures = [text_of(axis[key], "reward") for key in ("shift", "price", "explained")]
            rows.append((str(axis["axis"]), *figures, "yes" if axis["paid"] else "not shown"))
    return rows


def hypothesis(item: Mapping[str, Any]) -> dict[str, Any]:
    """A hypothesis of diagnosis.json with its findings' figures and drawings."""
    return {**item, "badge": BADGES[item["verdict"]], "findings": [_finding(one) for one in item["findings"]]}


def _finding(item: Mapping[str, Any]) -> dict[str, Any]:
    value, threshold = item["value"], item["threshold"]
    title = str(item["name"]).replace("_", " ")
    if value is None or threshold is None:
        return {**item, "title": title, "text": "", "wanted": "", "drawing": None}
    text, limit = value_and_interval(item, "{:.3g}".format), f"{threshold:.3g}"
    wanted = f"{item['shown_when']} {limit}"
    label = f"{title}: {text}; supports the hypothesis when {wanted}"
    passed = None if item["shown"] is None else not item["shown"]
    drawing = svg.interval(
        value, item["interval"], float(threshold), item["shown_when"], passed, label, mark=limit, area="cause"
    )
    return {**item, "title": title, "text": text, "wanted": wanted, "drawing": drawing}


def explanation(diagnosis: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """(Lead, rest) of each paragraph of diagnosis.json's explanation; the lead is one of LEADS, or empty."""
    paragraphs = str((diagnosis or {}).get("explanation", "")).split("\n\n")
    leads = [LEADS.match(text) for text in paragraphs]
    return [
        (lead[1], text[lead.end() :]) if lead else ("", text)
        for lead, text in zip(leads, paragraphs, strict=True)
        if text
    ]
