"""Who won, by the whole set of values of a column: a code is never read cell by cell.

1 is the first answer beside 2, the second beside 0, and says yes in a column ``a_is_better``. What a set of values says
in one way only is read so; what has two readings is refused with both, until ``data.preferred_values`` or --map-values
says which. Readings that a public data set documents are in :data:`DOCUMENTED`.
"""

import shlex
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from kellet.data.answer_names import PAIRS, Answers, other, tokens, word_side
from kellet.data.survey import Column, code_of, escaped, number_of

YES = {"better", "best", "preferred", "prefer", "prefers", "wins", "win", "won", "winner", "chosen", "favoured"}
NO = {
    "not",
    "non",
    "less",
    "least",
    "worse",
    "worst",
    "loses",
    "loser",
    "lost",
    "rejected",
    "safe",
    "id",
    "index",
    "idx",
    "score",
    "rating",
}
WHICH = {"choice", "winner", "preferred", "better", "best", "selected", "chosen", "vote", "pick", "accept", "verdict"}
TRUTH, YES_NO = ("true", "false"), ("yes", "no")
INDEX = {"index", "idx"}
RARE = 10
"""One in so many or fewer."""


class Reading(NamedTuple):
    """One way to read a column: who wins by each of its values."""

    sides: Mapping[str, str]
    """Code -> a, b or tie."""
    why: str
    middle: float | None = None
    """For numbers that are a strength: beyond it the other answer wins."""
    low: str = ""
    """Who wins below the middle."""
    by_words: bool = False
    """Whether the values are words, which other files may have others of."""

    def side(self, value: Any) -> str | None:
        """Who wins by a value; None where it is outside of the scale."""
        number = number_of(value)
        if self.middle is not None and number is not None:
            return "tie" if number == self.middle else self.low if number < self.middle else other(self.low)
        return self.sides.get(code_of(value))


def readings(column: Column, answers: Answers, name: str) -> list[Reading]:
    """All ways to read a column; none where its values are not understood. One alone can be used."""
    codes = [code.value for code in column.codes.values()]
    booleans = [value for value in codes if isinstance(value, bool) or code_of(value) in (*TRUTH, *YES_NO)]
    numbers = {number for value in codes if (number := number_of(value)) is not None}
    words = {code_of(value): word_side(value, answers) for value in codes if number_of(value) is None}
    words = {code: side for code, side in words.items() if code not in (*TRUTH, *YES_NO)}
    ties = {code: "tie" for code, side in words.items() if side == "tie"}
    figures = {side for side in words.values() if side in ("0", "1", "2")}
    said = {side for side in words.values() if side in ("a", "b")}
    if column.many and not column.all_numbers:
        return [Reading({}, "each row names the winner", by_words=True)]
    if sum(map(bool, (booleans, numbers, said, figures))) > 1 or (words.keys() - ties.keys() and (booleans or numbers)):
        return []
    if booleans:
        pair = TRUTH if code_of(booleans[0]) in TRUTH else YES_NO
        if not all(code_of(value) in pair for value in booleans):
            return []
        return [each._replace(sides={**each.sides, **ties}) for each in _truth(name, answers, pair)]
    if numbers:
        numbers = _without_missing(column, numbers)
        found = _strengths(column, answers, name) if column.many else _numbers(numbers, answers, name)
        return [each._replace(sides={**each.sides, **ties}) for each in found]
    if figures:
        found = _numbers({float(side) for side in figures}, answers, "choice")
        by_figure = [(reading, {side: reading.sides.get(side, "") for side in figures}) for reading in found]
        return [
            Reading({code: sides.get(side or "", side or "") for code, side in words.items() if side}, reading.why)
            for reading, sides in by_figure
        ]
    return [Reading({code: side for code, side in words.items() if side}, "words for the two answers", by_words=True)]


def _truth(name: str, answers: Answers, codes: tuple[str, str]) -> list[Reading]:
    """Of a column that says yes or no: about which answer, by its name."""
    words = tokens(name)
    sides = {side for word in words if (side := answers.side(word))}
    yes, no = codes
    if len(sides) == 1 and set(words) & YES and not set(words) & NO:
        side = sides.pop()
        return [Reading({yes: side, no: other(side)}, f"its name says that {yes} is {side}")]
    return [
        Reading({yes: "a", no: "b"}, f"{yes}: the first answer is better"),
        Reading({yes: "b", no: "a"}, f"{yes}: the second answer is better"),
    ]


def _numbers(values: Set[float], answers: Answers, name: str) -> list[Reading]:
    """Of a few numbers."""
    words, ends = set(tokens(name)), answers.endings
    named = {float(end): side for end, side in zip(ends or (), "ab", strict=False) if end.isdigit()}
    asks_which = bool(words & (WHICH | INDEX | {"id"}))
    if (documented := _documented(values, answers, name)) is not None:
        return [documented]
    if "strength" in words and values <= {0, 1, 2, 3}:
        return []  # how much better, and not which
    told = _truth(name, answers, ("1", "0")) if values <= {0, 1} else []
    if len(told) == 1:
        return told
    if named and asks_which and values <= named.keys():
        return [_by(named, "the figure with which an answer's name ends")]
    first_then_second = ends is None or ends in PAIRS
    if values <= {0, 1}:
        by_position = _by({0: "a", 1: "b"}, "counted from zero: 0 is the first answer, 1 the second")
        if words & INDEX and not named:
            return [by_position]
        return [by_position, _by({1: "a", 0: "b"}, "yes and no: 1 says that the first answer is better")]
    if values == {1, 2}:
        by_position = _by({1: "a", 2: "b"}, "1 is the first answer, 2 the second")
        if first_then_second and named.keys() in (set(), {1, 2}):
            return [by_position]
        return [by_position, _by({1: "b", 2: "a"}, "1 is the answer whose name ends so")]
    if values == {2}:
        return [_by({2: "b"}, "2 is the second answer"), _by({2: "a"}, "2 is a strength for the first answer")]
    if values <= {0, 1, 2}:
        return [
            _by({0: "tie", 1: "a", 2: "b"}, "0 is a tie, 1 the first answer, 2 the second"),
            _by({0: "a", 1: "b", 2: "tie"}, "counted from zero, and 2 is a tie"),
            _by({0: "a", 1: "tie", 2: "b"}, "a strength with 1 in the middle"),
        ]
    if values <= {1, 2, 3}:
        return [
            _by({1: "a", 2: "b", 3: "tie"}, "1 is the first answer, 2 the second, 3 a tie"),
            _by({1: "a", 2: "tie", 3: "b"}, "a strength with 2 in the middle"),
        ]
    return _ranges(min(values), max(values), all(value.is_integer() for value in values), first_then_second)


def _without_missing(column: Column, numbers: set[float]) -> set[float]:
    """1 and 2 without rare codes far away, such as 9, 99 or -99 for 'not judged'; any others as they are."""
    votes = sum(code.count for code in column.codes.values())
    rare = {number for code in column.codes.values() if (number := number_of(code.value)) and RARE * code.count < votes}
    return {1.0, 2.0} if numbers - {number for number in rare if abs(number) >= 9} == {1, 2} else numbers


def _strengths(column: Column, answers: Answers, name: str) -> list[Reading]:
    """Of many numbers: a strength, by its range."""
    low, high = column.numbers or (0.0, 0.0)
    first_then_second = answers.endings is None or answers.endings in PAIRS
    if low < 0 and (documented := _documented({low, high}, answers, name)) is not None:
        return [documented]
    return _ranges(low, high, False, first_then_second)


def _ranges(low: float, high: float, whole: bool, first_then_second: bool) -> list[Reading]:
    if low < 0 < high:
        return _both(0.0, "a strength: its sign says who wins")
    if low >= 1 and high <= 2 and not whole:
        found = _both(1.5, "from 1, the first answer, to 2, the second")
        return found[:1] if first_then_second else found
    if low >= 0 and high <= 1 and not whole:
        return _both(0.5, "a share from 0 to 1")
    if whole and low >= 0 and 4 <= high <= 10:
        start = 0 if low == 0 else 1
        return _both((start + high) / 2, f"a strength from {start} to {high:g}")
    return []


def _both(middle: float, why: str) -> list[Reading]:
    return [
        Reading({}, f"{why}; below {middle:g} the first answer wins", middle, "a"),
        Reading({}, f"{why}; above {middle:g} the first answer wins", middle, "b"),
    ]


def _by(sides: Mapping[float, str], why: str) -> Reading:
    return Reading({f"{number:g}": side for number, side in sides.items()}, why)


def _documented(values: Set[float], answers: Answers, name: str) -> Reading | None:
    """What a public data set says of a column with this name beside answers with these names."""
    words = tokens(name)
    stem = tokens(answers.a)[:-1]
    if words == ("labels",) and stem == ("human", "ref") and answers.endings == ("a", "b") and values <= {0, 1}:
        # https://huggingface.co/datasets/stanfordnlp/SHP: labels is 1 where A is preferred, 0 where B is
        return _by({1: "a", 0: "b"}, "as SHP documents it: 1 says that A is better")
    strength = words in (("overall", "preference"), ("preference", "strength"))
    if strength and stem == ("response",) and answers.endings == ("1", "2") and min(values) < 0 < max(values):
        # https://huggingface.co/datasets/nvidia/HelpSteer3: -3 is response 1 much better, 3 is response 2 much better
        return Reading({}, "as HelpSteer documents it: below 0 response 1 is better", 0.0, "a")
    return None


def suggestion(reading: Reading, codes: Sequence[str]) -> str:
    """The option that says this reading; of many numbers, by where the middle is."""
    if reading.middle is not None and len(codes) > 12:
        middle = f"{reading.middle:g}"
        return f"--map-values '<{middle}={reading.low},>{middle}={other(reading.low)}'"
    sides = {code: reading.side(code) for code in codes}
    told = escaped(",".join(f"{code}={side}" for code, side in sorted(sides.items()) if side))
    return f"--map-values {shlex.quote(told)}"


def told_reading(given: Mapping[str, str]) -> Reading:
    """``data.preferred_values`` as a reading: codes, or ``<1.5`` and ``>1.5`` for numbers on either side of a middle.

    Raises ValueError where the two do not belong together.
    """
    below = {key: side for key, side in given.items() if key[:1] in "<>" and key}
    sides = {code_of(key): side for key, side in given.items() if key not in below}
    if not below:
        return Reading(sides, "as data.preferred_values says")
    middles = {number_of(key[1:]) for key in below}
    low = next((side for key, side in below.items() if key[0] == "<"), "")
    if len(middles) != 1 or None in middles or sorted(below.values()) != ["a", "b"] or len(below) != 2:
        raise ValueError("a middle is given by two values that say a and b, such as '<1.5=a,>1.5=b'")
    return Reading(sides, "as data.preferred_values says", middles.pop(), low)
