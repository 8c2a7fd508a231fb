"""How answers are called: in the names of columns, and in words that say who won.

``Response A``, ``response_a`` and ``responseA`` are the same words; 'A is slightly better' names the answer whose
column ends in a.
"""

import re
from typing import Any, NamedTuple

PAIRS = (("a", "b"), ("0", "1"), ("1", "2"), ("left", "right"), ("first", "second"), ("one", "two"))
"""How the names of two answer columns differ."""
ANSWER_STEMS = {
    tuple(stem.split("_"))
    for stem in re.findall(
        r"\w+",
        "answer response completion text output generation reply candidate conversation summary option options "
        "assistant human_ref summaries_text message model_output model_response answer_text response_text continuation "
        "responses responses_text answers answers_text completions completions_text outputs candidates",
    )
} | {()}
"""What is left of an answer's name without a or b, 1 or 2."""
FIRST = {"a", "left", "first"}
SECOND = {"b", "right", "second"}
TIES = {
    "tie",
    "both",
    "neither",
    "equal",
    "same",
    "draw",
    "none",
    "tie bothbad",
    "bothbad",
    "both bad",
    "no preference",
}
TIES |= {"about the same", "the same", "equally good", "equally bad", "both good", "both are equal", "tied", "even"}
FILLERS = {"response", "answer", "model", "assistant", "completion", "option", "options", "output", "text", "candidate"}
FILLERS |= {"reply", "summary", "is", "the", "wins", "win", "won", "winner", "better", "best", "preferred", "prefer"}
FILLERS |= {"negligibly", "marginally", "considerably", "moderately", "vastly", "greatly", "strong", "slight", "i"}
FILLERS |= {"st", "nd"}  # of 1st and 2nd
FILLERS |= {"slightly", "much", "significantly", "clearly", "strongly", "somewhat", "far", "chosen", "human", "ref"}


_LEVEL = re.compile(r"^\s*\d+\s*[-–—.:)=]+\s*(?=[^\W\d])")
"""The number of a level before its words, as in '2 - A is slightly better'."""
_ARTICLE = re.compile(r"\ba (\w+ )*(better|best|worse) (response|answer|completion|reply|output|option|choice|one)\b")
"""'a better answer', in which a is no name."""


class Answers(NamedTuple):
    """The columns of the two answers."""

    a: str
    b: str

    @property
    def endings(self) -> tuple[str, str] | None:
        """Where their names differ, such as 0 and 1; None where that is no pair of :data:`PAIRS`, in either order."""
        one, other = tokens(self.a), tokens(self.b)
        differ = [pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]]
        if len(one) != len(other) or len(differ) != 1:
            return None
        return differ[0] if differ[0] in PAIRS or differ[0][::-1] in PAIRS else None

    def side(self, word: str) -> str | None:
        """``a`` or ``b`` for the ending of an answer's name, or for first and second in words."""
        if self.endings and word in self.endings:
            return "ab"[self.endings.index(word)]
        if self.endings and self.endings not in PAIRS:
            return None
        return "a" if word in FIRST else "b" if word in SECOND else None


def other(side: str) -> str:
    """The other answer."""
    return {"a": "b", "b": "a"}.get(side, side)


def tokens(name: str) -> tuple[str, ...]:
    """The words of a column's name in small letters; figures are words of their own."""
    return tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[^\W\d_A-Za-z]+|\d+", name))


def normal(name: str) -> str:
    """A column's name by its words: ``Response A`` is ``response_a``."""
    return "_".join(tokens(name)) or name


def word_side(value: Any, answers: Answers) -> str | None:
    """``a``, ``b``, ``tie`` or a figure of an answer's name, such as 1 of 'response 1 is better'; None: not understood.

    What follows 'than' or 'over' is left out; any word that is not known makes it None.
    """
    if not isinstance(value, str):
        return None
    if compared := re.fullmatch(r"\W*([ab]|[012])\s*(>+|<+|=+)\s*([ab]|[012])\W*", value.casefold()):
        one, sign, two = compared.groups()
        if one == two or one.isdigit() != two.isdigit():
            return None
        better = one if sign[0] == ">" else two
        return "tie" if sign[0] == "=" else better if better.isdigit() else answers.side(better)
    text = " ".join(re.findall(r"\w+", _LEVEL.sub("", value.casefold().replace("_", " "))))
    if text in TIES:
        return "tie"
    if _ARTICLE.search(text):
        return None
    words = [word for name in re.split(r"\b(?:than|over)\b", text)[:1] for word in tokens(name)]
    names = {answers.a.casefold(): "a", answers.b.casefold(): "b"}
    if value.strip().casefold() in names:
        return names[value.strip().casefold()]
    left = [word for word in words if word not in FILLERS]
    if len(left) != 1:
        return None
    return left[0] if left[0] in ("0", "1", "2") else answers.side(left[0])


def names_an_answer(value: Any) -> bool:
    """Whether a value is the name of an answer's column, such as response_a, rather than an answer."""
    words = tokens(value) if isinstance(value, str) else ()
    return len(words) == 2 and words[0] in FILLERS and any(words[1] in pair for pair in PAIRS)
