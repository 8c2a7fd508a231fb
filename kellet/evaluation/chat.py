"""A chat with a policy and its reference: both answer every message, and what they say stands side by side.

The reference is the policy's own base model with the adapter off (kellet/models/trunk.py). Blind, the two are called A and B
in an order drawn for each message, and whoever reads says which is better before the names are told.
"""

import random
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from kellet.config.training import Text
from kellet.data.conversation import Messages, to_prompt
from kellet.evaluation.evaluate import stream_seed
from kellet.models.sampling import generate_text
from kellet.models.trunk import POLICY, playing

Read = Callable[[str], str]
"""Gives the next line after showing this text; raises EOFError at the end."""
Say = Callable[[str], None]

REFERENCE = "reference"
VOTES = ("a", "b", "tie")


class Chat:
    """A policy (adapter of ``model``) and its reference, and what each has said so far.

    Greedy when ``seed`` is None, else sampled: the same seed and messages give the same answers. As a ``conversation``
    each system reads the messages so far with its own answers; otherwise every message is a prompt by itself.
    """

    def __init__(
        self, model: Any, tokenizer: Any, text: Text, policy: str, seed: int | None = None, conversation: bool = False
    ) -> None:
        self.model, self.tokenizer, self.text, self.seed, self.conversation = model, tokenizer, text, seed, conversation
        self.systems: dict[str, str | None] = {policy: POLICY, REFERENCE: None}
        self.turns = 0
        self.said: dict[str, Messages] = {}
        self.forget()

    def forget(self) -> None:
        """Begin a new conversation."""
        self.said = {system: [] for system in self.systems}

    def ask(self, message: str) -> dict[str, str]:
        """Each system's answer, the policy's first."""
        self.turns += 1
        answers = {}
        for system, adapter in self.systems.items():
            heard = [*self.said[system], {"role": "user", "content": message}]
            prompt = to_prompt(heard) if self.conversation else message
            seed = None if self.seed is None else stream_seed(self.seed, f"{system} {self.turns}")
            with playing(self.model, adapter):
                (answers[system],) = generate_text(self.model, self.tokenizer, [prompt], self.text, seed)
            self.said[system] = [*heard, {"role": "assistant", "content": answers[system]}]
        return answers


def talk(chat: Chat, read: Read, say: Say, width: int | None) -> None:
    """Answer messages until the input ends; empty lines are passed over, ``/new`` begins a new conversation.

    ``width``: characters of the terminal; None writes one answer below the other, for files and pipes.
    """
    while (message := _next(read, "> ")) is not None:
        if message == "/new":
            chat.forget()
        elif message:
            say(beside(chat.ask(message), width))


def talk_blind(chat: Chat, read: Read, say: Say, width: int | None) -> Counter[str]:
    """As :func:`talk`, but the answers are called A and B, and after each pair a vote is read: a, b or tie.

    Any other line passes. The names are told after the vote. Gives the votes by system, and for ``tie``.
    """
    order, votes = random.Random(f"blind {chat.seed}"), Counter[str]()  # noqa: S311  # a coin, no secret
    while (message := _next(read, "> ")) is not None:
        if message == "/new":
            chat.forget()
        if message in ("", "/new"):
            continue
        answers = chat.ask(message)
        names = order.sample(list(answers), k=2)
        say(beside({"A": answers[names[0]], "B": answers[names[1]]}, width))
        vote = (_next(read, "better: a, b or tie? ") or "").lower()
        if vote in VOTES:
            votes["tie" if vote == "tie" else names[VOTES.index(vote)]] += 1
        say(f"A was the {names[0]}, B the {names[1]}" + ("" if vote in VOTES else "; not counted"))
    return votes


def beside(answers: dict[str, str], width: int | None) -> str:
    """Two named texts in two columns of a terminal ``width`` wide, or one below the other when it is None."""
    texts = {name: printable(answer) or "(nothing)" for name, answer in answers.items()}
    if width is None:
        return "\n".join(f"{name}: " + text.replace("\n", "\n  ") for name, text in texts.items())
    column = max(20, (width - 3) // 2)
    left, right = ([name, "-" * min(len(name), column), *_wrapped(text, column)] for name, text in texts.items())
    rows = max(len(left), len(right))
    return "\n".join(
        f"{a:<{column}} | {b}".rstrip() for a, b in zip(_filled(left, rows), _filled(right, rows), strict=True)
    )


def printable(text: str) -> str:
    """``text`` with control characters spelled out: an answer must not move the cursor or colour the terminal."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _wrapped(text: str, width: int) -> list[str]:
    return [line for part in text.split("\n") for line in textwrap.wrap(part, width) or [""]]


def _filled(lines: Sequence[str], rows: int) -> list[str]:
    return [*lines, *[""] * (rows - len(lines))]


def _next(read: Read, prompt: str) -> str | None:
    """The next line without white space around it; None at the end of the input."""
    try:
        return read(prompt).strip()
    except EOFError:
        return None
