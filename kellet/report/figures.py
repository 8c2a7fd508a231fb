"""Drawings over training and over answers: curves of one run or of several, reward against length."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from kellet.report import svg
from kellet.report.judgements import settings
from kellet.stats.bootstrap import Estimate
from kellet.stats.within_prompt import length_slope

MAX_POINTS = 1500
"""Dots of each system in the scatter; a draw with a fixed seed when there are more answers."""
MAX_STEPS = 400
"""Points of a curve; when there are more iterations, evenly spaced ones with the first and the last."""
SYSTEMS = ("reference", "champion", "candidate")
"""In the order in which they are drawn over each other; each name is also the CSS class of the system's colour."""
COLOURS = 8
"""CSS classes run-0, run-1, ... in compare.css; with more runs they repeat."""
CURVES = (
    ("Reward", "own reward model's", "objective/reward"),
    ("Length", "tokens of a response", "tokens/response_mean"),
    ("KL from the reference", "nats per response", "objective/kl"),
    ("KL coefficient β", "reward per nat", "objective/kl_coef"),
)
"""(title, unit, metric) of the curves that several runs share."""
Level = tuple[str, str, float]
"""(name, CSS class, value) of a horizontal line."""


def curves(
    history: Sequence[Mapping[str, Any]], gate: Mapping[str, Any], answered: Mapping[str, float]
) -> list[tuple[str, Markup]]:
    """(Title, drawing) of reward, judges, length, KL and β over iterations; metrics that were not logged are left out.

    ``answered`` has the means of reward and length of the reference's held-out answers, drawn as horizontal lines.
    """
    tail = [("tail budget", "tail-budget", float(gate["kl_tail_budget"]))]
    levels = [("budget", "budget", float(gate["kl_budget"]))]
    target = _points(history, "objective/kl_target")
    if target:
        levels.insert(0, ("target", "target", target[-1][1]))
    judges = sorted({key for step in history for key in step if key.startswith("judge/")})
    reward, length = (
        [("reference", "reference", answered[key])] if key in answered else [] for key in ("reward", "length")
    )
    wanted: list[tuple[str, str, dict[str, str], list[Level]]] = [
        ("Reward", "reward of a response", {"policy": "objective/reward"}, reward),
        *(("Judge: " + key.removeprefix("judge/"), "score of a response", {"policy": key}, []) for key in judges),
        ("Length", "tokens of a response", {"policy": "tokens/response_mean"}, length),
        ("KL from the reference", "nats per response", {"mean": "objective/kl"}, levels),
        ("Tail of the KL", "nats per response", {"95th percentile": "objective/kl_p95"}, tail),
        ("KL of a token", "nats per token", {"policy": "objective/kl_per_token"}, []),
        ("KL coefficient β", "reward per nat", {"policy": "objective/kl_coef"}, []),
    ]
    drawn = []
    for title, unit, keys, lines in wanted:
        series = [svg.Series(name, "candidate", _points(history, key)) for name, key in keys.items()]
        if all(one.points for one in series):
            drawn.append((title, svg.curves(title, unit, series, lines)))
    return drawn


def overlaid(histories: Mapping[str, Sequence[Mapping[str, Any]]], levels: Sequence[Level]) -> list[tuple[str, Markup]]:
    """(Title, drawing) of CURVES, with the curves of all runs in one drawing; ``levels`` belong to the KL."""
    drawn = []
    for title, unit, key in CURVES:
        series = [
            svg.Series(name, colour(number), _points(history, key))
            for number, (name, history) in enumerate(histories.items())
        ]
        logged = [one for one in series if one.points]
        if logged:
            drawn.append((title, svg.curves(title, unit, logged, levels if key == "objective/kl" else ())))
    return drawn


def colour(number: int) -> str:
    """The CSS class of the run with this number."""
    return f"run-{number % COLOURS}"


def _points(history: Sequence[Mapping[str, Any]], key: str) -> list[svg.Point]:
    pairs = [(step.get("iteration", number), step.get(key)) for number, step in enumerate(history, 1)]
    points = [(float(x), float(y)) for x, y in pairs if x is not None and y is not None and np.isfinite(y)]
    if len(points) <= MAX_STEPS:
        return points
    return [points[place] for place in np.linspace(0, len(points) - 1, MAX_STEPS).round().astype(int)]


def answered(rows: pd.DataFrame) -> dict[str, float]:
    """Mean reward and length of the reference's answers."""
    part = rows[rows["system"] == "reference"]
    return {"reward": float(part["reward"].mean()), "length": float(part["length_tokens"].mean())}


def slopes(rows: pd.DataFrame, gate: Mapping[str, Any]) -> dict[str, Estimate | None]:
    """Within-prompt slope of reward on length for each system; None where there are too few answers for one."""
    fitted = {}
    for system in SYSTEMS:
        part = rows[rows["system"] == system]
        if len(part):
            columns = (part["reward"].to_numpy(), part["length_tokens"].to_numpy(), part["prompt_id"].to_numpy(str))
            fitted[system] = length_slope(*columns, **settings(gate))
    return fitted


def scatter(rows: pd.DataFrame, fitted: Mapping[str, Estimate | None]) -> Markup:
    """Reward against length, one dot per answer; a line through each system's mean has its within-prompt slope."""
    series, lines = [], []
    for system in SYSTEMS:
        part = rows[rows["system"] == system]
        if not len(part):
            continue
        length, reward = part["length_tokens"].to_numpy(float), part["reward"].to_numpy(float)
        drawn = np.sort(np.random.default_rng(0).permutation(len(part))[:MAX_POINTS])
        series.append(svg.Series(system, system, list(zip(length[drawn], reward[drawn], strict=True))))
        slope = fitted[system]
        if slope is not None:
            ends = np.quantile(length, [0.02, 0.98])
            heights = reward.mean() + slope.value * (ends - length.mean())
            (x1, x2), (y1, y2) = ends.tolist(), heights.tolist()
            lines.append(svg.Line(system, system, (x1, y1), (x2, y2)))
    return svg.scatter("Reward against length of each answer", "length, tokens", "reward", series, lines)
