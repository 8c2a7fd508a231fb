"""Columns whose names say that one answer won and the other lost: chosen and rejected by any name.

``good_response`` and ``bad_response``, ``y_w`` and ``y_l``, ``Preferred`` and ``Non-preferred``: a word that says won,
a word that says lost, and the same rest. Which stands first in the file does not matter. The words alone are not
enough: both columns hold texts, not codes or names of models, and the file has no two answers beside them, about which
``good`` and ``bad`` may be remarks.
"""

from collections.abc import Sequence
from typing import NamedTuple

from kellet.data.answer_names import ANSWER_STEMS, names_an_answer, tokens
from kellet.data.survey import Survey

WON = {"chosen", "preferred", "accepted", "selected", "winner", "winning", "win", "won", "good", "better", "best"}
WON |= {"positive", "pos", "liked", "upvoted"}
LOST = {"rejected", "reject", "unchosen", "dispreferred", "unpreferred", "nonpreferred", "declined", "unselected"}
LOST |= {
    "loser",
    "losing",
    "lose",
    "loses",
    "lost",
    "bad",
    "worse",
    "worst",
    "negative",
    "neg",
    "disliked",
    "downvoted",
}
NEGATIONS = {"non", "not", "un", "dis", "less", "least"}
STEMS = ANSWER_STEMS | {("content",), ("messages",), ("outputs",), ("responses",)}
KNOWN = (
    # TRL's stack_llama_2 script for lvwerra/stack-exchange-paired: j was preferred
    ("response_j", "response_k"),
    # the DPO paper's notation (Rafailov et al. 2023)
    ("y_w", "y_l"),
    # ms-swift, docs/source_en/Customization/Custom-dataset.md; the first is what unfolded() makes of its messages
    ("messages_answer", "rejected_response"),
    ("response", "rejected_response"),
    ("messages", "rejected_messages"),
)
"""Pairs of names that the words do not tell, each with its source."""


class Verdict(NamedTuple):
    """What a column's name says of an answer."""

    won: bool
    rest: tuple[str, ...]
    """The other words of the name."""


def verdict(name: str) -> Verdict | None:
    """Whether a name says that its answer won or lost; None where it says neither, or both."""
    words: list[str] = []
    for word in tokens(name):
        if words and words[-1] in NEGATIONS and word in WON:
            words[-1] = "nonpreferred"
        else:
            words.append(word)
    said = [word for word in words if word in WON | LOST]
    if len(said) != 1:
        return None
    return Verdict(said[0] in WON, tuple(word for word in words if word != said[0]))


def says_lost(name: str) -> bool:
    """Whether a name has a word for who lost, or denies one for who won."""
    words = set(tokens(name))
    return bool(words & LOST or (words & NEGATIONS and words & WON))


def pairs_by_name(seen: Survey, free: Sequence[str]) -> list[tuple[str, str]]:
    """(won, lost) columns among ``free`` that hold answers."""
    answers = {name: "_".join(tokens(name)) for name in free if _holds_answers(seen, name)}
    said = {name: found for name in answers if (found := verdict(name)) and found.rest in STEMS}
    told = [
        (one, other)
        for one, better in said.items()
        for other, worse in said.items()
        if better.won and not worse.won and better.rest == worse.rest
    ]
    known = [
        (one, other) for pair in KNOWN for one in answers for other in answers if (answers[one], answers[other]) == pair
    ]
    return told or known[:1]


def _holds_answers(seen: Survey, name: str) -> bool:
    """Whether a column holds texts of two words and more, or messages."""
    column = seen.columns[name]
    if not column.filled or not column.textual:
        return False
    if 2 * (column.kinds["messages"] + column.kinds["list"]) > column.filled:
        return True
    codes = [code.value for code in column.codes.values()]
    return column.words >= 2 * column.counted and (column.many or not all(names_an_answer(code) for code in codes))
