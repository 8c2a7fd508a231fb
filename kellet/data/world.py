"""The support world: customer messages, answers, annotators, and a known true helpfulness.

It exists to test the gate against a known truth: the labels of its annotators may prefer length, its *gold
helpfulness* does not, and training never sees gold. An answer is a list of sentences; for a message of intent i

    gold = facts/3 - wrong/3 - filler/5 - repeated/4,  clipped to [-1, 1]

    facts      distinct facts of intent i that are stated (0 to 3)
    wrong      statements of other intents' facts
    filler     courtesy sentences, and anything that is no statement of this world (garbled or cut off)
    repeated   sentences that state again what was already stated

Annotator a prefers answer A to B with probability (Bradley-Terry with a length bias)

    σ( gold_weight·(gold_A - gold_B) + λ_a·(words_A - words_B)/10 )

A fact has nine words and a filler sentence fourteen. Sampled answers cover 1.7 facts and hold 1.5 other sentences, so
honest improvement does not lengthen: an ideal answer (three facts and nothing else) has 27 words, the average one 34.
Careful agents state more facts and careless ones more wrong facts, which leaves gold and length nearly uncorrelated
over all answers (-0.05 in the default world), so that a reward without a length slope is the right one.
"""

import functools
import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from kellet.config.data import World
from kellet.errors import DataError
from kellet.files import atomic_file


class Agent(NamedTuple):
    """How a support agent writes."""

    covered: float
    """Probability that a given fact of the intent is stated."""
    wrong: float
    """Mean number of another intent's facts (Poisson, at most 3)."""
    filler: float
    """Mean number of courtesy sentences (Poisson, at most 4)."""
    repeated: float
    """Probability that one sentence is said again."""


AGENTS = (Agent(0.9, 0.3, 0.8, 0.03), Agent(0.25, 0.9, 0.9, 0.07))
"""A careful and a careless agent; each answer is by one of them, drawn by chance."""


class Texts(NamedTuple):
    """The sentences of the world, from support_intents.yaml."""

    products: list[str]
    openings: list[str]
    closings: list[str]
    filler: list[str]
    messages: dict[str, list[str]]
    facts: dict[str, list[list[str]]]
    """intent -> three facts -> wordings."""


class Counts(NamedTuple):
    """What an answer holds, as gold counts it."""

    facts: int
    wrong: int
    filler: int
    repeated: int


@functools.cache
def texts() -> Texts:
    """Read support_intents.yaml."""
    raw = yaml.safe_load(Path(__file__).with_name("support_intents.yaml").read_text(encoding="utf-8"))
    intents = raw.pop("intents")
    return Texts(
        **raw,
        messages={name: intent["messages"] for name, intent in intents.items()},
        facts={name: intent["facts"] for name, intent in intents.items()},
    )


def intent_of(prompt: str) -> str:
    """The intent of a customer message of this world. Raises DataError for any other text."""
    for intent, pattern in _message_patterns().items():
        if pattern.search(prompt):
            return intent
    raise DataError(f"not a message of the support world: {prompt!r}; gold helpfulness is known only there")


def count(prompt: str, response: str) -> Counts:
    """Count facts, wrong facts, filler and repetitions of ``response`` as an answer to ``prompt``."""
    intent = intent_of(prompt)
    statements = _statements()
    seen: set[object] = set()
    facts = wrong = filler = repeated = 0
    for sentence in re.split(r"(?<=[.!?])\s+", response.strip()):
        key = _normal(sentence)
        if not key:
            continue
        meaning = statements.get(key)
        identity: object = meaning if meaning is not None else key
        if identity in seen:
            repeated += 1
        elif meaning is None:
            filler += 1
        elif meaning[0] == intent:
            facts += 1
        else:
            wrong += 1
        seen.add(identity)
    return Counts(facts, wrong, filler, repeated)


def gold(prompt: str, response: str) -> float:
    """Gold helpfulness in [-1, 1] of ``response`` to ``prompt``; the formula is at the top of this module.

    Raises DataError when ``prompt`` is not a message of this world.
    """
    counts = count(prompt, response)
    value = counts.facts / 3 - counts.wrong / 3 - counts.filler / 5 - counts.repeated / 4
    return float(np.clip(value, -1.0, 1.0))


def sample_prompts(world: World, rng: np.random.Generator) -> list[str]:
    """``world.prompts`` distinct customer messages, each intent equally likely."""
    world_texts = texts()
    intents = sorted(world_texts.messages)
    prompts: dict[str, None] = {}
    while len(prompts) < world.prompts:
        message = rng.choice(world_texts.messages[str(rng.choice(intents))])
        order = f"{rng.choice(list('ABCDEFGH'))}{rng.integers(100, 1000)}"
        body = str(message).format(product=rng.choice(world_texts.products), order=order)
        prompts[f"{rng.choice(world_texts.openings)}{body}{rng.choice(world_texts.closings)}"] = None
    return list(prompts)


def sample_answer(intent: str, rng: np.random.Generator) -> str:
    """An answer by one of the AGENTS."""
    world_texts = texts()
    agent = AGENTS[int(rng.integers(len(AGENTS)))]
    body = [str(rng.choice(fact)) for fact in world_texts.facts[intent] if rng.random() < agent.covered]
    others = [name for name in sorted(world_texts.facts) if name != intent]
    for _ in range(min(int(rng.poisson(agent.wrong)), 3)):
        fact = world_texts.facts[str(rng.choice(others))][int(rng.integers(3))]
        body.insert(int(rng.integers(len(body) + 1)), str(rng.choice(fact)))
    for sentence in rng.choice(world_texts.filler, size=min(int(rng.poisson(agent.filler)), 4), replace=False):
        body.insert(int(rng.integers(len(body) + 1)), str(sentence))
    if not body:
        body = [str(rng.choice(world_texts.filler))]
    if rng.random() < agent.repeated:
        body.insert(int(rng.integers(len(body) + 1)), body[int(rng.integers(len(body)))])
    return " ".join(body)


def synthesise(world: World) -> Iterator[dict[str, Any]]:
    """Yield preference rows: prompt, chosen, rejected, annotator, created_at. Same ``world``, same rows.

    Prompts and answers come from one random stream and labels from another, so that worlds which differ only in the
    annotators hold the same answers.
    """
    rng, label_rng = (np.random.default_rng([world.seed, stream]) for stream in (0, 1))
    biases = label_rng.normal(world.length_bias, world.length_bias_spread, size=world.annotators)
    serial = 0
    for prompt in sample_prompts(world, rng):
        intent = intent_of(prompt)
        for _ in range(world.pairs_per_prompt):
            first, second = sample_answer(intent, rng), sample_answer(intent, rng)
            while second == first:
                second = sample_answer(intent, rng)
            annotator = int(label_rng.integers(world.annotators))
            logit = world.gold_weight * (gold(prompt, first) - gold(prompt, second))
            logit += biases[annotator] * (len(first.split()) - len(second.split())) / 10
            if label_rng.random() >= 1 / (1 + np.exp(-logit)):
                first, second = second, first
            day = np.datetime64("2026-01-05") + serial * 90 // (world.prompts * world.pairs_per_prompt)
            serial += 1
            yield {
                "prompt": prompt,
                "chosen": first,
                "rejected": second,
                "annotator": f"annotator-{annotator:02d}",
                "created_at": f"{day}T00:00:00Z",
            }


def write_world(world: World, path: Path) -> int:
    """Write the rows of :func:`synthesise` to ``path`` (.jsonl.gz), the same bytes every time; return their number."""
    rows = 0
    with (
        atomic_file(path) as temporary,
        temporary.open("wb") as raw,
        # No file name and no time in the header, or the hash would change with every run.
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8", newline="\n") as text,
    ):
        for row in synthesise(world):
            text.write(json.dumps(row, ensure_ascii=False) + "\n")
            rows += 1
    return rows


def _normal(sentence: str) -> str:
    return " ".join(re.sub(r"[^a-z0-9 ]", " ", sentence.lower()).split())


@functools.cache
def _statements() -> dict[str, tuple[str, int]]:
    """Normalised sentence -> (intent, number of the fact)."""
    return {
        _normal(wording): (intent, number)
        for intent, facts in texts().facts.items()
        for number, fact in enumerate(facts)
        for wording in fact
    }


@functools.cache
def _message_patterns() -> dict[str, re.Pattern[str]]:
    slots = {"product": "|".join(texts().products), "order": r"[A-H]\d{3}"}
    patterns = {}
    for intent, messages in texts().messages.items():
        escaped = [re.escape(message) for message in messages]
        for slot, values in slots.items():
            escaped = [text.replace(re.escape(f"{{{slot}}}"), f"(?:{values})") for text in escaped]
        patterns[intent] = re.compile("|".join(escaped))
    return patterns
