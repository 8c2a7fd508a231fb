"""Which column of a file of samples is which of ours."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kellet.data.account import Entry
from kellet.errors import DataError
from kellet.evaluation.cells import is_null
from kellet.evaluation.columns import CLUSTER, INVISIBLE, JUDGE, STD, left_out

NAMES = {
    "prompt": ("prompt", "prompts", "input", "query", "question", "instruction"),
    "response": (
        *("response", "responses", "completion", "completions", "output", "outputs", "generated_text", "generation"),
        *("model_output", "prediction", "answer"),
    ),
    "reward": ("reward", "score", "scores", "rewards"),
    "length_tokens": (
        *("length_tokens", "response_length", "num_tokens", "length", "completion_length", "response_tokens"),
        *("completion_tokens", "output_tokens", "n_tokens", "token_count", "response_length_tokens"),
    ),
    "kl_nats": ("kl_nats",),
    "truncated": ("truncated", "is_truncated"),
    STD: (STD,),
    CLUSTER: (CLUSTER,),
    "sample": ("sample",),
}
"""Column of the evaluation file -> its names in files of samples; case, blanks and hyphens do not matter."""
NEEDED = ("prompt", "response", "reward")
STEPS = ("step", "global_step", "training_step", "iteration")
WHY_NOT = {
    "kl": "its unit is not known (a mean over tokens or a sum, k1 or full); if it is the full KL of the whole response "
    "in nats, say --map kl_nats={}",
    "step": "the step of training; the same in every row",
    "system": "the systems are told apart by file; a system prompt belongs into the prompt",
    "prompt_id": "prompts are matched by their text",
}


def choose(table: pd.DataFrame, given: Mapping[str, str]) -> tuple[dict[str, str], list[Entry], list[str]]:
    """(our column -> theirs, the account of every column in its order, sentences for the user).

    ``given``: what the user has mapped; a name that this file lacks is of the other file. Raises DataError when one
    that is needed is missing, or two fit and differ.
    """
    found = [str(name) for name in table.columns]
    by_name = {name: _plain(name) for name in found}
    names = {ours: theirs for ours, theirs in given.items() if theirs in found}
    why = {theirs: f"by --map {ours}={theirs}" for ours, theirs in names.items()}
    for ours, known in NAMES.items():
        fitting = [name for alias in known for name in found if by_name[name] == alias and name not in why]
        filled = [name for name in fitting if _filled(table[name])]
        pool = filled or (fitting[:1] if ours in NEEDED else [])
        why |= {name: "empty in every row" for name in fitting if name not in pool}
        if ours in names:
            why |= dict.fromkeys(pool, f"{ours} is {names[ours]!r}")
        elif pool:
            why |= _only(ours, pool, table)
            names[ours] = pool[0]
    for name in found:
        if name not in why and by_name[name].startswith(JUDGE) and by_name[name] != JUDGE:
            ours = name.strip() if name.strip().startswith(JUDGE) else by_name[name]
            if ours in names:
                raise DataError(f"columns {names[ours]!r} and {name!r} are both {ours!r}; remove or rename one of them")
            names[ours], why[name] = name, "by its name"
    missing = [ours for ours in NEEDED if ours not in names]
    if missing:
        raise DataError(_missing(missing[0], found))
    _check_steps(table, by_name)
    taken = {theirs: ours for ours, theirs in names.items()}
    entries = [
        Entry(name, taken.get(name, ""), why.get(name) or _why_not(name, by_name[name], names)) for name in found
    ]
    kl = [name for name in found if by_name[name] == "kl" and name not in taken and "kl_nats" not in names]
    return names, entries, [f"{name!r} is left out: {WHY_NOT['kl'].format(name)}" for name in kl]


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().strip(INVISIBLE).strip()).lower()


def check_mapped(mapped: Mapping[str, str], found: Sequence[str]) -> None:
    """Raise DataError for a ``--map`` of a column that is none of ours, or that neither file has."""
    for ours, theirs in mapped.items():
        if ours not in NAMES and not ours.startswith(JUDGE):
            near = difflib.get_close_matches(ours, NAMES, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DataError(f"--map {ours}={theirs}: {ours!r} is none of {', '.join(NAMES)}, judge_NAME{hint}")
        if theirs not in found:
            shown = ", ".join(map(repr, dict.fromkeys(found)))
            raise DataError(f"--map {ours}={theirs}: neither file has such a column; found {shown}")
        if list(mapped.values()).count(theirs) > 1:
            raise DataError(f"--map takes {theirs!r} for two columns; a column is one of ours")


def _missing(ours: str, found: Sequence[str]) -> str:
    """``ours`` is missing: what was looked for, and the column that may be it, as TRL's accuracy_reward."""
    looked, shown = ", ".join(NAMES[ours]), ", ".join(map(repr, found))
    like = next((name for name in found if any(alias in _plain(name) for alias in NAMES[ours])), "COLUMN")
    return f"has no {ours}; looked for {looked}; found {shown}; say which it is with --map {ours}={like}"


def _check_steps(table: pd.DataFrame, by_name: Mapping[str, str]) -> None:
    """A file with answers of many steps is of many policies, of which none is the candidate."""
    for name, plain in by_name.items():
        if plain in STEPS:
            steps = {str(cell) for cell in table[name] if not is_null(cell)}
            if len(steps) > 1:
                shown = ", ".join(sorted(steps)[:5])
                raise DataError(
                    f"column {name!r} has {len(steps):,} values ({shown}, …): answers of several policies; keep the "
                    "rows of one step, or drop the column if it is something else"
                )


def _why_not(name: str, plain: str, names: Mapping[str, str]) -> str:
    if plain in STEPS:
        return WHY_NOT["step"]
    if plain in WHY_NOT:
        return WHY_NOT[plain].format(name)
    try:
        return left_out(name, names).replace("an evaluation", "samples")
    except DataError as error:
        raise DataError(f"{error}; or take it with --map OURS={name}") from error


def _only(ours: str, pool: Sequence[str], table: pd.DataFrame) -> dict[str, str]:
    """Why the first column of ``pool`` is taken and the others are not. Raises DataError when they differ."""
    first, *others = pool
    for other in others:
        if not _equal(table[first], table[other]):
            both = f"{first!r} and {other!r}"
            raise DataError(f"{both} both look like the {ours}; say which with --map {ours}={first}")
    return {first: "by its name", **dict.fromkeys(others, f"the same as {first!r} in every row")}


def _filled(values: "pd.Series[Any]") -> bool:
    return any(not is_null(cell) and not (isinstance(cell, str) and not cell.strip()) for cell in values)


def _equal(one: "pd.Series[Any]", other: "pd.Series[Any]") -> bool:
    return all((is_null(a) and is_null(b)) or np.array_equal(a, b) for a, b in zip(one, other, strict=True))
