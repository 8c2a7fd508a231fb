r"""Conversations: lists of messages, each with role and content, as TRL's conversational format has them.

The column ``prompt`` holds text. A conversation is stored in it as JSON, ``[{"role": "user", "content": "Hi"}, …]``,
so that nothing is lost until a tokenizer is at hand: :func:`kellet.models.tokens.encode_prompt` renders it with the
tokenizer's chat template. Without a template, and for people, it is written out as in hh-rlhf (:func:`as_text`):
``\n\nHuman: …\n\nAssistant: …\n\nAssistant:``.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

Messages = list[dict[str, str]]
SPEAKERS = {"user": "Human", "assistant": "Assistant"}
_START = '[{"role": "'


def to_prompt(messages: Sequence[Mapping[str, str]]) -> str:
    """The messages as the text that is stored in the column ``prompt``."""
    plain = [{"role": message["role"], "content": message["content"]} for message in messages]
    return json.dumps(plain, ensure_ascii=False)


def messages_of(prompt: str) -> Messages | None:
    """The messages of a prompt that :func:`to_prompt` made; None for any other text."""
    return as_messages(prompt) if prompt.startswith(_START) else None


def as_messages(value: Any) -> Messages | None:
    """A list of messages, or the JSON of one (as CSV files hold it); None when it is neither.

    Content in parts is joined where all parts are text. Raises ValueError when a message has no text.
    """
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if not isinstance(value, list) or not value:
        return None
    if not all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in value):
        return None
    return [{"role": message["role"], "content": _content(message.get("content"))} for message in value]


def as_text(prompt: str) -> str:
    r"""A conversation written out, up to ``\n\nAssistant:``; any other prompt as it is.

    A system message stands first, without a name; other roles are named by their word.
    """
    messages = messages_of(prompt)
    if messages is None:
        return prompt
    text = ""
    for message in messages:
        role = message["role"]
        name = SPEAKERS.get(role, role.capitalize())
        text += message["content"] if role == "system" and not text else f"\n\n{name}: {message['content']}"
    return text + "\n\nAssistant:"


def last_message(prompt: str) -> str:
    """The content of the last message; any other prompt as it is."""
    messages = messages_of(prompt)
    return prompt if messages is None else messages[-1]["content"]


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return "".join(part["text"] for part in content)
    raise ValueError(f"a message's content is {type(content).__name__}, wanted a text")
