"""Scores of both answers beside a judgement: how often the better answer has the higher one.

A column may be read the wrong way round, and chosen may be swapped with rejected; scores in the same file tell.
"""

from collections.abc import Iterable
from typing import NamedTuple

from kellet.stats.win_rate import wilson

SETTLED, CONTRADICTED = 0.9, 0.4
ENOUGH = 20
"""Rows of unequal scores that a decision takes, a quarter of them for each answer where both can win."""


class Agreement(NamedTuple):
    """Judgements that agree, of those in which the first and of those in which the second answer scores higher."""

    same: tuple[int, int]
    rows: tuple[int, int]

    @property
    def share(self) -> float:
        """Of all rows."""
        return sum(self.same) / max(sum(self.rows), 1)

    @property
    def balanced(self) -> float:
        """The mean of both shares: a score that is always higher on one side agrees with one half of all judgements."""
        return sum(same / max(rows, 1) for same, rows in zip(self.same, self.rows, strict=True)) / 2

    def settles(self) -> bool:
        """Whether it shows that a reading is right."""
        return self._tells() and self.balanced >= SETTLED

    def contradicts(self, both_can_win: bool = True) -> bool:
        """Whether it shows that a reading is wrong: clearly below one half, whatever chance does."""
        clear = wilson(sum(self.same), sum(self.rows))[1] < 0.5 and sum(self.rows) >= ENOUGH
        return clear and (self._tells() and self.balanced < CONTRADICTED if both_can_win else self.share < CONTRADICTED)

    def in_words(self, names: tuple[str, str], settled: bool = False) -> str:
        """A phrase for the account; empty where the scores say nothing."""
        if not sum(self.rows):
            return ""
        told = f"{100 * self.share:.0f}% of {sum(self.rows)} rows agree with {names[0]!r} and {names[1]!r}"
        return told + (", which tell how it is to be read" if settled else "")

    def _tells(self) -> bool:
        return 4 * min(self.rows) >= ENOUGH and sum(self.rows) >= ENOUGH


def agreement(rows: Iterable[tuple[str, str]]) -> Agreement:
    """Of (winner, the answer with the higher score), each a, b or something else, which does not count."""
    same, counted = [0, 0], [0, 0]
    for winner, higher in rows:
        if winner in ("a", "b") and higher in ("a", "b"):
            counted["ab".index(higher)] += 1
            same["ab".index(higher)] += winner == higher
    return Agreement((same[0], same[1]), (counted[0], counted[1]))
