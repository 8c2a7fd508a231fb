"""The six criteria of the gate, each from the evaluation's rows to checks. docs/gate.md has formulas and sources.

Legend: one row is one answer; a prompt with all its answers is a cluster. ``Answers`` holds the rows of one system.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm

from kellet.bootstrap import Codes, Estimate, Floats, mean_difference, ratio_of_means
from kellet.checks import Check, Criterion, cannot_tell, judge
from kellet.config import Gate
from kellet.equal_length import equal_length_gain
from kellet.win_rate import length_controlled, quantile, share_difference, win_rate

TAIL = 0.95
"""The quantile of KL that the tail budget limits."""
REPEATED_SENTENCE_WORDS = 4
"""A sentence of at least this many words, said twice, is a repetition; shorter ones ('Thank you.') are not."""
REPEATED_GRAM = (4, 3)
"""So are this many words in a row, said this many times."""
STOCK_SHARE = 0.2
"""An answer is a duplicate when the same text answers more than this share of the prompts (and at least three).

Not 'the same text twice': a support policy that gives one good answer to all who ask the same is no worse for it, while
one text for a fifth of all prompts means that the prompt is no longer read."""

Wins = npt.NDArray[np.float64]


class Answers(NamedTuple):
    """One system's rows ``(N,)``, in the order of prompt and sample."""

    prompt: Codes
    """Number of the prompt, the same for all systems."""
    sample: Codes
    reward: Floats
    length: Floats
    kl: Floats
    truncated: Floats
    response: list[str]
    judges: dict[str, Floats]


def answers_of(rows: pd.DataFrame) -> dict[str, Answers]:
    """Split checked rows by system."""
    codes = pd.factorize(rows["prompt_id"], sort=True)[0].astype(np.int64)
    judges = [str(name) for name in rows.columns if str(name).startswith("judge_")]
    split = {}
    for system in rows["system"].unique():
        mine = (rows["system"] == system).to_numpy()
        part = rows[mine]
        numbers = {
            name: part[name].to_numpy(np.float64) for name in ("reward", "length_tokens", "kl_nats", "truncated")
        }
        split[str(system)] = Answers(
            codes[mine],
            part["sample"].to_numpy(np.int64),
            numbers["reward"],
            numbers["length_tokens"],
            numbers["kl_nats"],
            numbers["truncated"],
            part["response"].tolist(),
            {name: part[name].to_numpy(np.float64) for name in judges},
        )
    return split


def pairs(a: Answers, b: Answers) -> tuple[Codes, Codes]:
    """Rows of a and of b that answer the same prompt with the same sample number."""
    samples = int(max(a.sample.max(), b.sample.max())) + 1
    keys = (a.prompt * samples + a.sample, b.prompt * samples + b.sample)
    _, rows_a, rows_b = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    return rows_a, rows_b


def wins(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> Wins:
    """1 where b is higher, 0 where a is, 0.5 for a tie."""
    return 0.5 + 0.5 * np.sign(b - a)


def reward_gain(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Mean paired gain of b's reward over a's is above ``min_gain``."""
    gain = mean_difference(a.reward, b.reward, a.prompt, b.prompt, **_bootstrap(gate))
    check = judge("mean_gain", "mean reward gain", gain, gate.min_gain, "above", "reward", gate.alpha)
    return Criterion("reward_gain", "reward_gain" in gate.required, (check,))


def length_inflation(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Ratio of mean lengths b/a is at most 1 + ``length_tolerance``."""
    ratio = ratio_of_means(a.length, b.length, a.prompt, b.prompt, **_bootstrap(gate))
    limit = 1 + gate.length_tolerance
    check = judge("length_ratio", "length ratio to the reference", ratio, limit, "at most", "ratio", gate.alpha)
    return Criterion("length_inflation", "length_inflation" in gate.required, (check,))


def controlled_gain(a: Answers, b: Answers, gate: Gate, slope_from: Answers | None = None) -> Criterion:
    """Test that the gain at equal length is above 0 and the win rate at equal length is above one half.

    The first by the within-prompt length slope of ``slope_from`` (the reference), the second by the logistic model.
    Where the lengths barely overlap both are extrapolations, and neither can be told.
    """
    own = slope_from or a
    split = equal_length_gain(
        (a.reward, b.reward),
        (a.length, b.length),
        (a.prompt, b.prompt),
        (own.reward, own.length, own.prompt),
        **_bootstrap(gate),
    )
    rows_a, rows_b = pairs(a, b)
    preference = wins(a.reward[rows_a], b.reward[rows_b])
    model = length_controlled(preference, a.length[rows_a], b.length[rows_b], a.prompt[rows_a], alpha=gate.alpha)
    note = ""
    if split is None:
        why = "the length slope needs two reference answers of different length on ten prompts (evaluation.samples)"
        gain = cannot_tell("equal_length_gain", 0.0, "above", "reward", why)
    elif not model.identified:
        gain = cannot_tell("equal_length_gain", 0.0, "above", "reward", model.reason)
    else:
        gain = judge("equal_length_gain", "gain at equal length", split.remaining, 0.0, "above", "reward", gate.alpha)
    if split is not None:
        slope, told = split.slope, split.explained
        note = (
            f"Within prompt, one more token is worth {slope.value:.3g} [{slope.low:.3g}, {slope.high:.3g}] reward in "
            f"the reference's answers; at that price the change of length is worth {told.value:.2f} "
            f"[{told.low:.2f}, {told.high:.2f}]."
        )
    if model.controlled is None or model.interval is None:
        rate = cannot_tell("equal_length_win_rate", 0.5, "above", "win rate", model.reason)
    else:
        estimate = Estimate(model.controlled, *model.interval, model.clusters)
        subject = "win rate by reward at equal length"
        rate = judge("equal_length_win_rate", subject, estimate, 0.5, "above", "win rate", gate.alpha)
    return Criterion("controlled_gain", "controlled_gain" in gate.required, (gain, rate), note)


def kl_budget(b: Answers, gate: Gate) -> Criterion:
    """Mean full KL of b's responses is at most ``kl_budget``, its 95th percentile at most ``kl_tail_budget``."""
    required = "kl_budget" in gate.required
    unknown = int(np.isnan(b.kl).sum())
    limits = (("mean_kl", gate.kl_budget), ("tail_kl", gate.kl_tail_budget))
    if unknown == len(b.kl) and not required:
        return Criterion("kl_budget", required, ())
    if unknown:
        why = f"kl_nats is missing in {unknown:,} of {len(b.kl):,} candidate rows; give the full KL of each response"
        return Criterion(
            "kl_budget", required, tuple(cannot_tell(name, limit, "at most", "nats", why) for name, limit in limits)
        )
    zero = np.zeros(len(b.kl))
    average = mean_difference(zero, b.kl, b.prompt, b.prompt, **_bootstrap(gate))
    tail = quantile(b.kl, TAIL, b.prompt, alpha=gate.alpha)
    needed = None
    if not np.isfinite(tail.high):  # no order statistic is high enough: that takes log(alpha)/log(0.95) answers
        needed = int(np.ceil(np.log(gate.alpha) / np.log(TAIL)))
    checks = (
        judge("mean_kl", "mean KL of a response", average, gate.kl_budget, "at most", "nats", gate.alpha),
        judge(
            "tail_kl", "95th percentile of KL", tail, gate.kl_tail_budget, "at most", "nats", gate.alpha, needed=needed
        ),
    )
    return Criterion("kl_budget", required, checks)


def independent_judge(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Win rate of b over a by the column ``gate.judge`` is above 0.5 - ``judge_margin`` (non-inferiority)."""
    required = "independent_judge" in gate.required
    name, limit = gate.judge, 0.5 - gate.judge_margin
    missing = np.full(len(b.reward), np.nan)
    if np.isnan(a.judges.get(name, missing)).all() and np.isnan(b.judges.get(name, missing)).all():
        return Criterion("independent_judge", required, ())
    rate = judged(a, b, name, gate).get("win_rate")
    note = ""
    if name not in ("judge_human", "judge_gold"):
        note = f"If {name} is a model trained on the same labels, it shares their bias."
    if rate is None:
        why = f"no prompt and sample has a {name} score for both systems"
        return Criterion(
            "independent_judge", required, (cannot_tell("win_rate", limit, "above", "win rate", why),), note
        )
    check = judge("win_rate", f"win rate by {name}", rate, limit, "above", "win rate", gate.alpha)
    return Criterion("independent_judge", required, (check,), note)


def judged(a: Answers, b: Answers, name: str, gate: Gate) -> dict[str, Estimate]:
    """Win rate and mean gain of b over a by a judge's scores, over the pairs that have both; empty where none has."""
    if name not in a.judges:
        return {}
    rows_a, rows_b = pairs(a, b)
    score_a, score_b = a.judges[name][rows_a], b.judges[name][rows_b]
    known = ~np.isnan(score_a) & ~np.isnan(score_b)
    if not known.any():
        return {}
    score_a, score_b, prompt = score_a[known], score_b[known], a.prompt[rows_a][known]
    return {
        "win_rate": win_rate(wins(score_a, score_b), prompt, alpha=gate.alpha),
        "mean_gain": mean_difference(score_a, score_b, prompt, prompt, **_bootstrap(gate)),
    }


def degeneration(a: Answers, b: Answers, gate: Gate) -> Criterion:
    """Shares of truncated, empty, repetitive and duplicate answers exceed a's by at most ``degeneration_tolerance``."""
    required = "degeneration" in gate.required
    limit = gate.degeneration_tolerance
    checks: list[Check] = []
    note = ""
    if not np.isnan(np.concatenate([a.truncated, b.truncated])).any():
        checks.append(_share_check("truncated", a, b, a.truncated, b.truncated, gate))
    elif required:
        why = "the column truncated is missing or has nulls; say for each answer whether it was cut at the limit"
        checks.append(cannot_tell("truncated", limit, "at most", "share", why))
    else:
        note = "The column truncated has nulls and was left out."
    for name, marks in (("empty", _empty), ("repetitive", repetitive)):
        checks.append(_share_check(name, a, b, marks(a.response), marks(b.response), gate))
    checks.append(_share_check("duplicate", a, b, duplicate(a), duplicate(b), gate))
    return Criterion("degeneration", required, tuple(checks), note)


def _share_check(name: str, a: Answers, b: Answers, marks_a: Any, marks_b: Any, gate: Gate) -> Check:
    change = share_difference(marks_a, marks_b, a.prompt, b.prompt, alpha=gate.alpha)
    subject = f"share of {name} answers minus the reference's is"
    limit, needed = gate.degeneration_tolerance, None
    if limit > 0 and not np.any(marks_a) and not np.any(marks_b):
        # never seen: the half-width is z·√2/(n + 2) then, which shrinks with n and not with √n
        needed = int(np.ceil(norm.ppf(1 - gate.alpha) * np.sqrt(2) / limit)) - 2
    return judge(name, subject, change, limit, "at most", "share", gate.alpha, needed=needed)


def _empty(responses: Sequence[str]) -> npt.NDArray[np.bool_]:
    return np.array([not text.strip() for text in responses])


def repetitive(responses: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Tell which responses repeat themselves: a sentence said twice, or a run of words said three times."""
    known: dict[str, bool] = {}
    for text in responses:
        if text not in known:
            known[text] = _repeats(text.lower())
    return np.array([known[text] for text in responses])


def _repeats(text: str) -> bool:
    sentences = [" ".join(part.split()) for part in re.split(r"[.!?]+(?:\s+|$)|\n+", text)]
    long = [sentence for sentence in sentences if sentence.count(" ") >= REPEATED_SENTENCE_WORDS - 1]
    if len(set(long)) < len(long):
        return True
    size, times = REPEATED_GRAM
    words = text.split()
    grams = list(zip(*(words[start:] for start in range(size)), strict=False))
    if len(grams) - len(set(grams)) < times - 1:
        return False
    counts: dict[tuple[str, ...], int] = {}
    for gram in grams:
        counts[gram] = counts.get(gram, 0) + 1
    return max(counts.values()) >= times


def duplicate(answers: Answers) -> npt.NDArray[np.bool_]:
    """Tell which answers have a text that the same system gave to more than STOCK_SHARE of its prompts."""
    texts = pd.factorize(pd.Series([" ".join(text.split()) for text in answers.response], dtype=object))[0]
    distinct = pd.DataFrame({"text": texts, "prompt": answers.prompt}).drop_duplicates()
    prompts = np.bincount(distinct["text"].to_numpy(np.int64))
    limit = max(2.0, STOCK_SHARE * len(np.unique(answers.prompt)))
    return np.asarray(prompts[texts] > limit)


def _bootstrap(gate: Gate) -> dict[str, Any]:
    return {"alpha": gate.alpha, "resamples": gate.resamples, "seed": gate.seed}
