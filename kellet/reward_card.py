"""The reward model's card: what it learned, on pairs it has not seen, with intervals.

Labels that like length are predicted worse by a reward that ignores it: that is the point of length control, not a
fault. So ``accuracy`` and ``lift`` are those of the fitted preference model as a whole, γ·Δlength included (with
length_control none that is the reward alone), and ask: do the labels hold more than length, and was it learned?
``accuracy_reward`` and ``accuracy_longer_rejected`` are of the reward alone, which is what the policy will see.

Every interval is two-sided at 90%, so that each end is a one-sided 95% bound, from the studentised bootstrap over
prompts (kellet/bootstrap.py). Legend: P held-out pairs; rewards are logits of preference.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from kellet.bootstrap import Estimate, Floats, cluster_codes, cluster_means, mean
from kellet.config import Config
from kellet.equal_length import length_slope
from kellet.errors import NoLift
from kellet.reward_model import LENGTH_UNIT, Pairs, Scorer, encode_pairs, score_all
from kellet.tokens import encode_prompt, encode_response
from kellet.win_rate import win_rate

FILLER = (
    "Thank you so very much for taking the time to write to us today.",
    "Please do not hesitate to contact us once more at any time you like.",
    "We are always more than happy to help with any question that you have.",
)
"""Courtesy that adds nothing; the filler probe appends one of them to an answer that lacks it."""
ALPHA = 0.05


def reward_card(
    scorer: Scorer, tokenizer: Any, table: pd.DataFrame, config: Config, gamma: float | None
) -> dict[str, Any]:
    """Measure the reward model on the held-out pairs of ``table`` (prompt, chosen, rejected)."""
    pairs = encode_pairs(table, tokenizer, config)
    rewards = _score(scorer, pairs, tokenizer.pad_token_id)
    longer = pairs.length_difference().numpy().astype(np.float64)
    gap, prompts = rewards[0] - rewards[1], table["prompt"].to_numpy()
    right, baseline = _wins(gap + (gamma or 0.0) * longer / LENGTH_UNIT), _wins(longer)
    longer_lost = longer < 0
    slope = length_slope(
        np.concatenate([rewards[0], rewards[1]]),
        np.array([len(ids) for ids in pairs.chosen + pairs.rejected], dtype=np.float64),
        np.concatenate([_pair_ids(table), _pair_ids(table)]),
        alpha=ALPHA,
    )
    card: dict[str, Any] = {
        "pairs": len(table),
        "prompts": int(table["prompt"].nunique()),
        "length_control": config.reward_model.length_control,
        "gamma": gamma,
        "accuracy": win_rate(right, prompts, alpha=ALPHA).to_dict(),
        "length_baseline": win_rate(baseline, prompts, alpha=ALPHA).to_dict(),
        "accuracy_reward": win_rate(_wins(gap), prompts, alpha=ALPHA).to_dict(),
        "lift": _mean_over(right - baseline, prompts).to_dict(),
        "accuracy_longer_rejected": None,
        "length_slope": None if slope is None else slope.to_dict() | {"unit": "reward per token, within pair"},
        "filler_probe": _probe(scorer, tokenizer, table, config, _with_filler).to_dict(),
        "truncation_probe": _probe(scorer, tokenizer, table, config, _without_end).to_dict(),
        "calibration": _calibration(gap),
    }
    if longer_lost.any():
        found = win_rate(_wins(gap)[longer_lost], prompts[longer_lost], alpha=ALPHA)
        card["accuracy_longer_rejected"] = found.to_dict() | {"pairs": int(longer_lost.sum())}
    return card | {"warnings": _warnings(card)}


def require_lift(card: Mapping[str, Any]) -> None:
    """Raise NoLift when the card does not show accuracy above that of 'always the longer one'."""
    lift, low = card["lift"]["value"], card["lift"]["interval"][0]
    if low is not None and low > 0:
        return
    raise NoLift(
        f"the reward model's lift over 'always the longer one' is {_points(lift)} points "
        f"[{_points(low)}, {_points(card['lift']['interval'][1])}] on {card['pairs']} held-out pairs "
        f"(accuracy {card['accuracy']['value']:.1%} against {card['length_baseline']['value']:.1%}): not shown to be "
        "above zero, so a policy trained on it would learn length. Bring more or better pairs or a stronger base "
        "model; --set reward_model.require_lift=false carries on to the gate all the same"
    )


def _points(share: float | None) -> str:
    return "?" if share is None else f"{100 * share:+.1f}"


def _score(scorer: Scorer, pairs: Pairs, pad_id: int) -> Floats:
    """(2, P) rewards of chosen and rejected."""
    return score_all(scorer, pairs, pad_id).numpy().astype(np.float64)


def _wins(gap: Floats) -> Floats:
    """1 where positive, 0 where negative, one half where zero."""
    return (np.sign(gap) + 1) / 2


def _pair_ids(table: pd.DataFrame) -> np.ndarray[Any, Any]:
    return np.arange(len(table))


def _mean_over(values: Floats, prompts: Any) -> Estimate:
    (codes,), n = cluster_codes(prompts)
    return mean(cluster_means(values, codes, n), alpha=ALPHA, resamples=2000, seed=0)


def _probe(scorer: Scorer, tokenizer: Any, table: pd.DataFrame, config: Config, change: Any) -> Estimate:
    """Mean change of reward when the chosen answers are changed by ``change(answer, number)``; None leaves one out."""
    answers = list(table["chosen"])
    changed = [change(answer, number) for number, answer in enumerate(answers)]
    kept = [number for number, answer in enumerate(changed) if answer is not None]
    if not kept:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    prompts = table["prompt"].to_numpy()[kept]
    queries = [encode_prompt(tokenizer, prompt, config.text) for prompt in prompts]
    columns = [
        [encode_response(tokenizer, texts[number], config.text) for number in kept] for texts in (changed, answers)
    ]
    rewards = _score(scorer, Pairs(queries, *columns), tokenizer.pad_token_id)
    return _mean_over(rewards[0] - rewards[1], prompts)


def _with_filler(answer: str, number: int) -> str | None:
    sentence = FILLER[number % len(FILLER)]
    return None if sentence in answer else f"{answer.rstrip()} {sentence}"


def _without_end(answer: str, number: int) -> str | None:  # noqa: ARG001
    sentences = re.split(r"(?<=[.!?])\s+", answer.strip())
    return " ".join(sentences[:-1]) or None


def _calibration(gap: Floats) -> dict[str, float]:
    """Log loss of σ(gap), and the temperature T that makes σ(gap/T) best; T > 1 means over-confident."""

    def loss(temperature: float) -> float:
        return float(np.logaddexp(0, -gap / temperature).mean())

    best = minimize_scalar(lambda log_t: loss(float(np.exp(log_t))), bounds=(-3, 3), method="bounded")
    return {"log_loss": loss(1.0), "temperature": float(np.exp(best.x)), "log_loss_at_temperature": float(best.fun)}


def _warnings(card: Mapping[str, Any]) -> list[str]:
    warnings = []
    filler = card["filler_probe"]
    if filler["interval"][0] > 0:
        warnings.append(f"a courtesy sentence that adds nothing raises the reward by {filler['value']:.2f}")
    slope = card["length_slope"]
    if slope is not None and slope["interval"][0] > 0:
        warnings.append(f"ten more tokens raise the reward by {10 * slope['value']:.2f} within a pair")
    if card["lift"]["interval"][0] <= 0:
        warnings.append("no lift over 'always the longer one' is shown")
    return warnings
