"""Which of a log's metrics is read for which of Kellet's: never two for one, and never by the order of the file."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any

from kellet.diagnosis.log_lines import number
from kellet.diagnosis.trainers import BETA, ESTIMATORS, KL, PER_TOKEN, TRAINERS, Estimator, Name, Trainer, kl_metric
from kellet.errors import InputError

OURS = tuple(
    dict.fromkeys(
        [name.ours for trainer in TRAINERS.values() for name in trainer.names if name.ours not in ("", KL)]
        + [kl_metric(estimator) for estimator in ESTIMATORS]
        + [
            "iteration",
            "objective/kl_target",
            "objective/kl_penalty_share",
            "ppo/policy/kl_update",
            "ppo/advantage_std",
        ]
    )
)
"""What --map takes for OURS."""
_PER_RESPONSE: dict[str, Estimator] = {kl_metric(estimator): estimator for estimator in ESTIMATORS}

Row = Mapping[str, Any]


def chosen_names(
    rows: Sequence[Row], source: Trainer, estimator: Estimator | None, mapped: Mapping[str, str] | None = None
) -> list[Name]:
    """The trainer's metric for each of Kellet's: the mapped ones, then the first with numbers in most of the rows.

    β is that of the KL which is read. Raises InputError for two mapped KLs and for one whose estimator is not known.
    """
    keys = {key for row in rows for key in row}
    chosen: dict[str, Name] = {}
    for ours, theirs in (mapped or {}).items():
        name = _mapped(ours, theirs, source, estimator)
        if slot(name.ours) in chosen:
            raise InputError(f"--map gives two KLs ({chosen[KL].theirs!r} and {theirs!r}); give one")
        chosen[slot(name.ours)] = name
    for place in dict.fromkeys(slot(name.ours) for name in source.names if name.ours):
        names = [name for name in source.names if name.ours and slot(name.ours) == place and name.theirs in keys]
        names = [name for name in names if not name.fixed or estimator in (None, name.estimator)]
        if names and place not in chosen and place != BETA:
            found = _first(rows, names)
            if found is not None:
                chosen[place] = replace(found, estimator=estimator or found.estimator) if place == KL else found
    if BETA not in chosen and KL in chosen and chosen[KL].coefficient in keys:
        beta = source.name(chosen[KL].coefficient)
        chosen |= {} if beta is None else {BETA: beta}
    return list(chosen.values())


def slot(ours: str) -> str:
    """What there is one of in a history: every KL from the reference is one."""
    return KL if ours in (KL, PER_TOKEN) else ours


def usable(rows: Sequence[Row], name: Name) -> int:
    """Rows with a finite number. A KL of exactly 0 in all rows was not measured, so none is."""
    found = [value for row in rows if (value := number(row.get(name.theirs))) is not None]
    finite = [value for value in found if abs(value) < float("inf")]
    unmeasured = slot(name.ours) == KL and len(finite) > 1 and not any(finite)
    return 0 if unmeasured else len(finite)


def _first(rows: Sequence[Row], names: Sequence[Name]) -> Name | None:
    """The first that has numbers in half as many rows as the fullest, or more; else one that is all NaN."""
    counts = [usable(rows, name) for name in names]
    for name, count in zip(names, counts, strict=True):
        if count >= max(1, max(counts) / 2):
            return name
    return next((name for name in names if _all_nan(rows, name.theirs)), None)


def _all_nan(rows: Sequence[Row], key: str) -> bool:
    values = [value for row in rows if (value := number(row.get(key))) is not None]
    return bool(values) and not any(abs(value) < float("inf") for value in values)


def checked_map(mapped: Mapping[str, str], keys: Collection[str]) -> dict[str, str]:
    """--map with the names as the rows have them. Raises InputError for a metric that is unknown or not in the log."""
    given = {}
    for ours, theirs in mapped.items():
        if ours not in OURS:
            raise InputError(f"--map has no metric {ours!r}; it takes one of {', '.join(OURS)}")
        found = theirs if theirs in keys else theirs.removeprefix("train/")
        if found not in keys:
            near = get_close_matches(theirs, keys, 3) or sorted(keys)[:10]
            raise InputError(f"--map {ours}={theirs}: the log has no {theirs!r}; near it: {', '.join(map(repr, near))}")
        given[ours] = found
    return given


def _mapped(ours: str, theirs: str, source: Trainer, estimator: Estimator | None) -> Name:
    """The name that --map gives."""
    known = source.name(theirs)
    if ours in _PER_RESPONSE:
        if estimator not in (None, _PER_RESPONSE[ours]):
            raise InputError(f"--map {ours} is not --kl-estimator {estimator}; give one of them")
        return Name(theirs, KL, "given with --map; nats per response", _PER_RESPONSE[ours], _coefficient(known))
    if ours == PER_TOKEN:
        kind = estimator or (known.estimator if known else None)
        if kind is None:
            raise InputError(f"--map {ours}={theirs} does not say what this KL is; add --kl-estimator")
        return Name(theirs, PER_TOKEN, "given with --map; nats per token", kind, _coefficient(known))
    return Name(theirs, ours, "given with --map")


def _coefficient(known: Name | None) -> str:
    return known.coefficient if known else ""
