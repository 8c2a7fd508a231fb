"""Whether a column without a known name says who won, by the words of its name and by its values."""

from kellet.data.answer_names import Answers, tokens, word_side
from kellet.data.pair_names import LOST
from kellet.data.scales import NO, WHICH, YES
from kellet.data.survey import Column

ASKED = (WHICH | YES | {"preference", "prefer", "preferred"}) - LOST
BESIDE = {"which", "one", "of", "the", "these", "two", "is", "was", "are", "do", "did", "does", "would", "you", "your"}
BESIDE |= {
    "response",
    "responses",
    "answer",
    "answers",
    "reply",
    "completion",
    "output",
    "option",
    "model",
    "assistant",
}
BESIDE |= {
    "summary",
    "overall",
    "human",
    "annotator",
    "rater",
    "user",
    "final",
    "question",
    "q",
    "in",
    "general",
    "a",
    "b",
}
"""Words of a question that do not change what it asks; with others, such as 'at deceiving', somebody has to say."""
TRUTHS = {"0", "1", "true", "false", "yes", "no"}


def says_who(column: Column, about: Answers) -> bool:
    """Whether it says yes or no of one answer (``a_is_better``), or has the figure of one (``best_idx``)."""
    words, codes = tokens(column.name), set(column.codes)
    yes_or_no = bool(codes) and codes <= TRUTHS
    if not (yes_or_no or (codes and codes <= {"0", "1", "2"})):
        return False
    says = set(words) & YES and not set(words) & NO and any(about.side(word) for word in words)
    return (yes_or_no and bool(says)) or (bool(set(words) & WHICH) and words[-1] in ("id", "index", "idx"))


def asks_who(column: Column, about: Answers) -> bool:
    """Whether it is a question such as 'Which response is better?', and its values name the answers in words."""
    words = set(tokens(column.name))
    words = {word for word in words if not word.isdigit()}
    if not words & ASKED or words - ASKED - BESIDE or column.many:
        return False
    sides = [word_side(code.value, about) for code in column.codes.values()]
    understood = [side for side in sides if side in ("a", "b", "tie")]
    return bool({"a", "b"} & set(understood)) and 2 * len(understood) >= len(sides)
