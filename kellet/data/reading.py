"""How one preference file is read, decided on all of its rows: columns, who won, and the account of the rest."""

import shlex
from pathlib import Path

from kellet.data.agreement import agreement
from kellet.data.columns import find_columns
from kellet.data.form import Form, Said
from kellet.data.judgements import (
    agreement_of_pairs,
    chosen_scores,
    contradiction,
    find_scale,
)
from kellet.data.leftovers import account_of, marks_of_templates
from kellet.data.survey import Survey, number_of, read_values, survey
from kellet.errors import DataError

MANY = 20
"""Judgements that are all alike by more than chance."""


def find_form(path: Path, said: Said, size: int) -> Form | None:
    """Read the file once, ``size`` rows at a time, and decide; None where no row can be read.

    Raises DataError naming what is missing, has two readings or is not accounted for, and how to say it.
    """
    seen = survey(path, size)
    if not seen.columns:
        return None
    form, told = find_columns(seen, said), ""
    if form.comparison:
        scale, told = find_scale(seen, form.names, said.preferred_values, said.ignored, size)
        form = form._replace(scale=scale)
        seen.notes += _one_winner(seen, form)
    elif scores := chosen_scores(seen, said.ignored):
        told = _agreement(seen, form, scores, size)
    elif "margin" in form.names:
        _refuse_negative_margins(seen, form, size)
    seen.notes += marks_of_templates(seen, form)
    ignored = tuple(name for name in said.ignored if name in seen.columns)
    account = account_of(seen, form, said.ignored, told)
    return form._replace(account=account, ignored=ignored, notes=tuple(seen.notes))


def _one_winner(seen: Survey, form: Form) -> list[str]:
    """A note where the same answer wins throughout, which a column that nobody filled in says too."""
    column, scale = seen.columns[form.names["preferred"]], form.scale
    if scale is None or column.many or column.filled < MANY:
        return []
    sides = {scale.reading.side(code.value) for code in column.codes.values()}
    if len(sides) != 1 or not (side := sides.pop()):
        return []
    won = "neither answer" if side == "tie" else repr(form.names[f"answer_{side}"])
    return [f"{column.name!r} says in all {column.filled} rows that {won} won: was it filled in?"]


def _refuse_negative_margins(seen: Survey, form: Form, size: int) -> None:
    name = form.names["margin"]
    margins = [number for _, values in read_values(seen.path, size) if (number := number_of((values or {}).get(name)))]
    signs = agreement(("a", "a" if margin > 0 else "b") for margin in margins)
    if signs.contradicts(both_can_win=False):
        raise DataError(
            f"{seen.path}: {name!r} is positive in only {100 * signs.share:.0f}% of {len(margins)} rows, so that "
            "'chosen' would be the worse answer; swap the columns with --map chosen=… --map rejected=… or leave the "
            f"margin out with --ignore {shlex.quote(name)}"
        )


def _agreement(seen: Survey, form: Form, scores: tuple[str, str], size: int) -> str:
    scored = agreement_of_pairs(seen, scores, size)
    if scored.contradicts(both_can_win=False):
        raise DataError(contradiction(seen, form.names["chosen"], scores, scored))
    return scored.in_words(scores)
