"""Who won in a row of two answers, and how a column that says so is read.

The column's readings come from kellet/data/scales.py. Where there are two, scores of both answers in the same file may
tell which one is right; otherwise a person does.
"""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kellet.data.agreement import Agreement, agreement
from kellet.data.annotators import NOBODY, NOT_SUBMITTED
from kellet.data.answer_names import ANSWER_STEMS, PAIRS, Answers, other, tokens, word_side
from kellet.data.exports import COUNTED, UNFINISHED, one_vote, parsed, several
from kellet.data.pair_names import says_lost, verdict
from kellet.data.scales import Reading, readings, suggestion, told_reading
from kellet.data.survey import Survey, code_of, escaped, is_missing, number_of, read_values
from kellet.data.tool_calls import short
from kellet.errors import DataError

UNJUDGED, NO_JUDGEMENTS = NOBODY
MODELS = {("model",), ("generator",), ("policy",), ("system",), ("model", "name"), ("name",)}
SCORES = {("reward",), ("rm", "score"), ("reward", "score"), ("reward", "model", "score"), ("quality",), ("elo",)}
SCORES |= {
    ("score",),
    ("rating",),
    ("scores",),
    ("ratings",),
    ("avg", "rating"),
    ("avg", "score"),
    ("overall", "score"),
}
"""Names of what is higher for the better answer, without the words that tell the two apart."""
SIDES = ("answer_a", "answer_b")


class Judgement(NamedTuple):
    """One person's judgement of a row."""

    winner: str
    """a, b or tie."""
    annotator: Any
    aside: str = ""
    """Why it does not count; empty where it does."""


class Scale(NamedTuple):
    """How the column that says who won is read."""

    reading: Reading
    answers: Answers
    models: tuple[str, str] | None = None
    """Columns with the names of who answered, by which a winner may be called."""

    def side(self, value: Any, row: Mapping[str, Any]) -> str:
        """Who wins; ``row`` has all columns of the file. Raises ValueError where it is empty or not understood."""
        if is_missing(value):
            raise ValueError(UNJUDGED)
        found = self.reading.side(value) or (None if self.reading.sides else _words(word_side(value, self.answers)))
        named = self._named(value, row)
        if found and named and found != named:
            raise ValueError(f"preferred is {value!r}, which says {found}, and is also the name or text of {named}")
        if side := found or named:
            return side
        known = ", ".join(map(escaped, list(self.reading.sides)[:8])) or "a, b or tie"
        raise ValueError(f"preferred is {value!r}, wanted {known} (or a column's name; the answer)")

    def _named(self, value: Any, row: Mapping[str, Any]) -> str | None:
        if not isinstance(value, str):
            return None
        for columns in (self.answers, self.models):
            if columns:
                same = [
                    isinstance(named := row.get(column), str) and named.strip() == value.strip() for column in columns
                ]
                if sum(same) == 1:
                    return "ab"[same.index(True)]
        return None


def _words(side: str | None) -> str | None:
    return side if side in ("a", "b", "tie") else None


def judgements(row: Mapping[str, Any], names: Mapping[str, str], scale: Scale) -> list[Judgement]:
    """Each judgement in a row of a comparison file. Raises ValueError when there is none or it is not understood."""
    value, who = row.get(names["preferred"]), parsed(row.get(names.get("annotator", "")))
    states = parsed(row.get(names.get("status", "")))
    cells = several(value)
    if cells is None:
        return [_judged(value, row.get(names.get("annotator", "")), states, row, scale)]
    if not cells:
        raise ValueError(NO_JUDGEMENTS)
    users = who if isinstance(who, list) else [who] * len(cells)
    if len(users) != len(cells):
        raise ValueError(f"{len(cells)} judgements by {len(users)} annotators")
    states = states if isinstance(states, list) else [states] * len(cells)
    if len(states) != len(cells):
        raise ValueError(f"{len(cells)} judgements with {len(states)} states")
    return [_judged(cell, user, state, row, scale) for cell, user, state in zip(cells, users, states, strict=True)]


def _judged(value: Any, who: Any, state: Any, row: Mapping[str, Any], scale: Scale) -> Judgement:
    if isinstance(state, str) and state and state.casefold() not in COUNTED:
        if state.casefold() not in UNFINISHED:
            raise ValueError(f"status is {state!r}, wanted one of {', '.join((*COUNTED, *UNFINISHED))}")
        return Judgement("tie", who, NOT_SUBMITTED)
    vote = one_vote(value)
    if isinstance(vote, list) and vote and all(isinstance(item, dict) and "rank" in item for item in vote):
        ranks = {scale.side(item.get("value"), row): item["rank"] for item in vote}
        if set(ranks) != {"a", "b"}:
            raise ValueError(f"a ranking of {len(vote)} answers, wanted the two")
        return Judgement("tie" if ranks["a"] == ranks["b"] else min(ranks, key=lambda side: ranks[side]), who)
    return Judgement(scale.side(vote, row), who)


def find_scale(
    seen: Survey, names: Mapping[str, str], given: Mapping[str, str], ignored: Sequence[str], size: int
) -> tuple[Scale, str]:
    """How ``preferred`` is read, and a sentence on what scores in the file say of it.

    Raises DataError where it has several readings or none, or where most scores say the contrary.
    """
    answers, name = Answers(names["answer_a"], names["answer_b"]), names["preferred"]
    models = _columns_like(seen, answers, MODELS)
    if given:
        return Scale(_given(seen, name, given), answers, models), ""
    found = readings(seen.columns[name], answers, name)
    if not found or not _understood(seen, names, [Scale(each, answers, models) for each in found]):
        raise DataError(_no_scale(seen, name))
    if (line := _ranked(seen, names)) is not None:
        raise DataError(
            f"{seen.path}: {name!r} holds both answers in every row (line {line}), as a ranking does, or two who "
            "never agree; write the better answer alone"
        )
    if says_lost(name):
        raise DataError(_who_lost(seen, name, found))
    scores = _columns_like(seen, answers, SCORES)
    scores = None if scores and set(scores) & set(ignored) else scores
    found_by = [_agreement(seen, names, Scale(each, answers, models), scores, size) for each in found] if scores else []
    settled = [reading for reading, scored in zip(found, found_by, strict=False) if scored.settles()]
    if len(found) > 1 and len(settled) != 1:
        raise DataError(_two_readings(seen, names, found))
    reading = settled[0] if len(found) > 1 else found[0]
    if not scores:
        return Scale(reading, answers, models), ""
    scored = found_by[found.index(reading)]
    if scored.contradicts():
        raise DataError(contradiction(seen, name, scores, scored, reading))
    return Scale(reading, answers, models), scored.in_words(scores, settled=len(found) > 1)


def _no_scale(seen: Survey, name: str) -> str:
    codes = list(seen.columns[name].codes.items())
    if not codes:
        line, value = next((line, values[name]) for line, values in seen.sample if not is_missing(values.get(name)))
        return (
            f"{seen.path}: {name!r} says who won by {short(value)} (line {line}), which is not understood; write the "
            "better answer alone, as a or b"
        )
    values = ", ".join(short(code.value) for _, code in codes[:8]) + (", …" if len(codes) > 8 else "")
    known = len(codes) <= 8 and not any(mark in code for code, _ in codes for mark in ",=<>")
    way = shlex.quote(escaped(",".join(f"{code}=…" for code, _ in codes))) if known else "VALUE=…"
    return (
        f"{seen.path}: {name!r} says who won by {values}, which is no scale that "
        f"is understood; say for each who wins, a, b or tie: --map-values {way} (data.preferred_values)"
    )


def _who_lost(seen: Survey, name: str, found: Sequence[Reading]) -> str:
    codes = seen.columns[name].codes
    sides = {code: other(found[0].side(entry.value) or "") for code, entry in codes.items()}
    told = shlex.quote(escaped(",".join(f"{code}={side}" for code, side in sides.items() if side)))
    way = f": --map-values {told}" if len(found) == 1 and any(sides.values()) else " with --map-values"
    return (
        f"{seen.path}: {name!r} says by its name who lost; say who wins by each of its values{way} "
        "(data.preferred_values)"
    )


def _ranked(seen: Survey, names: Mapping[str, str]) -> int | None:
    """The first line of a column whose lists all have two judgements that differ, without who made them."""
    cells = [(line, several(values.get(names["preferred"]))) for line, values in seen.sample]
    cells = [(line, cell) for line, cell in cells if cell]
    two = [cell for _, cell in cells if cell is not None and len(cell) == 2 and code_of(cell[0]) != code_of(cell[1])]
    return cells[0][0] if "annotator" not in names and cells and len(two) == len(cells) else None


def _understood(seen: Survey, names: Mapping[str, str], scales: Sequence[Scale]) -> bool:
    """Whether a judgement of the first rows is understood in one of the readings, where there are any."""
    judged = [values for _, values in seen.sample if not is_missing(values.get(names["preferred"]))]
    return not judged or any(_winners(values, names, scale) for scale in scales for values in judged)


def contradiction(
    seen: Survey, name: str, scores: tuple[str, str], scored: Agreement, reading: Reading | None = None
) -> str:
    """The message for scores that say the contrary of who won."""
    way = "swap the columns with --map chosen=… --map rejected=…"
    if reading is not None:
        codes = [code for code, entry in seen.columns[name].codes.items() if reading.side(entry.value)]
        way = f"say who wins with {suggestion(reading, codes)}, or the other way round,"
    return (
        f"{seen.path}: {name!r} contradicts {scores[0]!r} and {scores[1]!r}: the better one has the higher score in "
        f"only {100 * scored.share:.0f}% of {sum(scored.rows)} rows; {way} or leave the scores out with "
        f"--ignore {shlex.quote(scores[0])}"
    )


def chosen_scores(seen: Survey, ignored: Sequence[str]) -> tuple[str, str] | None:
    """Columns with the scores of chosen and rejected answers, such as score_chosen and score_rejected."""
    said = {name: found for name in sorted(set(seen.columns) - set(ignored)) if (found := verdict(name))}
    scores = {name: found for name, found in said.items() if _is_score(found.rest) and seen.columns[name].all_numbers}
    for name, better in scores.items():
        for twin, worse in scores.items():
            if better.won and not worse.won and better.rest == worse.rest:
                return name, twin
    return None


def _is_score(words: tuple[str, ...]) -> bool:
    return tuple(word for word in words if (word,) not in ANSWER_STEMS) in SCORES


def agreement_of_pairs(seen: Survey, scores: tuple[str, str], size: int) -> Agreement:
    """How often the chosen answer, the first of ``scores``, has the higher score."""
    return agreement(("a", _higher(values, scores)) for _, values in read_values(seen.path, size) if values)


def _agreement(
    seen: Survey, names: Mapping[str, str], scale: Scale, scores: tuple[str, str] | None, size: int
) -> Agreement:
    return agreement(
        (winner, _higher(values, scores))
        for _, values in read_values(seen.path, size)
        if values and scores
        for winner in _winners(values, names, scale)
    )


def _winners(values: Mapping[str, Any], names: Mapping[str, str], scale: Scale) -> list[str]:
    try:
        return [each.winner for each in judgements(values, names, scale) if not each.aside]
    except ValueError:
        return []  # the row is refused with its reason when it is read


def _higher(values: Mapping[str, Any], scores: tuple[str, str]) -> str:
    one, other = (number_of(values.get(name)) for name in scores)
    return "" if one is None or other is None or one == other else "a" if one > other else "b"


def _columns_like(seen: Survey, answers: Answers, stems: set[tuple[str, ...]]) -> tuple[str, str] | None:
    """Two columns whose names differ as those of the answers do, such as score_A and score_B."""
    in_lists = [("0", "1")] if stems is SCORES and answers.endings in (None, *PAIRS) else []
    for ends in [*([answers.endings] if answers.endings else PAIRS), *in_lists]:
        for stem in sorted(stems):
            named = [_ending(seen, stem, end) for end in ends]
            if named[0] and named[1]:
                return named[0], named[1]
    return None


def _ending(seen: Survey, stem: tuple[str, ...], end: str) -> str | None:
    wanted = {(*stem, end), (end, *stem)}
    return next((name for name in sorted(seen.columns) if tokens(name) in wanted and seen.columns[name].filled), None)


def _given(seen: Survey, name: str, given: Mapping[str, str]) -> Reading:
    try:
        reading = told_reading(given)
    except ValueError as error:
        raise DataError(f"{seen.path}: --map-values (data.preferred_values) got {dict(given)}: {error}") from error
    column = seen.columns[name]
    if not column.many and not any(reading.side(code.value) for code in column.codes.values()):
        raise DataError(
            f"{seen.path}: --map-values (data.preferred_values) names {', '.join(given)}, and {name!r} holds "
            f"{', '.join(map(repr, list(column.codes)[:8]))}"
        )
    return reading


def _two_readings(seen: Survey, names: Mapping[str, str], found: Sequence[Reading]) -> str:
    name = names["preferred"]
    codes = sorted(seen.columns[name].codes.items(), key=lambda item: item[1].line)
    differ = [code for _, code in codes if len({reading.side(code.value) for reading in found}) > 1]
    first = (differ or [codes[0][1]])[0]
    ways, code = [], escaped(code_of(first.value))
    for reading in found:
        side = reading.side(first.value)
        wins = {"tie": "is a tie"}.get(side or "", f"is won by {names.get(f'answer_{side}', '')!r}")
        says = suggestion(reading, [code for code, _ in codes])
        ways.append(f"{reading.why}: line {first.line} ({code}) {wins if side else 'is not read'}; {says}")
    values = ", ".join(sorted(escaped(code) for code, _ in codes[:8])) + (", …" if len(codes) > 8 else "")
    return (
        f"{seen.path}: {name!r} holds {values}, which has {len(found)} readings. "
        + ". Or ".join(ways)
        + ". Say which with its --map-values (data.preferred_values)"
    )
