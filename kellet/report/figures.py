"""The report's drawings over training and over answers: curves of a history, reward against length."""

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
"""Dots of each system in the scatter; a fixed draw when there are more answers."""
MAX_STEPS = 400
"""Points of a curve; evenly spaced iterations, the last among them, when there are more."""
STYLES = ("reference", "champion", "candidate")
"""Systems, each with the CSS class of its name, in the order in which they are drawn over each other."""


def curves(
    history: Sequence[Mapping[str, Any]], gate: Mapping[str, Any], answered: Mapping[str, float]
) -> list[tuple[str, Markup]]:
    """Reward, judges, length, KL and β over iterations; a metric that was not logged is left out.

    ``answered`` are the means of reward and length of the reference's held-out answers, drawn across.
    """
    tail = [("tail budget", "tail-budget", float(gate["kl_tail_budget"]))]
    levels = [("budget", "budget", float(gate["kl_budget"]))]
    target = _points(history, "objective/kl_target")
    if target:
        levels.insert(0, ("target", "target", target[-1][1]))
    judged = sorted({key for step in history for key in step if key.startswith("judge/")})
    reward, length = (
        [("reference", "reference", answered[key])] if key in answered else [] for key in ("reward", "length")
    )
    wanted: list[tuple[str, str, dict[str, str], list[tuple[str, str, float]]]] = [
        ("Reward", "reward of a response", {"policy": "objective/reward"}, reward),
        *(("Judge: " + key.removeprefix("judge/"), "score of a response", {"policy": key}, []) for key in judged),
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


def _points(history: Sequence[Mapping[str, Any]], key: str) -> list[svg.Point]:
    pairs = [(step.get("iteration", index), step.get(key)) for index, step in enumerate(history, 1)]
    points = [(float(x), float(y)) for x, y in pairs if y is not None and np.isfinite(y)]
    if len(points) <= MAX_STEPS:
        return points
    return [points[place] for place in np.linspace(0, len(points) - 1, MAX_STEPS).round().astype(int)]


def answered(rows: pd.DataFrame) -> dict[str, float]:
    """Mean reward and length of the reference's answers."""
    part = rows[rows["system"] == "reference"]
    return {"reward": float(part["reward"].mean()), "length": float(part["length_tokens"].mean())}


def slopes(rows: pd.DataFrame, gate: Mapping[str, Any]) -> list[tuple[str, Estimate | None]]:
    """Within-prompt slope of reward on length for each system, where it can be told."""
    found = []
    for system in STYLES:
        part = rows[rows["system"] == system]
        if len(part):
            columns = (part["reward"].to_numpy(), part["length_tokens"].to_numpy(), part["prompt_id"].to_numpy(str))
            found.append((system, length_slope(*columns, **settings(gate))))
    return found


def scatter(rows: pd.DataFrame, fitted: Mapping[str, Estimate | None]) -> Markup:
    """Reward against length, one dot an answer; lines of the within-prompt slope through each system's mean."""
    series, lines = [], []
    for system in STYLES:
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
