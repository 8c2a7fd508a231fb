r"""Style of an answer as counts: axes that a reward model may reward beside helpfulness.

    courtesy      sentences that thank, apologise, flatter or wish well
    structure     lines that are a list item or a heading
    hedging       words of doubt: perhaps, probably, I think, not sure
    certainty     words of over-confidence: definitely, guaranteed, 100%
    echo          runs of three words that are taken from the prompt
    repetition    runs of three words that the answer has used before

Pure functions of text. The counts grow with length: compare them at equal length, or within a prompt with length held
(``slope_at_equal_length`` of kellet/stats/within_prompt.py). The word lists are English and short on purpose: an axis
shows that style moved, the answers show how. Hedges and boosters follow the lists of Hyland, Metadiscourse (2005),
without the words that are mostly meant literally in support answers (may, usually, always, clearly).
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from kellet.stats.words import characters_a_word, words

RUN = 3
"""Words in a run of ``echo`` and ``repetition``: shorter ones repeat by chance in any text. In a script without spaces
it is twice as many characters."""
_COURTESY = re.compile(
    r"\b(thank(s| you)|appreciate|sorry|apolog\w+|(happy|glad|pleased|delighted|love) to|pleasure|hesitate|feel free"
    r"|(value|valued) (you|customer|member)|satisfaction|hope (that )?(you|this|it)|understand how|dedicated"
    r"|(kind|best|warm) regards|sincerely|(nice|great|good|wonderful|lovely) (day|week|weekend)|great question)\b"
)
_STRUCTURE = re.compile(r"^[ \t]*(([-*+•]|\d+[.)]|#{1,6})[ \t]+\S|\*\*[^*\n]+\*\*:?[ \t]*$)", re.MULTILINE)
_HEDGING = re.compile(
    r"\b(perhaps|maybe|might|possibly|probably|presumably|likely|apparently|seems?|appears? to|i (think|believe|guess)"
    r"|not (entirely |quite )?(sure|certain)|as far as (i|we) know|to (my|our) knowledge|it is possible|it depends)\b"
)
_CERTAINTY = re.compile(
    r"\b(definitely|certainly|absolutely|undoubtedly|surely|obviously|of course|no doubt|without (a |any )?doubt"
    r"|guarantees?|guaranteed|100 ?percent|completely certain|in every case)\b|\b100 ?%"
)


class Style(NamedTuple):
    """Counts of one answer; the top of this module says what they mean."""

    courtesy: int
    structure: int
    hedging: int
    certainty: int
    echo: int
    repetition: int


def style(prompt: str, response: str) -> Style:
    """Count the style of ``response`` as an answer to ``prompt``; an empty answer counts zero everywhere."""
    lower = response.lower().replace("’", "'")
    asked, seen, echo, repetition = set(_runs(prompt)), set[tuple[str, ...]](), 0, 0
    for run in _runs(response):
        echo += run in asked
        repetition += run in seen
        seen.add(run)
    return Style(
        courtesy=sum(_COURTESY.search(sentence) is not None for sentence in sentences(lower)),
        structure=len(_STRUCTURE.findall(response)),
        hedging=len(_HEDGING.findall(lower)),
        certainty=len(_CERTAINTY.findall(lower)),
        echo=echo,
        repetition=repetition,
    )


def sentences(text: str) -> list[str]:
    """The sentences of ``text``: split after .!? before white space, after 。！？ and at line ends; none is empty."""
    return [
        part.strip()
        for part in re.split(r"(?<=[.!?])\s+|(?<=[。！？｡])(?![。！？｡」』”’）])|\n+", text)
        if part.strip()
    ]


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    found = re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())
    each = found if text.isascii() else [word for token in found for word in words(token)]
    return zip(*(each[begin:] for begin in range(RUN * characters_a_word(text))), strict=False)
