"""The reward model's card: what it learned, measured on held-out pairs, with intervals.

Labels that like length are predicted worse by a reward that ignores it: that is the point of length control, not a
fault. So ``accuracy``, ``lift`` and ``calibration`` are of the whole preference model, the terms that are dropped when
scoring included (without length control there are none). They answer: do the labels hold more than length, and was it
learned? ``accuracy_reward``, ``accuracy_longer_rejected``, slopes and probes are of the reward alone, which is what the
policy will see.

Every interval is two-sided at 90%, so that each end is a one-sided 95% bound, from the studentised bootstrap over
prompts (kellet/stats/bootstrap.py) unless the figure's function says otherwise. Legend: P held-out pairs; rewards are
logits of preference. A null stands for what cannot be measured.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kellet.config.run import Config
from kellet.errors import NoLift
from kellet.models.tokens import encode_response
from kellet.reward.card_text import CARD_ALPHA
from kellet.reward.model import Pairs, Scorer, Scores, cut_counts, encode_pairs, score_all, scores_of_pairs
from kellet.stats.bootstrap import Estimate, Floats, cluster_codes, cluster_means, mean
from kellet.stats.calibration import calibration
from kellet.stats.format import value_and_interval
from kellet.stats.style import Style, sentences, style
from kellet.stats.win_rate import win_rate
from kellet.stats.within_prompt import length_slope, slope_at_equal_length

FILLER = (
    "Thank you so very much for taking the time to write to us today.",
    "Please do not hesitate to contact us once more at any time you like.",
    "We are always more than happy to help with any question that you have.",
)
"""Courtesy that adds nothing; the filler probe appends one of them to an answer that lacks it."""
RESAMPLES = 2000
"""Of the bootstrap."""


def reward_card(scorer: Scorer, tokenizer: Any, table: pd.DataFrame, config: Config) -> dict[str, Any]:
    """Measure the reward model on the held-out pairs of ``table`` (prompt, chosen, rejected)."""
    pairs, prompts = encode_pairs(table, tokenizer, config), table["prompt"].to_numpy()
    chosen, rejected = scores_of_pairs(scorer, pairs, tokenizer.pad_token_id)
    cut = cut_counts(table, tokenizer, config)
    rewards = np.concatenate([_floats(chosen.reward), _floats(rejected.reward)])
    reward_gap = _floats(chosen.reward - rejected.reward)
    preference_gap = _floats(chosen.preference - rejected.preference)
    longer = pairs.length_difference().numpy().astype(np.float64)
    right, baseline = _wins(preference_gap), _wins(longer)
    length = np.array([len(ids) for ids in pairs.chosen + pairs.rejected], dtype=np.float64)
    pair = np.tile(np.arange(len(table)), 2)
    slope = length_slope(rewards, length, pair, alpha=CARD_ALPHA)
    gammas = [member.gamma for member in scorer.members if member.gamma is not None]
    card: dict[str, Any] = {
        "pairs": len(table),
        "prompts": int(table["prompt"].nunique()),
        "cut": {
            "prompts": cut["prompts"] / len(table),
            "responses": cut["responses"] / (2 * len(table)),
            "max_prompt_tokens": config.text.max_prompt_tokens,
            "max_response_tokens": config.text.max_response_tokens,
        },
        "length_control": config.reward_model.length_control,
        "gamma": float(np.mean(gammas)) if gammas else None,
        "temperature": scorer.temperature,
        "accuracy": win_rate(right, prompts, alpha=CARD_ALPHA).to_dict(),
        "length_baseline": win_rate(baseline, prompts, alpha=CARD_ALPHA).to_dict(),
        "accuracy_reward": win_rate(_wins(reward_gap), prompts, alpha=CARD_ALPHA).to_dict(),
        "lift": _mean_over(right - baseline, prompts).to_dict(),
        "accuracy_longer_rejected": None,
        "length_slope": None if slope is None else slope.to_dict() | {"unit": "reward per token, within pair"},
        **probes(scorer, tokenizer, table, config, pairs, chosen),
        "style_slopes": style_slopes(table, rewards, length, pair),
        "calibration": calibration(preference_gap, prompts, alpha=CARD_ALPHA, resamples=RESAMPLES, seed=0),
        "disagreement": disagreement(chosen, rejected, prompts),
    }
    rejected_longer = longer < 0
    if rejected_longer.any():
        accuracy = win_rate(_wins(reward_gap)[rejected_longer], prompts[rejected_longer], alpha=CARD_ALPHA)
        card["accuracy_longer_rejected"] = accuracy.to_dict() | {"pairs": int(rejected_longer.sum())}
    return card | {"warnings": warnings_of(card)}


def style_slopes(table: pd.DataFrame, rewards: Floats, length: Floats, pair: Any) -> dict[str, Any]:
    """Reward for one more of each style axis, within pair at equal length; null where too few pairs differ on it.

    ``rewards``, ``length`` and ``pair`` (2P,): the chosen answers, then the rejected ones.
    """
    answers = zip([*table["prompt"]] * 2, [*table["chosen"], *table["rejected"]], strict=True)
    counts = np.array([style(prompt, answer) for prompt, answer in answers], dtype=np.float64)
    slopes = {
        axis: slope_at_equal_length(rewards, counts[:, number], length, pair, alpha=CARD_ALPHA, resamples=RESAMPLES)
        for number, axis in enumerate(Style._fields)
    }
    return {axis: None if slope is None else slope.to_dict() for axis, slope in slopes.items()}


def disagreement(chosen: Scores, rejected: Scores, prompts: Any) -> dict[str, Any] | None:
    """Mean standard deviation between the members on the held-out answers; null for a single member."""
    if chosen.std is None or rejected.std is None:
        return None
    std = (_floats(chosen.std) + _floats(rejected.std)) / 2
    return _mean_over(std, prompts).to_dict() | {"unit": "standard deviation of the reward between members"}


def shows_lift(card: Mapping[str, Any]) -> bool:
    """Whether the card shows accuracy above that of 'always the longer one'."""
    low = card["lift"]["interval"][0]
    return low is not None and low > 0


def require_lift(card: Mapping[str, Any]) -> None:
    """Raise NoLift unless the card shows lift."""
    if shows_lift(card):
        return
    lift = value_and_interval(card["lift"], lambda share: f"{100 * share:+.1f}", " points", "?")
    raise NoLift(
        f"the reward model's lift over 'always the longer one' is {lift} on {card['pairs']} held-out pairs "
        f"(accuracy {card['accuracy']['value']:.1%} against {card['length_baseline']['value']:.1%}): not shown to be "
        "above zero, so a policy trained on it would learn length. Bring more or better pairs or a stronger base "
        "model; --set reward_model.require_lift=false carries on to the gate all the same"
    )


def _floats(values: Any) -> Floats:
    return np.asarray(values.double())


def _wins(gap: Floats) -> Floats:
    """1 where positive, 0 where negative, one half where zero."""
    return (np.sign(gap) + 1) / 2


def _mean_over(values: Floats, prompts: Any) -> Estimate:
    (codes,), n = cluster_codes(prompts)
    return mean(cluster_means(values, codes, n), alpha=CARD_ALPHA, resamples=RESAMPLES, seed=0)


def probes(
    scorer: Scorer, tokenizer: Any, table: pd.DataFrame, config: Config, pairs: Pairs, chosen: Scores
) -> dict[str, dict[str, Any]]:
    """Mean change of the reward when the chosen answers are changed; an answer that a change does not fit is left out.

    ``pairs`` and ``chosen`` are of the unchanged answers. The two changes are scored as the two sides of one pair.
    """
    answers, prompts = list(table["chosen"]), table["prompt"].to_numpy()
    changed = {name: [change(answer, n) for n, answer in enumerate(answers)] for name, change in CHANGES.items()}
    sides = [
        [
            encode_response(tokenizer, old if new is None else new, config.text)
            for old, new in zip(answers, texts, strict=True)
        ]
        for texts in changed.values()
    ]
    rewards = score_all(scorer, Pairs(pairs.queries, *sides), tokenizer.pad_token_id)
    results = {}
    for (name, texts), after in zip(changed.items(), rewards, strict=True):
        fits = np.array([text is not None for text in texts])
        difference = _floats(after - chosen.reward)[fits]
        none = Estimate(float("nan"), float("nan"), float("nan"), 0)
        results[name] = (_mean_over(difference, prompts[fits]) if fits.any() else none).to_dict()
    return results


def _with_filler(answer: str, number: int) -> str | None:
    sentence = FILLER[number % len(FILLER)]
    return None if sentence in answer else f"{answer.rstrip()} {sentence}"


def _without_end(answer: str, number: int) -> str | None:  # noqa: ARG001
    return " ".join(sentences(answer)[:-1]) or None


CHANGES = {"filler_probe": _with_filler, "truncation_probe": _without_end}
"""Probe -> (answer, its number) -> the changed answer, None where the change does not fit."""


def warnings_of(card: Mapping[str, Any]) -> list[str]:
    """The findings of the card that a person should read first, in words."""
    warnings = []
    cut = card.get("cut")  # cards of earlier versions have none
    if cut and cut["responses"]:
        warnings.append(
            f"{cut['responses']:.1%} of the answers are longer than text.max_response_tokens "
            f"({cut['max_response_tokens']}): they are scored as if they ended there, and their length counts as that"
        )
    if cut and cut["prompts"]:
        warnings.append(f"{cut['prompts']:.1%} of the prompts are longer than text.max_prompt_tokens and were cut")
    filler = card["filler_probe"]
    if filler["interval"][0] > 0:
        warnings.append(f"a courtesy sentence that adds nothing raises the reward by {filler['value']:.2f}")
    shortened = card["truncation_probe"]
    if shortened["interval"][0] > 0:
        warnings.append(f"leaving out the last sentence raises the reward by {shortened['value']:.2f}")
    slope = card["length_slope"]
    if slope is not None and slope["interval"][0] > 0:
        warnings.append(f"ten more tokens raise the reward by {10 * slope['value']:.2f} within a pair")
    for axis, slope in card["style_slopes"].items():
        if slope is not None and slope["interval"][0] > 0:
            warnings.append(f"at equal length, one more of {axis} (kellet/stats/style.py) pays {slope['value']:+.2f}")
    error = card["calibration"]["expected_error"]
    if error["interval"][0] > 0:
        warnings.append(f"preferences are predicted {100 * error['value']:.0f} points off their confidence on average")
    if card["lift"]["interval"][0] <= 0:
        warnings.append("no lift over 'always the longer one' is shown")
    return warnings
