"""A chat with a policy and its reference: both answer every message, and their answers are shown side by side.

The reference is the policy's base model with the adapter switched off (kellet/models/trunk.py). In a blind chat the two
are called A and B, in an order drawn for each message, and the reader votes before the names are revealed.
"""

import random
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from kellet.config.training import Text
from kellet.data.conversation import Messages, to_prompt
from kellet.models.sampling import generate_text
from kellet.models.seeds import derived_seed
from kellet.models.trunk import POLICY, use_adapter

Read = Callable[[str], str]
"""Shows a prompt and returns the next line of the input; raises EOFError at its end."""
Show = Callable[[str], None]

REFERENCE = "reference"
VOTES = ("a", "b", "tie")


class Chat:
    """A policy (an adapter of ``model``) and its reference, with the messages of each so far.

    Answers are greedy when ``seed`` is None, else sampled: the same seed and messages give the same answers. In a
    ``conversation`` each system reads all messages so far, with its own answers among them; otherwise every message is
    a prompt by itself.
    """

    def __init__(
        self, model: Any, tokenizer: Any, text: Text, policy: str, seed: int | None = None, conversation: bool = False
    ) -> None:
        self.model, self.tokenizer, self.text, self.seed, self.conversation = model, tokenizer, text, seed, conversation
        self.systems: dict[str, str | None] = {policy: POLICY, REFERENCE: None}
        self.turns = 0
        self.messages: dict[str, Messages] = {}
        self.forget()

    def forget(self) -> None:
        """Begin a new conversation."""
        self.messages = {system: [] for system in self.systems}

    def ask(self, message: str) -> dict[str, str]:
        """Each system's answer, the policy's first."""
        self.turns += 1
        answers = {}
        for system, adapter in self.systems.items():
            messages = [*self.messages[system], {"role": "user", "content": message}]
            prompt = to_prompt(messages) if self.conversation else message
            seed = None if self.seed is None else derived_seed(self.seed, f"{system} {self.turns}")
            with use_adapter(self.model, adapter):
                # templates that cut reasoning out of earlier answers do so wherever their model is served
                (answers[system],) = generate_text(self.model, self.tokenizer, [prompt], self.text, seed, whole=False)
            self.messages[system] = [*messages, {"role": "assistant", "content": answers[system]}]
        return answers


def talk(chat: Chat, read: Read, show: Show, width: int | None) -> None:
    """Answer messages until the input ends; empty lines are skipped, ``/new`` begins a new conversation.

    ``width`` is the terminal's in characters; None writes one answer below the other, for files and pipes.
    """
    while (message := _line(read, "> ")) is not None:
        if message == "/new":
            chat.forget()
        elif message:
            show(side_by_side(chat.ask(message), width))


def talk_blind(chat: Chat, read: Read, show: Show, width: int | None) -> Counter[str]:
    """As :func:`talk`, but the answers are called A and B, and after each pair a vote is read: a, b or tie.

    The names are revealed after the vote; any other line is not counted. Returns the votes by system and for ``tie``.
    """
    order, votes = random.Random(f"blind {chat.seed}"), Counter[str]()  # noqa: S311  # a coin, no secret
    while (message := _line(read, "> ")) is not None:
        if message == "/new":
            chat.forget()
        if message in ("", "/new"):
            continue
        answers = chat.ask(message)
        names = order.sample(list(answers), k=2)
        show(side_by_side({"A": answers[names[0]], "B": answers[names[1]]}, width))
        vote = (_line(read, "better: a, b or tie? ") or "").lower()
        if vote in VOTES:
            votes["tie" if vote == "tie" else names[VOTES.index(vote)]] += 1
        show(f"A was the {names[0]}, B the {names[1]}" + ("" if vote in VOTES else "; not counted"))
    return votes


def side_by_side(answers: dict[str, str], width: int | None) -> str:
    """Two named texts in two columns of a terminal ``width`` characters wide; one below the other when it is None."""
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
    """Escape control characters: an answer must not move the cursor or colour the terminal."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else letter.encode("unicode_escape").decode()
        for letter in text
    )


def _wrapped(text: str, width: int) -> list[str]:
    return [line for part in text.split("\n") for line in textwrap.wrap(part, width) or [""]]


def _filled(lines: Sequence[str], rows: int) -> list[str]:
    return [*lines, *[""] * (rows - len(lines))]


def _line(read: Read, prompt: str) -> str | None:
    """The next line of the input, stripped; None at its end."""
    try:
        return read(prompt).strip()
    except EOFError:
        return None
