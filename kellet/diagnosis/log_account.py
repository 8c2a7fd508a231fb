"""The account of a log: what each of its metrics was taken for, what was left out and why, and what cannot be right."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from kellet.data.account import Entry
from kellet.diagnosis.log_lines import number
from kellet.diagnosis.log_names import slot, usable
from kellet.diagnosis.log_order import CLOCKS, STEPS
from kellet.diagnosis.trainers import APPROXKL, BETA, KL, LENGTH, LOSS_BETA, REWARD, Name, Trainer
from kellet.evaluation.oddities import code_in

CORE = {REWARD: "reward", KL: "KL", LENGTH: "length", BETA: "β"}
"""What a diagnosis can do little without."""
NOT_NEGATIVE = (LENGTH, BETA, APPROXKL, "objective/reward_std", "ppo/grad_norm", "objective/entropy")
SHARES = ("tokens/truncated_share", "ppo/policy/clipfrac")
RUN_BELOW_ZERO = 7
"""k1 near the reference is below zero by chance; in so many rows in a row, and in a third of the log, it is not."""
_LOOKS = {
    KL: re.compile(r"(?:^|[/_])kld?(?!_coef)(?:$|[/_])", re.IGNORECASE),
    REWARD: re.compile(r"reward|score", re.IGNORECASE),
    LENGTH: re.compile(r"len(?:gth)?(?:$|[/_])", re.IGNORECASE),
    BETA: re.compile(r"(?:^|[/_])beta|kl_?coef", re.IGNORECASE),
}
_NOT_CORE = re.compile(
    r"eval|val[-/]|prompt|quer|min$|max$|std|seqlen|margin|accurac|frac|advantage|ppo_kl|policykl|vllm", re.IGNORECASE
)
_FAMILIES = {
    "timing": "time",
    "time": "time",
    "perf": "the machine",
    "mfu": "the machine",
    "system": "the machine",
    "eval": "an evaluation, not training",
    "val": "an evaluation, not training",
    "test": "an evaluation, not training",
}
_TOGETHER = 3
"""From so many on, metrics of one folder that are left out for one reason are one line of the text."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Health:
    """What cannot be right in the metrics that were read."""

    marks: Mapping[str, str]
    """By the trainer's name, for the account."""
    notes: tuple[str, ...]


def health(rows: Sequence[Row], used: Sequence[Name]) -> Health:
    """Count what is not a number, what is missing and what is impossible in each metric that is read."""
    marks: dict[str, str] = {}
    for name in used:
        values = [number(row.get(name.theirs)) for row in rows]
        texts = [row[name.theirs] for row in rows if isinstance(row.get(name.theirs), str)]
        found = [_gaps(values), _text([text for text in texts if number(text) is None]), _impossible(name, values)]
        if any(found):
            marks[name.theirs] = "; ".join(text for text in found if text)
    return Health(marks, tuple(f"{theirs!r} is {text}" for theirs, text in marks.items()))


def _gaps(values: Sequence[float | None]) -> str:
    nan = [place for place, value in enumerate(values, 1) if value is not None and not math.isfinite(value)]
    missing = sum(value is None for value in values)
    texts = []
    if nan:
        to_the_end = nan == list(range(nan[0], len(values) + 1)) and nan[0] > 1
        texts.append(
            f"not a number in {len(nan)} of {len(values)} rows"
            + (f", from iteration {nan[0]} on" if to_the_end else "")
        )
    if missing:
        texts.append(f"missing in {missing} of {len(values)} rows")
    return " and ".join(texts)


def _text(texts: Sequence[str]) -> str:
    filled = [text for text in texts if text.strip()]
    return f"text that is no number, as {filled[0]!r:.40}, in {len(filled)} of the rows" if filled else ""


def _impossible(name: Name, values: Sequence[float | None]) -> str:
    """Which values the metric cannot have, in words; empty where there are none."""
    finite = [value for value in values if value is not None and math.isfinite(value)]
    negative = [value for value in finite if value < 0]
    code = code_in(np.array(finite))
    if code is not None:
        return f"{code:g} in {finite.count(code)} of {len(values)} rows, far from all others, as a code for no value is"
    wrong = [value for value in finite if not 0 <= value <= 1] if name.ours in SHARES else []
    if wrong:
        return f"no share in {len(wrong)} of {len(values)} rows ({min(wrong):g} to {max(wrong):g})"
    if not negative:
        return ""
    count = f"below zero in {len(negative)} of {len(values)} rows, down to {min(negative):g}"
    if slot(name.ours) == KL:
        if name.estimator != "k1":
            return f"{count}: impossible for {name.estimator}; is it k1 (--kl-estimator k1)?"
        if _longest_run(finite) >= min(len(finite), max(RUN_BELOW_ZERO, len(finite) // 3)):
            return f"{count}: no KL is; sampling and training disagree (settings of generation, padding, temperature)"
        return f"{count}, as the noise of k1 near the reference may have it"
    return f"{count}: impossible" if name.ours in NOT_NEGATIVE else ""


def _longest_run(values: Sequence[float]) -> int:
    """How many values in a row are below zero, at the most."""
    return max((len(list(run)) for below, run in groupby(value < 0 for value in values) if below), default=0)


def account_of(
    logged: Sequence[Row],
    rows: Sequence[Row],
    used: Sequence[Name],
    found: Health,
    source: Trainer,
    step: str,
) -> list[Entry]:
    """One entry for each metric of the log, in the log's order; ``rows`` are the iterations."""
    taken = {name.theirs: name for name in used}
    by_slot = {slot(name.ours): name for name in used}
    entries = []
    for key in dict.fromkeys(key for row in logged for key in row):
        name = taken.get(key)
        if name is not None:
            kind = f"{name.estimator}, " if name.estimator else ""
            why = "; ".join(text for text in (f"{kind}{name.why}", found.marks.get(key)) if text)
            share = sum(math.isfinite(number(row.get(key)) or 0.0) and number(row.get(key)) is not None for row in rows)
            entries.append(Entry(key, name.metric, why, share / len(rows)))
        elif key == step:
            entries.append(Entry(key, "iteration", "the order of the rows"))
        else:
            entries.append(Entry(key, "", _left_out(key, rows, source, by_slot)))
    return entries


def _left_out(key: str, rows: Sequence[Row], source: Trainer, by_slot: Mapping[str, Name]) -> str:
    """Why a metric is not read."""
    known = source.name(key)
    values = [value for row in rows if (value := number(row.get(key))) is not None]
    if known is not None and known.ours:
        rival = by_slot.get(slot(known.ours))
        if not values:
            return f"{known.why}; no numbers in the iterations"
        span = f" ({min(values):.4g} to {max(values):.4g})" if values else ""
        if slot(known.ours) == KL and values and not usable(rows, known):
            return "exactly 0 in all rows: not measured (no reference model, or no penalty)"
        if known.ours == BETA and rival is None:
            return f"{known.why}{span}: the β of another KL than the one that is read"
        return f"{known.why}{span}: {repr(rival.theirs) if rival else 'another'} is read instead"
    if known is not None:
        return known.why
    if key in (*STEPS, *CLOCKS):
        return "counts or orders; another metric orders the rows"
    family = _FAMILIES.get(re.split(r"[/_\-]", key)[0])
    if family is not None:
        return family
    if not values:
        return "no numbers in the iterations"
    return "not read by the diagnosis"


def looks_like_core(keys: Collection[str]) -> list[str]:
    """The names that look like a reward, a KL, a length or β, in alphabetical order."""
    return sorted(
        key for key in keys if any(look.search(key) for look in _LOOKS.values()) and not _NOT_CORE.search(key)
    )


def unused_core(account: Sequence[Entry], used: Sequence[Name]) -> list[str]:
    """For a core metric that no name was read for: the metrics of the log that look like it."""
    notes = []
    have = {slot(name.ours) for name in used}
    for core, word in CORE.items():
        like = [
            entry.name
            for entry in account
            if not entry.taken_for
            and core not in have
            and entry.name != LOSS_BETA
            and _LOOKS[core].search(entry.name)
            and not _NOT_CORE.search(entry.name)
        ]
        if like:
            ours = "objective/kl_per_token" if core == KL else core
            names = ", ".join(map(repr, like[:6])) + (", …" if len(like) > 6 else "")
            reason = {entry.name: entry.why for entry in account}[like[0]]
            looks = "looks" if len(like) == 1 else "look"
            notes.append(f"no {word} is read; {names} {looks} like it ({reason}): --map {ours}=NAME takes it")
    return notes


def other_kls(rows: Sequence[Row], used: Sequence[Name], source: Trainer) -> list[str]:
    """Which KL is read where the log has several, and how large the others are."""
    kl = next((name for name in used if slot(name.ours) == KL), None)
    notes = []
    for name in source.names if kl is not None else ():
        if slot(name.ours) != KL or kl is None or name.theirs == kl.theirs or not usable(rows, name):
            continue
        values = [value for row in rows if (value := number(row.get(name.theirs))) is not None]
        if _same(rows, name.theirs, kl.theirs):
            continue
        notes.append(
            f"two KLs are logged: {kl.theirs!r} is read; {name.theirs!r} ({min(values):.4g} to {max(values):.4g}) and "
            f"its coefficient are not; --map {name.metric}={name.theirs} takes it instead"
        )
    return notes


def _same(rows: Sequence[Row], one: str, other: str) -> bool:
    """Whether two metrics agree within 1% wherever both have numbers."""
    pairs = [(number(row.get(one)), number(row.get(other))) for row in rows]
    return all(a is None or b is None or math.isclose(a, b, rel_tol=0.01) for a, b in pairs)


def shortened(account: Sequence[Entry]) -> list[Entry]:
    """For people: metrics of one folder that are left out for the same reason as one entry."""

    def family(entry: Entry) -> tuple[str, str]:
        folder = entry.name.partition("/")[0] if "/" in entry.name else entry.name
        return (folder, entry.why)

    used = [entry for entry in account if entry.taken_for]
    short: list[Entry] = []
    for (folder, why), members in groupby(sorted((e for e in account if not e.taken_for), key=family), key=family):
        same = list(members)
        short += [Entry(f"{folder}/…", "", f"{len(same)} metrics: {why}")] if len(same) >= _TOGETHER else same
    return used + short
