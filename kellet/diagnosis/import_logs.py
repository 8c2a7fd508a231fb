"""Histories of TRL, OpenRLHF and verl, translated into Kellet's names and units for the diagnosis.

The names are those in the trainers' sources (read in July 2026: trl main, OpenRLHF main; verl January 2026). KL differs
most. TRL's PPO sums its estimate over a response; TRL's GRPO, OpenRLHF and verl average it over the response's tokens,
and nats per response are then mean KL per token times mean length, which is exact only where KL per token and length
are uncorrelated. And none of them logs the full KL: what they call KL is k1 or k3 of the sampled tokens.
"""

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kellet.errors import DataError

Estimator = Literal["k1", "k3"]
PER_TOKEN = "objective/kl_per_token"  # noqa: S105 -- a metric
LENGTH = "tokens/response_mean"


@dataclass(frozen=True)
class Trainer:
    """How a trainer names its metrics."""

    title: str
    marker: str
    """A metric that is in every row that it logs for a training step, and by which its logs are recognised."""
    estimator: Estimator
    """What it calls KL, unless configured otherwise."""
    names: Mapping[str, str]
    """Its metric -> Kellet's."""


TRAINERS = {
    "trl-ppo": Trainer(
        "TRL PPOTrainer",
        "objective/scores",
        "k1",
        {
            "objective/scores": "objective/reward",
            "objective/kl": "KL",
            "objective/rlhf_reward": "objective/score_with_kl",
            "policy/approxkl_avg": "ppo/policy/approxkl",
            "policy/clipfrac_avg": "ppo/policy/clipfrac",
            "loss/value_avg": "ppo/value/loss",
            "episode": "episodes",
        },
    ),
    "trl-grpo": Trainer(
        "TRL GRPOTrainer or RLOOTrainer",
        "completions/mean_length",
        "k3",
        {
            "reward": "objective/reward",
            "reward_std": "objective/reward_std",
            "kl": PER_TOKEN,
            "completions/mean_length": LENGTH,
            "completions/clipped_ratio": "tokens/truncated_share",
            "clip_ratio/region_mean": "ppo/policy/clipfrac",
            "entropy": "objective/entropy",
            "grad_norm": "ppo/grad_norm",
        },
    ),
    "openrlhf": Trainer(
        "OpenRLHF",
        "ppo_clip_ratio",
        "k1",
        {
            "rollout/reward_mean": "objective/reward",
            "rollout/reward_std": "objective/reward_std",
            "kl": PER_TOKEN,
            "rollout/response_length_mean": LENGTH,
            "rollout/truncated_rate": "tokens/truncated_share",
            "ppo_clip_ratio": "ppo/policy/clipfrac",
            "ppo_kl": "ppo/policy/approxkl",
            "actor_grad_norm": "ppo/grad_norm",
        },
    ),
    "verl": Trainer(
        "verl",
        "critic/score/mean",
        "k1",
        {
            "critic/score/mean": "objective/reward",
            "actor/reward_kl_penalty": PER_TOKEN,
            "actor/kl_loss": PER_TOKEN,
            "actor/reward_kl_penalty_coeff": "objective/kl_coef",
            "actor/kl_coef": "objective/kl_coef",
            "response_length/mean": LENGTH,
            "response_length/clip_ratio": "tokens/truncated_share",
            "actor/ppo_kl": "ppo/policy/approxkl",
            "actor/pg_clipfrac": "ppo/policy/clipfrac",
            "actor/entropy": "objective/entropy",
            "actor/grad_norm": "ppo/grad_norm",
            "critic/vf_explained_var": "ppo/value/explained_variance",
        },
    ),
}
"""By the value of ``--trainer``."""


@dataclass(frozen=True)
class Imported:
    """A history in Kellet's names, and how it was translated."""

    trainer: Trainer
    rows: list[dict[str, float | None]]
    names: dict[str, str]
    """The trainer's metric -> Kellet's, for those in the log."""
    notes: tuple[str, ...]


def read_log(path: Path) -> list[dict[str, Any]]:
    """Rows of a log: JSON lines (also verl's ``{"step", "data"}``), CSV, or a trainer_state.json with ``log_history``.

    The prefix ``train/``, which loggers add to keys, is removed. Raises DataError naming file and line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; give a .jsonl, .json or .csv file") from error
    if path.suffix == ".csv":
        rows: list[Any] = [
            {key: _number(value) for key, value in row.items()} for row in csv.DictReader(text.splitlines())
        ]
    elif path.suffix == ".json":
        whole = _json(text, path, "the file")
        rows = whole.get("log_history", [whole]) if isinstance(whole, dict) else whole
    else:
        rows = [_json(line, path, f"line {n}") for n, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(
            f"{path} holds no rows of metrics; wanted one JSON object a line, a CSV, or a trainer_state.json"
        )
    flat = [{**row["data"], "step": row.get("step")} if isinstance(row.get("data"), dict) else row for row in rows]
    return [{str(key).removeprefix("train/"): value for key, value in row.items()} for row in flat]


def import_history(rows: Sequence[Mapping[str, Any]], trainer: str | None, estimator: Estimator | None) -> Imported:
    """Translate logged rows.

    ``trainer`` is a key of TRAINERS, or None to recognise it by its metrics; ``estimator`` is what its KL is, or None
    for its default. Raises DataError when no trainer is recognised.
    """
    keys = {key for row in rows for key in row}
    name = trainer or next((name for name, known in TRAINERS.items() if known.marker in keys), None)
    if name is None:
        wanted = ", ".join(f"{known.marker} ({known.title})" for known in TRAINERS.values())
        raise DataError(f"no trainer is recognised; looked for one of {wanted}; found {', '.join(sorted(keys)[:20])}")
    source = TRAINERS[name]
    kl_name = f"objective/kl_{estimator or source.estimator}"
    names = {theirs: kl_name if ours == "KL" else ours for theirs, ours in source.names.items() if theirs in keys}
    steps = [row for row in rows if _finite(row.get(source.marker)) is not None]
    history = []
    for number, row in enumerate(steps, 1):
        metrics: dict[str, float | None] = {"iteration": float(number)}
        metrics |= {ours: _finite(row[theirs]) for theirs, ours in names.items() if theirs in row}
        history.append(_derived(metrics, row, kl_name))
    return Imported(source, history, names, _notes(history, names, kl_name))


def _derived(metrics: dict[str, float | None], row: Mapping[str, Any], kl_name: str) -> dict[str, float | None]:
    """Add KL per response (KL per token times length) and β (from TRL's logged penalty, which is -β·KL)."""
    per_token, length = metrics.get(PER_TOKEN), metrics.get(LENGTH)
    if per_token is not None and length is not None:
        metrics[kl_name] = per_token * length
    penalty, kl = _finite(row.get("objective/non_score_reward")), metrics.get(kl_name)
    if penalty is not None and kl:
        metrics["objective/kl_coef"] = float(f"{-penalty / kl:.4g}")
    return metrics


def _notes(history: list[dict[str, float | None]], names: Mapping[str, str], kl_name: str) -> tuple[str, ...]:
    notes = [f"KL is read as {kl_name[-2:]} of the sampled tokens; change it with --kl-estimator"]
    if PER_TOKEN in names.values() and any(kl_name in row for row in history):
        notes.append("nats per response are mean KL per token times mean length, an approximation")
    if "objective/non_score_reward" not in names and "objective/kl_coef" not in names.values():
        derived = any("objective/kl_coef" in row for row in history)
        notes.append("β is computed from the logged penalty" if derived else "β is not logged; add objective/kl_coef")
    return tuple(notes)


def _json(text: str, path: Path, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: {where} is not JSON ({error.msg})") from error


def _number(text: str | None) -> Any:
    """Parse a number; other text stays text, empty text becomes None."""
    if text is None or not text.strip():
        return None
    try:
        return float(text)
    except ValueError:
        return text


def _finite(value: Any) -> float | None:
    finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if finite else None
