"""The report's judgements as its templates show them: criteria, systems, judges, hypotheses, each with its drawing."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kellet.report import svg
from kellet.stats.bootstrap import Estimate, cluster_codes, cluster_means, mean
from kellet.stats.format import number
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
    "equal_length_gain": "gain at equal length",
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
    "Gain at equal length": ("controlled_gain", "equal_length_gain"),
    "KL from the reference": ("kl_budget", "mean_kl"),
    "Wins by the judge": ("independent_judge", "win_rate"),
}
"""What a reader sees first: a name, and the check that it shows."""
LEADS = re.compile(r"(Why [^.]*\.|Together:|Cannot be told:)\s*")
"""How a paragraph of the explanation begins (kellet/diagnosis/diagnose.py)."""
BADGES = {"supported": "fail", "not supported": "pass", "cannot tell": "open"}


def criterion(item: Mapping[str, Any]) -> dict[str, Any]:
    """A criterion of gate.json with its question and its checks' drawings."""
    name = str(item["name"])
    question = QUESTIONS.get(name, name.replace("_", " "))
    return {**item, "question": question, "checks": [check(one) for one in item["checks"]]}


def check(told: Mapping[str, Any]) -> dict[str, Any]:
    """A check of gate.json with its words and its drawing."""
    unit, value, ends = told["unit"], told["value"], told["interval"]
    title = CHECKS.get(str(told["name"]), str(told["name"]).replace("_", " "))
    words = "cannot tell"
    if value is not None and ends:
        low, high = ("…" if end is None else number(float(end), unit).removesuffix(" nats") for end in ends)
        words = f"{number(float(value), unit)} [{low}, {high}]"
    limit = number(float(told["threshold"]), unit)
    wanted = f"{told['direction']} {limit}"
    label = f"{title}: {words}, wanted {wanted}"
    drawing = svg.interval(
        value, ends, float(told["threshold"]), str(told["direction"]), told["passed"], label, mark=limit
    )
    return {**told, "title": title, "words": words, "wanted": wanted, "drawing": drawing}


def tiles(criteria: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The checks of TILES that the gate made, named as TILES names them; a ratio is told as a change."""
    found = {(item["name"], one["name"]): one for item in criteria for one in item["checks"]}
    shown = []
    for title, key in TILES.items():
        if key in found:
            one = found[key]
            told = {"title": title}
            if one["unit"] == "ratio" and one["value"] is not None and one["interval"]:
                told |= {"words": _changed(one["value"], one["interval"])}
                told |= {"wanted": f"{one['direction']} {100 * (one['threshold'] - 1):+.0f}%"}
            shown.append({**one, **told})
    return shown


def _changed(value: float, ends: Sequence[float | None]) -> str:
    low, high = ("…" if end is None else f"{100 * (end - 1):+.0f}" for end in ends)
    return f"{100 * (value - 1):+.0f}% [{low}, {high}]"


def tally(criteria: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, list[Mapping[str, Any]]]]:
    """(badge, words, criteria) of those violated, not shown, holding, not judged; empty groups are left out."""
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


def systems(rows: pd.DataFrame, gate: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Columns, and for each system its means over prompts with intervals, in words; a dash where nothing is known."""
    judges = sorted(name for name in rows.columns if str(name).startswith("judge_"))
    units = {"reward": "reward", "length_tokens": "tokens", "kl_nats": "nats", "truncated": "share"}
    columns = [*units, *judges]
    told = []
    for system in ("reference", "champion", "candidate"):
        part = rows[rows["system"] == system]
        if len(part):
            told.append((system, [_mean(part, name, units.get(name, "reward"), gate) for name in columns]))
    kept = [place for place in range(len(columns)) if any(cells[place] != "–" for _, cells in told)]
    names = {"reward": "Reward", "length_tokens": "Length, tokens", "kl_nats": "KL, nats", "truncated": "Truncated"}
    return [names.get(columns[i], columns[i]) for i in kept], [(name, [cells[i] for i in kept]) for name, cells in told]


def _mean(part: pd.DataFrame, column: str, unit: str, gate: Mapping[str, Any]) -> str:
    known = part[part[column].notna()]
    if known.empty:
        return "–"
    values, prompts = known[column].to_numpy(float), known["prompt_id"].to_numpy(str)
    if unit == "share":  # a bootstrap of what happened once in a thousand has no end to its interval
        return words(win_rate(values, prompts, alpha=gate["alpha"]), unit)
    (codes,), n = cluster_codes(prompts)
    return words(mean(cluster_means(values, codes, n), **settings(gate)), "reward")


def settings(gate: Mapping[str, Any]) -> dict[str, Any]:
    """What an interval takes, from the gate's configuration."""
    return {name: gate[name] for name in ("alpha", "resamples", "seed")}


def judges(decision: Mapping[str, Any]) -> list[tuple[str, str, str, int]]:
    """Name, win rate, mean gain and prompts of each judge column."""
    rows = []
    for name, told in decision.get("judges", {}).items():
        rate, gain = told["win_rate"], told["mean_gain"]
        rows.append((name, words(rate, "win rate"), words(gain, "reward"), int(rate["prompts"])))
    return rows


def words(estimate: Estimate | Mapping[str, Any] | None, unit: Any) -> str:
    """``value [low, high]``; an end that is not finite is …, and nothing known is a question mark."""
    told = estimate.to_dict() if isinstance(estimate, Estimate) else estimate
    if told is None or told["value"] is None:
        return "?"
    ends = (math.inf if end is None else float(end) for end in told["interval"])
    low, high = (number(end, unit) if math.isfinite(end) else "…" for end in ends)
    return f"{number(float(told['value']), unit)} [{low}, {high}]"


def length(decision: Mapping[str, Any]) -> dict[str, Any] | None:
    """What length alone would say, beside each score, and the gain in strata of matched length."""
    told = decision.get("length")
    if not told:
        return None
    alone = [
        (
            one["by"],
            words(one["win_rate"], "win rate"),
            words(one["longer"], "win rate"),
            words(one["agreement"], "share"),
            _controlled(one["equal_length"]),
        )
        for one in told["alone"]
    ]
    strata = [
        (f"{one['shortest']:.0f} to {one['longest']:.0f}", f"{one['pairs']:,}", words(one["gain"], "reward"))
        for one in told["strata"]
    ]
    return {"sentence": told["sentence"], "alone": alone, "strata": strata}


def _controlled(told: Mapping[str, Any]) -> str:
    if told["controlled"] is None:
        return "not identified"
    return words({"value": told["controlled"], "interval": told["interval"]}, "win rate")


def style(decision: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Axis, shift, price, what it explains, and whether it is paid for; axes on which nothing moved are left out."""
    rows = []
    for one in decision.get("style", {}).get("axes", ()):
        if one["shift"]["value"] or one["price"]:
            told = [words(one[key], "reward") for key in ("shift", "price", "explained")]
            rows.append((str(one["axis"]), *told, "yes" if one["paid"] else "not shown"))
    return rows


def hypothesis(item: Mapping[str, Any]) -> dict[str, Any]:
    """A hypothesis of diagnosis.json with its findings' figures and drawings."""
    return {**item, "badge": BADGES[item["verdict"]], "findings": [_finding(one) for one in item["findings"]]}


def _finding(told: Mapping[str, Any]) -> dict[str, Any]:
    value, ends, threshold = told["value"], told["interval"], told["threshold"]
    title = str(told["name"]).replace("_", " ")
    if value is None or threshold is None:
        return {**told, "title": title, "words": "", "wanted": "", "drawing": None}
    low, high = ("…" if end is None else f"{end:.3g}" for end in ends or (None, None))
    found, wanted = f"{value:.3g} [{low}, {high}]", f"{told['shown_when']} {threshold:.3g}"
    label = f"{title}: {found}; supports the hypothesis when {wanted}"
    passed = None if told["shown"] is None else not told["shown"]
    drawing = svg.interval(
        value, ends, float(threshold), told["shown_when"], passed, label, mark=f"{threshold:.3g}", area="cause"
    )
    return {**told, "title": title, "words": found, "wanted": wanted, "drawing": drawing}


def explanation(diagnosis: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """(Lead, text) of each paragraph of diagnosis.json's explanation; the lead says what it is about, or is empty."""
    paragraphs = str((diagnosis or {}).get("explanation", "")).split("\n\n")
    found = [LEADS.match(text) for text in paragraphs]
    return [
        (lead[1], text[lead.end() :]) if lead else ("", text)
        for lead, text in zip(found, paragraphs, strict=True)
        if text
    ]
