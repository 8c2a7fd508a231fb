"""report.html: one self-contained page, verdict first, for whoever has to decide.

Everything on it comes from files: gate.json, the evaluation, the PPO history, the reward model's card, the data's
summary. All but the first two may be missing. Text of prompts and answers is escaped by Jinja's autoescape; the page
has no script, asks for nothing from outside, and forbids both by a content security policy.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd
import yaml
from markupsafe import Markup

from kellet import svg
from kellet.bootstrap import Estimate
from kellet.checks import number
from kellet.conversation import as_text
from kellet.equal_length import length_slope
from kellet.evaluation_file import check_evaluation
from kellet.files import atomic_file

MAX_POINTS = 1500
"""Dots of each system in the scatter; a fixed draw when there are more answers."""
CRITERIA = {
    "reward_gain": "Is the reward higher?",
    "length_inflation": "Are answers about as long as before?",
    "controlled_gain": "Is the reward higher at equal length?",
    "kl_budget": "Has the policy stayed near the reference?",
    "independent_judge": "Does a judge that was not optimised against agree?",
    "degeneration": "Are truncated, empty, repetitive and duplicate answers as rare as before?",
}
CHECKS = {
    "mean_gain": "mean reward gain",
    "length_ratio": "mean length, candidate / reference",
    "equal_length_gain": "gain at equal length",
    "equal_length_win_rate": "win rate at equal length",
    "mean_kl": "mean KL of a response",
    "tail_kl": "95th percentile of KL",
    "win_rate": "win rate by the judge",
    "judge_win_rate": "win rate by the judge",
    "reward_gain": "mean reward gain",
    "truncated": "truncated: candidate − reference",
    "empty": "empty: candidate − reference",
    "repetitive": "repetitive: candidate − reference",
    "duplicate": "duplicate: candidate − reference",
}
STYLES = {"candidate": "candidate", "reference": "reference", "champion": "champion"}


class Answer(NamedTuple):
    """One answer as the page shows it."""

    system: str
    response: str
    reward: float
    tokens: int
    kl: float | None


class Example(NamedTuple):
    """A prompt with both answers, and the rule that chose it."""

    rule: str
    prompt: str
    answers: tuple[Answer, ...]


def write_report(
    out: Path,
    decision: Mapping[str, Any],
    evaluation: pd.DataFrame,
    history: Sequence[Mapping[str, float]] = (),
    config: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    lineage: Mapping[str, str] | None = None,
    diagnosis: Mapping[str, Any] | None = None,
) -> None:
    """Write the page to the file ``out``, atomically.

    ``decision`` is the content of gate.json, ``evaluation`` the rows it was made from, ``history`` the lines of
    history.jsonl, ``config`` the resolved configuration, ``card`` card.json, ``data`` summary.json, ``lineage``
    names and hashes, and ``diagnosis`` diagnosis.json. Raises DataError when the rows break the contract.
    """
    rows = check_evaluation(evaluation)
    slopes = _slopes(rows, decision["config"])
    folder = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(
        loader=folder, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("report.html").render(
        decision=decision,
        level=f"{100 * (1 - 2 * float(decision['config']['alpha'])):g}%",
        criteria=[_criterion(item) for item in decision["criteria"]],
        champion=_champion(decision),
        judges=_judges(decision),
        diagnosis=diagnosis,
        patches=[_patch(item) for item in (diagnosis or {}).get("recommendations", ())],
        curves=_curves(history, decision["config"]),
        scatter=_scatter(rows, dict(slopes)),
        slopes=slopes,
        shown=min(MAX_POINTS, int((rows["system"] == "candidate").sum())),
        examples=_examples(rows),
        card=list(_flat(card or {})),
        data=list(_flat(data or {})),
        lineage=[*(lineage or {}).items(), *_flat(decision["inputs"])],
        config=_settings(config or {"gate": decision["config"]}),
    )
    with atomic_file(out) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def _patch(recommendation: Mapping[str, Any]) -> str:
    """The patch as options of ``kellet`` and ``flows.retrain``."""
    return " ".join(f"--set {key}={value}" for key, value in recommendation["patch"].items())


def _settings(config: Mapping[str, Any]) -> str:
    """Write the configuration as YAML, without a user and password that a tracking URI may hold."""
    text = str(yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def _criterion(item: Mapping[str, Any]) -> dict[str, Any]:
    name = str(item["name"])
    checks = [_check(check) for check in item["checks"]]
    return {**item, "question": CRITERIA.get(name, name.replace("_", " ")), "checks": checks}


def _check(check: Mapping[str, Any]) -> dict[str, Any]:
    """Give a check its words and its drawing."""
    unit, value, ends = check["unit"], check["value"], check["interval"]
    title = CHECKS.get(str(check["name"]), str(check["name"]).replace("_", " "))
    words = "cannot tell"
    if value is not None and ends:
        low, high = ("…" if end is None else number(float(end), unit).removesuffix(" nats") for end in ends)
        words = f"{number(float(value), unit)} [{low}, {high}]"
    wanted = f"{check['direction']} {number(float(check['threshold']), unit)}"
    label = f"{title}: {words}, wanted {wanted}"
    drawing = svg.interval(value, ends, float(check["threshold"]), str(check["direction"]), check["passed"], label)
    return {**check, "title": title, "words": words, "wanted": wanted, "drawing": drawing}


def _champion(decision: Mapping[str, Any]) -> dict[str, Any] | None:
    versus = decision.get("comparison_with_champion")
    if not versus:
        return None
    return {
        "shown_worse": versus["shown_worse"],
        "checks": [_check(c) for c in (versus["reward_gain"], *versus["checks"])],
    }


def _judges(decision: Mapping[str, Any]) -> list[tuple[str, str, str, int]]:
    """Name, win rate, mean gain and prompts of each judge column."""
    rows = []
    for name, told in decision.get("judges", {}).items():
        rate, gain = told["win_rate"], told["mean_gain"]
        rows.append((name, _words(rate, "win rate"), _words(gain, "reward"), int(rate["prompts"])))
    return rows


def _words(estimate: Mapping[str, Any], unit: Any) -> str:
    low, high = ("…" if end is None else number(float(end), unit) for end in estimate["interval"])
    return f"{number(float(estimate['value']), unit)} [{low}, {high}]"


def _curves(history: Sequence[Mapping[str, float]], gate: Mapping[str, Any]) -> list[tuple[str, Markup]]:
    """Reward, length, KL and β over iterations; a metric that was not logged is left out."""

    def points(key: str) -> list[svg.Point]:
        pairs = [(step.get("iteration", index), step.get(key)) for index, step in enumerate(history)]
        return [(float(x), float(y)) for x, y in pairs if y is not None and np.isfinite(y)]

    levels = [("budget", "budget", float(gate["kl_budget"]))]
    target = points("objective/kl_target")
    if target:
        levels.insert(0, ("target", "target", target[-1][1]))
    wanted = [
        ("Reward", "reward of a response", "objective/reward", "candidate", []),
        ("Length", "tokens of a response", "tokens/response_mean", "candidate", []),
        ("KL from the reference", "nats per response", "objective/kl", "candidate", levels),
        ("KL coefficient β", "β", "objective/kl_coef", "candidate", []),
    ]
    drawn = []
    for title, unit, key, style, lines in wanted:
        series = svg.Series("policy", style, points(key))
        if series.points:
            drawn.append((title, svg.curves(title, unit, [series], lines)))
    return drawn


def _slopes(rows: pd.DataFrame, gate: Mapping[str, Any]) -> list[tuple[str, Estimate | None]]:
    """Within-prompt slope of reward on length for each system, where it can be told."""
    slopes = []
    for system in STYLES:
        part = rows[rows["system"] == system]
        if not len(part):
            continue
        columns = (part["reward"].to_numpy(), part["length_tokens"].to_numpy(), part["prompt_id"].to_numpy(str))
        settings = {"alpha": gate["alpha"], "resamples": gate["resamples"], "seed": gate["seed"]}
        slopes.append((system, length_slope(*columns, **settings)))
    return slopes


def _scatter(rows: pd.DataFrame, slopes: Mapping[str, Estimate | None]) -> Markup:
    """Reward against length, one dot an answer; lines of the within-prompt slope through each system's mean."""
    series, lines = [], []
    for system in ("reference", "champion", "candidate"):
        part = rows[rows["system"] == system]
        if not len(part):
            continue
        length, reward = part["length_tokens"].to_numpy(float), part["reward"].to_numpy(float)
        drawn = np.sort(np.random.default_rng(0).permutation(len(part))[:MAX_POINTS])
        series.append(svg.Series(system, STYLES[system], list(zip(length[drawn], reward[drawn], strict=True))))
        slope = slopes[system]
        if slope is not None:
            ends = np.quantile(length, [0.02, 0.98])
            heights = reward.mean() + slope.value * (ends - length.mean())
            (x1, x2), (y1, y2) = ends.tolist(), heights.tolist()
            lines.append(svg.Line(system, STYLES[system], (x1, y1), (x2, y2)))
    return svg.scatter("Reward against length of each answer", "length, tokens", "reward", series, lines)


def _examples(rows: pd.DataFrame) -> list[Example]:
    """Pairs of the same prompt and sample: largest gain, median gain, largest loss, longest answer; no pair twice."""
    split = {name: rows[rows["system"] == name] for name in ("reference", "candidate")}
    both = split["reference"].merge(split["candidate"], on=["prompt_id", "sample"], suffixes=("_r", "_c"))
    gain = (both["reward_c"] - both["reward_r"]).to_numpy(float)
    order = np.argsort(gain, kind="stable")
    middle = np.argsort(np.abs(np.arange(len(order)) - (len(order) - 1) / 2), kind="stable")
    rules = [
        ("Largest gain of reward", order[::-1]),
        ("Median gain of reward", order[middle]),
        ("Largest loss of reward" if (gain < 0).any() else "Smallest gain of reward", order),
        ("Longest answer of the candidate", np.argsort(-both["length_tokens_c"].to_numpy(float), kind="stable")),
    ]
    examples: list[Example] = []
    used: set[int] = set()
    for rule, places in rules:
        place = next((int(index) for index in places if int(index) not in used), None)
        if place is None:
            break
        used.add(place)
        row = both.iloc[place]
        answers = tuple(
            Answer(
                system,
                str(row[f"response_{end}"]),
                float(row[f"reward_{end}"]),
                int(row[f"length_tokens_{end}"]),
                None if pd.isna(row[f"kl_nats_{end}"]) else float(row[f"kl_nats_{end}"]),
            )
            for system, end in (("reference", "r"), ("candidate", "c"))
        )
        examples.append(Example(rule, as_text(str(row["prompt_r"])), answers))
    return examples


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested values as (name, text) rows; {value, interval} becomes 'value [low, high]'."""
    for key, value in values.items():
        name = prefix + str(key).replace("_", " ")
        if isinstance(value, Mapping) and "value" in value and "interval" in value:
            rest = {k: v for k, v in value.items() if k not in ("value", "interval", "unit")}
            ends = value["interval"]
            text = _text(value["value"]) + (f" [{', '.join(_text(end) for end in ends)}]" if ends else "")
            yield name, f"{text} {value.get('unit', '')}".strip()
            yield from _flat(rest, f"{name}: ")
        elif isinstance(value, Mapping):
            yield from _flat(value, f"{name}: ")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for number, item in enumerate(value, 1):
                yield from _flat(item, f"{name} {number}: ")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(_text(item) for item in value) or "none"
        else:
            yield name, _text(value)


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "-"}[value]
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
