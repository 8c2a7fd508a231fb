"""What is said where the columns of a file do not tell which is which."""

import shlex
from collections.abc import Mapping, Sequence
from itertools import product

from kellet.data.answer_names import normal
from kellet.data.form import COMPARISON, PAIR
from kellet.data.survey import Survey
from kellet.errors import DataError


def no_column_twice(seen: Survey, given: Mapping[str, str]) -> None:
    """Raise DataError where a column is mapped as two; the strength of a preference may be its margin too."""
    for (ours, one), (theirs, other) in product(given.items(), repeat=2):
        if ours < theirs and one == other and {ours, theirs} != {"preferred", "margin"}:
            raise DataError(f"{seen.path}: {one!r} is mapped as {ours} and as {theirs}; it can be one of them")


def several_prompts(seen: Survey, candidates: Sequence[str]) -> str:
    """Several columns could be the prompt."""
    one, two = (shlex.quote(name) for name in candidates[:2])
    return (
        f"{seen.path}: {', '.join(map(repr, candidates))} could each be prompt, or parts of it; say which: --map "
        f"prompt={one} --ignore {two}, or the other way round, or both: --map prompt={one} with --map history={two} "
        f"(before it) or --map input={two} (after it) (data.columns)"
    )


def missing_columns(seen: Survey, names: Mapping[str, str], has_prompt: bool) -> str:
    """Chosen and rejected, or what a comparison has, cannot be found."""
    compared = {"answer_a", "answer_b"} & set(names) or normal(names.get("preferred", "")) == "preferred"
    wanted = COMPARISON if compared else PAIR if has_prompt or "prompt" in names else ("prompt", *PAIR)
    missing = [name for name in wanted if name not in names]
    called = {normal(name) for name in seen.columns}
    if not compared and "label" in called and called & {"completion", "response", "messages"}:
        hint = (
            " (one completion with a label, as for KTO, is unpaired: no other answer to the same prompt is beside it)"
        )
    else:
        lists = [name for name, column in seen.columns.items() if column.kinds["list"] and column.prose]
        hint = f" ({', '.join(map(repr, lists))} holds lists of answers: make pairs of them)" if lists else ""
    return (
        f"{seen.path}: column {' and '.join(map(repr, missing))} is missing; found {seen.names()}"
        f"{hint}; wanted prompt, chosen and rejected, or prompt, answer_a, answer_b and preferred: rename the columns, "
        f"or say which is which with --map {missing[0]}=COLUMN (data.columns)"
    )
