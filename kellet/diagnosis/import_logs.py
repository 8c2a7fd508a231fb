"""Histories of TRL, OpenRLHF and verl, translated into Kellet's names and units for the diagnosis.

log_files.py reads the rows of a log, log_order.py puts them in order, trainers.py knows the names; here rows are
translated and checked, and an account says what each metric was taken for. KL differs most. TRL's PPO sums its estimate
over a response; TRL's GRPO, OpenRLHF and verl average it over the response's tokens, and nats per response are then
mean KL per token times mean length, which is exact only where KL per token and length are uncorrelated.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from kellet.data.account import Entry
from kellet.diagnosis.log_account import account_of, health, looks_like_core, other_kls, unused_core
from kellet.diagnosis.log_lines import number
from kellet.diagnosis.log_names import checked_map, chosen_names
from kellet.diagnosis.log_order import in_order
from kellet.diagnosis.log_renamed import accounted, joined, notes_on, renamed
from kellet.diagnosis.trainers import (
    BETA,
    ESTIMATORS,
    KL,
    LENGTH,
    LOSS_BETA,
    MAPPED,
    PER_TOKEN,
    REWARD,
    TRAINERS,
    Estimator,
    Name,
    Trainer,
    kl_metric,
)
from kellet.errors import DataError
from kellet.stats.series import MIN_ITERATIONS

CORE = (REWARD, KL, PER_TOKEN, LENGTH)
"""A row that holds none of these is no iteration."""
STABLE = 0.02
"""β is computed from the logged penalty where penalty / KL differs by no more than this share between the rows."""
PENALTY = "objective/non_score_reward"
_BESIDE = ("eval", "val", "test", "step", "epoch", "global_step", "_", "training/", "timing")
"""What the names of a row begin with that is an evaluation."""
Metrics = dict[str, float | None]


@dataclass(frozen=True)
class Imported:
    """A history in Kellet's names, and how it was translated."""

    trainer: Trainer
    rows: list[Metrics]
    names: dict[str, str]
    """The trainer's metric -> Kellet's, for those in the log that were used."""
    notes: tuple[str, ...]
    """What a person should read first, most serious first."""
    account: tuple[Entry, ...] = ()
    """What became of each metric of the log."""


def translate(row: Mapping[str, Any], trainer: str | Trainer, estimator: Estimator | None = None) -> Metrics:
    """One row of a trainer's log in Kellet's names and units, without ``iteration``; what is no number is None.

    A pure function of the row, as live callbacks need it: of two of their names for one of ours, the first that the row
    has is taken. ``estimator`` is what their KL is, or None for their default.
    """
    source = TRAINERS[trainer] if isinstance(trainer, str) else trainer
    plain = {_plain(key): value for key, value in row.items()}
    metrics = _translated(plain, chosen_names([plain], source, estimator))
    beta = _of_penalty([plain], [metrics])
    return metrics if BETA in metrics or not beta or beta[0] < 0 else {**metrics, BETA: beta[0]}


def import_history(
    rows: Sequence[Mapping[str, Any]],
    trainer: str | None,
    estimator: Estimator | None,
    mapped: Mapping[str, str] | None = None,
) -> Imported:
    """Translate logged rows.

    ``trainer`` is a key of TRAINERS, or None to recognise it by its metrics; ``estimator`` is what its KL is, or None
    for its default; ``mapped`` has the trainer's metric for some of OURS. Raises DataError when no trainer is
    recognised, no row is an iteration or steps repeat as in two runs, and InputError when a mapped metric is not in
    the log.
    """
    plain = _without_folder(rows)
    keys = {key for row in plain for key in row}
    mapped = checked_map(mapped or {}, keys)
    step = mapped.pop("iteration", None)
    source = _recognised(keys, trainer, mapped)
    training, others = _split(plain, source, mapped)
    ordered = in_order(training, step)
    filled = _filled(ordered.rows, others, ordered.step)
    other_names = renamed(filled, source, mapped.values())
    kept = joined(filled, other_names)
    used = chosen_names(kept, source, estimator, mapped)
    history, about_beta = _with_beta(kept, [_translated(row, used) for row in kept])
    found = health(kept, used)
    account = accounted(account_of(plain, kept, used, found, source, ordered.step), other_names, used)
    notes = [*found.notes, *unused_core(account, used), *other_kls(kept, used, source)]
    notes += [*_units(used, source), about_beta]
    notes += [*notes_on(filled, other_names), *ordered.notes, *_others(others), *_few(history)]
    return Imported(
        source,
        [{"iteration": step, **row} for step, row in zip(ordered.steps, history, strict=True)],
        {name.theirs: name.metric for name in used},
        tuple(note for note in notes if note),
        tuple(account),
    )


def _recognised(keys: Collection[str], trainer: str | None, mapped: Mapping[str, str]) -> Trainer:
    if trainer is not None:
        return TRAINERS[trainer]
    found = [known for known in TRAINERS.values() if known.recognised(keys)]
    if len(found) > 1:
        raise DataError(f"the metrics are those of {' and of '.join(known.title for known in found)}; give --trainer")
    if found:
        return found[0]
    if mapped:
        return MAPPED
    if {"iteration", REWARD} <= set(keys):
        raise DataError("this is a history of Kellet's own already; read it with 'kellet diagnose --history'")
    wanted = ", ".join(
        f"{' with '.join(sorted(known.markers[0]))} ({known.title})" for known in TRAINERS.values() if known.markers
    )
    like = looks_like_core(keys)
    first = [*like, *sorted(set(keys) - set(like))]
    shown = ", ".join(repr(key) for key in first[:20]) + (", …" if len(keys) > 20 else "")
    raise DataError(
        f"no trainer is recognised; looked for one of {wanted}; found {shown}; name the trainer with --trainer, or the "
        "metrics with --map, such as --map objective/reward=NAME"
    )


def _plain(key: str) -> str:
    """A name without the folder that loggers put before it."""
    return str(key).strip().removeprefix("train/")


def _without_folder(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows with the folder ``train/`` taken from their names, except where the same name is there without it.

    Another folder is taken off where it is the one under which a trainer's names are.
    """
    keys = {str(key) for row in rows for key in row}
    names = {key: _plain(key) if _plain(key) not in keys else key for key in keys}
    if not any(known.recognised(names.values()) for known in TRAINERS.values()):
        folders = {
            folder
            for known in TRAINERS.values()
            for marker in known.markers
            for folder in (key[: -len(min(marker))] for key in keys if key.endswith(f"/{min(marker)}"))
            if all(f"{folder}{name}" in keys for name in marker)
        }
        if len(folders) == 1:
            (folder,) = folders
            names = {key: key.removeprefix(folder) if key.removeprefix(folder) not in keys else key for key in keys}
    return [{names[str(key)]: value for key, value in row.items()} for row in rows]


def _split(
    rows: list[dict[str, Any]], source: Trainer, mapped: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows that hold a core metric, be it NaN, and the others. Raises DataError when there are none."""
    core = {name.theirs for name in source.names if name.ours in CORE} | set(mapped.values())
    training = [row for row in rows if any(number(row.get(key)) is not None for key in core)]
    if not training:
        keys = sorted({key for row in rows for key in row})[:20]
        raise DataError(
            f"none of {len(rows)} rows holds a reward, KL or length under the names of {source.title} "
            f"({', '.join(sorted(core))}); found {', '.join(map(repr, keys))}; give another --trainer, or --map"
        )
    return training, [row for row in rows if not any(number(row.get(key)) is not None for key in core)]


def _filled(rows: list[dict[str, Any]], others: list[dict[str, Any]], step: str) -> list[dict[str, Any]]:
    """Rows, with what other rows of the same step hold beside: loggers may spread a step over several rows."""
    more: dict[Any, dict[str, Any]] = {}
    for row in others if step else []:
        more.setdefault(row.get(step), {}).update(row)
    more.pop(None, None)
    return [{**more.get(row.get(step), {}), **row} for row in rows]


def _translated(row: Mapping[str, Any], used: Sequence[Name]) -> Metrics:
    """Metrics of a row; KL per response from KL per token is mean KL times mean length."""
    metrics: Metrics = {name.metric: _finite(row[name.theirs]) for name in used if name.theirs in row}
    kl = next((name for name in used if name.ours == PER_TOKEN), None)
    if kl is not None and PER_TOKEN in metrics and LENGTH in metrics:
        per_token, length = metrics[PER_TOKEN], metrics[LENGTH]
        product = None if per_token is None or length is None else per_token * length
        metrics[kl_metric(kl.estimator or "k1")] = product
    return metrics


def _of_penalty(rows: Sequence[Mapping[str, Any]], history: Sequence[Metrics]) -> list[float]:
    """β of each row by TRL's logged penalty, which is -β·KL, where both are finite and KL is not about zero."""
    pairs = []
    for row, metrics in zip(rows, history, strict=True):
        penalty = _finite(row.get(PENALTY))
        kl = next((metrics[kl_metric(known)] for known in ESTIMATORS if kl_metric(known) in metrics), None)
        if penalty is not None and kl is not None:
            pairs.append((penalty, kl))
    far = 0.01 * max((abs(kl) for _, kl in pairs), default=0.0)
    return [float(f"{-penalty / kl:z.4g}") for penalty, kl in pairs if kl and abs(kl) >= far]


def _with_beta(rows: Sequence[Mapping[str, Any]], history: list[Metrics]) -> tuple[list[Metrics], str]:
    """The history with β, and how it was had. TRL's trainers with a logged penalty keep β fixed."""
    if any(BETA in row for row in history):
        return history, ""
    betas = _of_penalty(rows, history)
    if not betas and any(number(row.get(LOSS_BETA)) is not None for row in rows):
        return history, f"β is not read: {LOSS_BETA!r} is a price in normalised advantage, not in units of the reward"
    if not betas:
        return history, "β is not logged; add objective/kl_coef (--map objective/kl_coef=NAME)"
    middle = median(betas)
    if middle < 0:
        return history, "β is not computed from the logged penalty, which has the sign of KL: -β·KL has the other"
    if max(abs(beta - middle) for beta in betas) > STABLE * middle:
        span = f"{min(betas):.4g} to {max(betas):.4g}"
        return history, f"β is not computed from the logged penalty: penalty / KL goes from {span}, and β is fixed"
    return [{**row, BETA: middle} for row in history], f"β is computed from the logged penalty: {middle:.4g}"


def _units(used: Sequence[Name], source: Trainer) -> list[str]:
    """What KL is read as, and what nats per response are."""
    kl = next((name for name in used if name.estimator), None)
    if kl is None:
        return [f"no KL is read from this log of {source.title}"]
    kind = "the full KL" if kl.estimator == "full" else f"{kl.estimator} of the sampled tokens"
    notes = [f"KL ({kl.theirs!r}) is read as {kind}; change it with --kl-estimator"]
    if kl.estimator == "k2":
        notes.append("k2 is biased away from the reference, and the diagnosis does not read it as KL")
    if kl.ours == PER_TOKEN:
        lengths = any(name.ours == LENGTH for name in used)
        notes.append(
            "nats per response are mean KL per token times mean length, an approximation"
            if lengths
            else "nats per response cannot be had: no length is read (--map tokens/response_mean=NAME)"
        )
    return notes


def _others(others: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many rows are no iterations, and what they hold."""
    if not others:
        return []
    evaluations = sum(1 for row in others if all(str(key).startswith(_BESIDE) for key in row))
    kind = f" ({evaluations} of evaluations)" if evaluations else ""
    if len(others) == 1:
        return [f"1 row holds no reward, KL or length and counts as no iteration{kind}"]
    return [f"{len(others)} rows hold no reward, KL or length and count as no iterations{kind}"]


def _few(history: Sequence[Metrics]) -> list[str]:
    if len(history) >= MIN_ITERATIONS:
        return []
    return [f"too few iterations to judge a course by: {len(history)}; {MIN_ITERATIONS} are needed"]


def _finite(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and math.isfinite(found) else None
