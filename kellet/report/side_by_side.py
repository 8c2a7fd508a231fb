"""The report's answers: side by side with their differences marked, and with tokens shaded by their KL."""

import difflib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from kellet.data.conversation import as_text
from kellet.evaluation.highlights import choose

MAX_TEXT = 6000
"""Characters of a prompt or answer that are shown."""
MAX_TOKENS = 600
"""Tokens of an answer that are shown with their KL."""
LEVELS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Nats from which a token gets the next darker shade, the same on every page."""
CHANCE = 2
"""A match of at most this many words between two differences is taken for chance, and marked as different."""
MOST = 5
"""Number of tokens with the highest KL that are listed in a sentence."""


class Answer(NamedTuple):
    """One answer as the page shows it; ``text`` is escaped, and words that the other answer lacks are marked in it."""

    system: str
    text: Markup
    reward: float
    tokens: int
    kl: float | None


class Example(NamedTuple):
    """A prompt with its answers, and the rule that chose it."""

    rule: str
    prompt: str
    answers: tuple[Answer, ...]


class Heat(NamedTuple):
    """An answer with its tokens' KL; ``most``: (position from 1, text, nats) of the tokens with the highest KL."""

    rule: str
    prompt: str
    text: Markup
    total: float
    tokens: int
    top_share: float | None
    most: list[tuple[int, str, float]]
    left_out: int


def examples(rows: pd.DataFrame) -> list[Example]:
    """The pairs that kellet/evaluation/highlights.py chooses, with the champion's answer where there is one."""
    chosen = choose(rows)
    shown = rows[rows["prompt_id"].isin([one.prompt_id for one in chosen])].to_dict("records")
    by_key = {(row["system"], row["prompt_id"], row["sample"]): row for row in shown}
    pairs = []
    for rule, prompt_id, sample in chosen:
        old, new = (by_key[name, prompt_id, sample] for name in ("reference", "candidate"))
        rival = by_key.get(("champion", prompt_id, sample))
        texts = marked(cut(str(old["response"])), cut(str(new["response"])))
        answers = [_answer("reference", old, texts[0]), _answer("candidate", new, texts[1])]
        if rival is not None:
            answers.insert(1, _answer("champion", rival, Markup("{}").format(cut(str(rival["response"])))))
        pairs.append(Example(rule, cut(as_text(str(new["prompt"]))), tuple(answers)))
    return pairs


def _answer(system: str, row: Any, text: Markup) -> Answer:
    kl = None if pd.isna(row["kl_nats"]) else float(row["kl_nats"])
    return Answer(system, text, float(row["reward"]), int(row["length_tokens"]), kl)


def cut(text: str) -> str:
    """The first MAX_TEXT characters, and the number of characters left out."""
    more = len(text) - MAX_TEXT
    return text if more <= 0 else f"{text[:MAX_TEXT]} … ({more:,} more characters)"


def marked(old: str, new: str) -> tuple[Markup, Markup]:
    """Both texts, escaped, with the words that the other lacks in ``<del>`` and ``<ins>``.

    Words are matched in order by difflib, whatever the white space between them. A match of at most CHANCE words
    between two differences counts as a difference.
    """
    a, b = (re.findall(r"\S+\s*|^\s+", text) for text in (old, new))
    matcher = difflib.SequenceMatcher(None, [w.strip() for w in a], [w.strip() for w in b], autojunk=False)
    ends, blocks = (len(a), len(b)), matcher.get_matching_blocks()
    same = [(i, j, n) for i, j, n in blocks if n > CHANCE or i == j == 0 or (i + n, j + n) == ends]
    left, right, i, j = Markup(), Markup(), 0, 0
    for start_a, start_b, size in same:
        left += _part("del", a[i:start_a]) + "".join(a[start_a : start_a + size])
        right += _part("ins", b[j:start_b]) + "".join(b[start_b : start_b + size])
        i, j = start_a + size, start_b + size
    return left, right


def _part(tag: str, words: Sequence[str]) -> Markup:
    """Words that differ, inside the tag; the white space after them stays outside."""
    text = "".join(words)
    kept = text.rstrip()
    template = {"del": Markup("<del>{}</del>{}"), "ins": Markup("<ins>{}</ins>{}")}[tag]
    return template.format(kept, text[len(kept) :]) if kept else Markup("{}").format(text)


def heats(token_kl: Mapping[str, Any] | None, rows: pd.DataFrame) -> list[Heat]:
    """The answers of token_kl.json (kellet/evaluation/token_kl.py) whose prompts are in ``rows``, shaded by KL."""
    prompts = rows.drop_duplicates("prompt_id").set_index("prompt_id")["prompt"]
    return [
        _heat(one, cut(as_text(str(prompts[one["prompt_id"]]))))
        for one in (token_kl or {}).get("answers", ())
        if one["prompt_id"] in prompts.index
    ]


def _heat(answer: Mapping[str, Any], prompt: str) -> Heat:
    tokens, nats = [str(text) for text in answer["tokens"]], [float(value or 0.0) for value in answer["nats"]]
    spans = [
        Markup('<span class="h{}" title="{} nats">{}</span>').format(level(value), f"{value:.2f}", text)
        if level(value)
        else Markup("{}").format(text)
        for text, value in zip(tokens[:MAX_TOKENS], nats, strict=False)
    ]
    order = sorted(range(len(nats)), key=lambda place: -nats[place])
    total = math.fsum(nats)
    top = math.fsum(nats[place] for place in order[: math.ceil(len(nats) / 10)])
    most = [(place + 1, tokens[place].strip() or "(space)", nats[place]) for place in order[:MOST]]
    share = top / total if total > 0 else None
    left_out = max(0, len(tokens) - MAX_TOKENS)
    return Heat(str(answer["rule"]), prompt, Markup().join(spans), total, len(nats), share, most, left_out)


def level(nats: float) -> int:
    """The shade of a token: 0 below the first of LEVELS, 1 from it on, and so on."""
    return sum(nats >= edge for edge in LEVELS)
