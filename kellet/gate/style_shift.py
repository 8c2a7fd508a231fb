"""Whether the reward gain comes from a shift of style that the reward model pays for.

A policy kept from exploiting length often exploits another style axis instead: courtesy, lists, over-confidence. For
each axis of kellet/stats/style.py this file estimates the candidate's shift, the axis's price (the reward for one more
count, other axes and length held equal) and the part of the gain that price times shift explains. It also estimates
the gain left at equal style *and* equal length, because a policy that exploits both a little could pass either alone.

    y_ij = u_ij'β + e_ij          y, u: reward; style counts and length; each less its mean in the prompt and system
    left = mean(d) - β'mean(s)    d, s: a prompt's differences of mean reward; of mean style counts and length

β is least squares over both systems' answers. With A = mean of the prompts' Σ u u' and s̄ = mean(s), the influence of
prompt i on ``left`` is (d_i - β's_i - left) - s̄'A⁻¹Σ_j u_ij e_ij, and its interval is that of a mean of influences
(:func:`kellet.stats.bootstrap.linearised`). An axis that moved, but hardly varies among answers to the same prompt, has
no price. ``left`` is then computed on the prompts where both systems are alike on that axis, if these are most prompts.

Legend: a = reference, b = candidate, N = answers, n = prompts, p = regressors (the axes that vary, length last).
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from kellet.config.judgement import Gate
from kellet.evaluation.answers import Answers
from kellet.gate.checks import Criterion, Threshold, cannot_tell, check_threshold
from kellet.stats.bootstrap import Codes, Estimate, Floats, groups_of, linearised, paired_means
from kellet.stats.format import in_words
from kellet.stats.shares import count_difference
from kellet.stats.style import Style, style
from kellet.stats.within_prompt import MIN_PROMPTS, MIN_UNEXPLAINED, centred

MAX_ANSWERS = 5_000
"""At most this many answers of each system are read (0.2 ms each), on evenly spaced prompts when there are more."""
MATCHED = 0.5
"""The least share of prompts alike on the axes without a price; a smaller share says little about the policy."""

AXES = (*Style._fields, "length")
UNPRICED = (
    "what style earns takes two answers of a system that differ, on ten prompts (rows with another sample number; "
    "evaluation.samples of a retraining)"
)

_counts = functools.lru_cache(maxsize=1 << 15)(style)


@dataclass(frozen=True)
class AxisShift:
    """One axis: the candidate's shift, the reward for one more count, and the part of the gain that this explains."""

    axis: str
    shift: Estimate
    """Mean count per answer, candidate minus reference."""
    price: Estimate | None
    """Reward units for one more count, within prompt, at equal length and other axes; None where not estimable."""
    explained: Estimate | None
    """price · shift, reward units."""

    @property
    def paid(self) -> bool:
        """Whether the candidate is shown to have moved in the direction that the reward is shown to pay for."""
        return self.explained is not None and self.explained.low > 0 and (self.shift.low > 0 or self.shift.high < 0)

    def to_dict(self) -> dict[str, Any]:
        """All fields by name, and ``paid``."""
        estimates = {"shift": self.shift, "price": self.price, "explained": self.explained}
        values = {name: estimate.to_dict() if estimate else None for name, estimate in estimates.items()}
        return {"axis": self.axis, **values, "paid": self.paid}


@dataclass(frozen=True)
class StyleShift:
    """Every axis, and the gain left at equal style and length; where that is None, ``reason`` says why."""

    axes: tuple[AxisShift, ...]
    remaining: Estimate | None
    reason: str
    matched: tuple[str, ...] = ()
    """Axes that moved and have no price; ``remaining`` is of the prompts on which the systems are alike in them."""
    length: AxisShift | None = None
    """Length in tokens as an axis: what it is worth at equal style."""

    def to_dict(self) -> dict[str, Any]:
        """As gate.json has it under ``style``."""
        return {
            "axes": [item.to_dict() for item in self.axes],
            "length": self.length.to_dict() if self.length else None,
            "remaining": self.remaining.to_dict() if self.remaining else None,
            "reason": self.reason,
            "matched": list(self.matched),
        }


def style_shift(a: Answers, b: Answers, gate: Gate) -> StyleShift:
    """Estimate shift, price and explained gain on each axis between the reference (a) and the candidate (b)."""
    a, b = _evenly(a), _evenly(b)
    n, groups = int(a.prompt.max()) + 1, groups_of(a.group, a.prompt)
    counts = [np.column_stack([_styles(one), one.length]) for one in (a, b)]
    moved = np.column_stack(
        [np.diff(paired_means(x, y, a.prompt, b.prompt)) for x, y in zip(counts[0].T, counts[1].T, strict=True)]
    )
    gain = np.diff(paired_means(a.reward, b.reward, a.prompt, b.prompt))[:, 0]
    cluster = np.concatenate([a.prompt, b.prompt + n])
    u = np.column_stack([centred(column, cluster, 2 * n) for column in np.vstack(counts).T])
    y = centred(np.concatenate([a.reward, b.reward]), cluster, 2 * n)
    kept = _varied(u, cluster % n)
    shifts = [count_difference(column, **gate.intervals, groups=groups) for column in moved.T]
    if not kept:
        axes = [AxisShift(name, shift, None, None) for name, shift in zip(AXES, shifts, strict=True)]
        return StyleShift(tuple(axes[:-1]), None, UNPRICED, length=axes[-1])
    moved_axes = [place for place, shift in enumerate(shifts) if shift.low > 0 or shift.high < 0]
    no_price = [place for place in moved_axes if place not in kept]
    names = tuple(AXES[place] for place in no_price)
    alike = (np.abs(moved[:, no_price]) < 1e-12).all(axis=1)  # (n,): all True when every moved axis has a price
    u, moved = u[:, kept], moved[:, kept]
    second = u.T @ u / n
    prices = np.asarray(np.linalg.solve(second, u.T @ y / n), np.float64)
    scores = np.column_stack([np.bincount(cluster % n, column, n) for column in (u * (y - u @ prices)[:, None]).T])
    pulls = np.asarray(np.linalg.solve(second, scores.T).T, np.float64)  # (n, p): influence of a prompt on the prices
    centre = moved.mean(axis=0)
    explained_pulls = pulls * centre + (moved - centre) * prices  # (n, p): influence on price · shift
    axes = []
    for place, name in enumerate(AXES):
        price = explained = None
        if place in kept:
            j = kept.index(place)
            price = linearised(float(prices[j]), pulls[:, j], **gate.intervals, groups=groups)
            explained = linearised(float(prices[j] * centre[j]), explained_pulls[:, j], **gate.intervals, groups=groups)
        axes.append(AxisShift(name, shifts[place], price, explained))
    if alike.mean() < MATCHED:
        why = f"{', '.join(names)} moved, and answers to the same prompt differ too little in it to say what it earns"
        return StyleShift(tuple(axes[:-1]), None, why, length=axes[-1])
    weight = alike / alike.mean()
    left = gain - moved @ prices
    value = float((weight * left).mean())
    influence = weight * (left - value) - pulls @ (weight[:, None] * moved).mean(axis=0)
    remaining = linearised(value, influence, **gate.intervals, groups=groups)
    if groups is None:
        remaining = replace(remaining, clusters=int(alike.sum()))
    return StyleShift(tuple(axes[:-1]), remaining, "", names, axes[-1])


def criterion(shift: StyleShift, not_identified_reason: str, gate: Gate) -> Criterion:
    """Test that the gain at equal style and length is above 0.

    ``not_identified_reason`` says why results at equal length are not identified; empty when they are. With
    ``gate.style_shift`` 'warn' a violation becomes 'not shown': a person has to look, and nothing is blocked.
    """
    threshold, required = Threshold("equal_style_gain", 0.0, "above", "reward"), "style_shift" in gate.required
    if shift.reason == UNPRICED and not required:
        return Criterion("style_shift", required, (), f"Cannot tell: {UNPRICED}.")
    if shift.remaining is None or not_identified_reason:
        check = cannot_tell(threshold, shift.reason or not_identified_reason)
    else:
        subject = "gain at equal style and length"
        if shift.matched:
            subject += f", where answers are alike in {' and '.join(shift.matched)},"
        check = check_threshold(threshold, subject, shift.remaining, gate.alpha)
        if check.passed is False and gate.style_shift == "warn":
            check = check.softened("A person should look at the answers (gate.style_shift=warn).")
    paid = [
        f"{item.axis} ({item.shift.value:+.2f} an answer, worth {in_words(item.explained, 'reward')})"
        for item in shift.axes
        if item.paid and item.explained is not None
    ]
    note = f"Warning: the candidate moved where the reward pays: {', '.join(paid)}." if paid else ""
    return Criterion("style_shift", required, (check,), note)


def _evenly(answers: Answers) -> Answers:
    """Keep about MAX_ANSWERS answers, those of evenly spaced prompts, and renumber the prompts from 0."""
    n = int(answers.prompt.max()) + 1
    if len(answers.prompt) <= MAX_ANSWERS:
        return answers
    take = max(1, int(n * MAX_ANSWERS / len(answers.prompt)))
    prompts = np.unique(np.linspace(0, n - 1, take).astype(np.int64))
    rows = np.flatnonzero(np.isin(answers.prompt, prompts))
    return answers._replace(
        prompt=np.searchsorted(prompts, answers.prompt[rows]),
        reward=answers.reward[rows],
        length=answers.length[rows],
        group=None if answers.group is None else answers.group[rows],
        query=[answers.query[row] for row in rows],
        response=[answers.response[row] for row in rows],
    )


def _styles(answers: Answers) -> Floats:
    """Style counts ``(N, axes)``."""
    texts = zip(answers.query, answers.response, strict=True)
    return np.array([_counts(query, response) for query, response in texts], dtype=np.float64)


def _varied(u: Floats, prompt: Codes) -> list[int]:
    """Columns of u ``(N, p)`` that vary on MIN_PROMPTS prompts and that the columns kept before do not explain."""
    kept: list[int] = []
    for place in reversed(range(u.shape[1])):  # length comes first, so an axis that only repeats length is left out
        column = u[:, place]
        if len(np.unique(prompt[np.abs(column) > 1e-12])) < MIN_PROMPTS:
            continue
        rest = column
        if kept:
            rest = column - u[:, kept] @ np.linalg.lstsq(u[:, kept], column, rcond=None)[0]
        if (rest**2).sum() >= MIN_UNEXPLAINED * (column**2).sum():
            kept.append(place)
    return sorted(kept)
