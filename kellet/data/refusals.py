"""What is said where the columns of a file do not tell which is which."""

import shlex
from collections.abc import Mapping, Sequence
from itertools import product

from kellet.data.answer_names import ANSWER_STEMS, PAIRS, normal, tokens
from kellet.data.form import COMPARISON, PAIR, PREFERRED, PROMPTS
from kellet.data.survey import Survey, escaped
from kellet.errors import DataError

JUDGED = {"score", "scores", "rating", "ratings", "rank", "reward"}
HEADINGS = {"prompt", *PROMPTS, *PAIR, "preferred", *PREFERRED}
SHORT = 40
"""Characters of a heading, at most."""


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
    hint = _hint(seen, bool(compared), missing)
    return (
        f"{seen.path}: column{'s' if len(missing) > 1 else ''} {' and '.join(map(repr, missing))} "
        f"{'are' if len(missing) > 1 else 'is'} missing; found {seen.names()}"
        f"{f' ({hint})' if hint else ''}; wanted prompt, chosen and rejected, or prompt, answer_a, answer_b and "
        f"preferred: rename the columns, or say which is which with --map {missing[0]}=COLUMN (data.columns)"
    )


def _hint(seen: Survey, compared: bool, missing: Sequence[str]) -> str:
    """What the file may be instead."""
    called = {normal(name) for name in seen.columns}
    if not compared and "label" in called and called & {"completion", "response", "messages"}:
        return "one completion with a label, as for KTO, is unpaired: no other answer to the same prompt is beside it"
    if (line := _header_below(seen)) is not None:
        return f"line {line} reads like the header: take out the lines above it"
    scores = [name for name in seen.columns if set(tokens(name)) & JUDGED and seen.columns[name].all_numbers]
    if list(missing) == ["preferred"] and len(scores) > 1:
        return (
            f"{', '.join(map(escaped, scores[:2]))} alone do not say who won: add a column preferred, with a or b, "
            "where one is better"
        )
    lists = [name for name, column in seen.columns.items() if column.kinds["list"] and column.prose]
    return f"{', '.join(map(repr, lists))} holds lists of answers: make pairs of them" if lists else ""


def _header_below(seen: Survey) -> int | None:
    """The line of a row that holds three names of the contract or more, as below a title or merged cells."""
    for line, values in seen.sample[:5]:
        names = {normal(value) for value in values.values() if isinstance(value, str) and len(value) < SHORT}
        if len(names & HEADINGS) + sum(map(_of_answer, names)) >= 3:
            return line
    return None


def _of_answer(name: str) -> bool:
    *stem, last = tokens(name) or ("",)
    return tuple(stem) in ANSWER_STEMS - {()} and any(last in pair for pair in PAIRS)
