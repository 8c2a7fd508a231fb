r"""Conversations as they are stored: lists of messages, each with role and content, in TRL's conversational format.

The column ``prompt`` holds text. A conversation is stored in it as JSON, ``[{"role": "user", "content": "Hi"}, …]``,
so that nothing is lost until a tokenizer is at hand: :func:`kellet.models.tokens.encode_prompt` renders it with the
tokenizer's chat template. One with definitions of tools is ``{"messages": […], "tools": […]}``. Without a template,
and for people, it is written out as in hh-rlhf (:func:`as_text`): ``\n\nHuman: …\n\nAssistant: …\n\nAssistant:``.
How files of other tools are read is in kellet/data/messages.py.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kellet.data.messages import Messages, as_messages, conversation_of, left_out
from kellet.data.tool_calls import as_tools

__all__ = ["Messages", "as_messages", "as_tools", "left_out"]
SPEAKERS = {"user": "Human", "assistant": "Assistant"}
FIELDS = ("role", "content", "tool_calls", "tool_call_id", "name")
"""What is stored of a message, in this order; the last three where they are needed for a call of a tool."""
_START, _WITH_TOOLS = '[{"role": "', '{"messages": [{"role": "'


def to_prompt(messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> str:
    """The messages, as :func:`as_messages` gives them, as the text that is stored in the column ``prompt``."""
    plain = [
        {name: message[name] for name in FIELDS if name in message and (name in FIELDS[:2] or message[name])}
        for message in messages
    ]
    return json.dumps({"messages": plain, "tools": list(tools)} if tools else plain, ensure_ascii=False)


def prompt_of(value: Any, tools: Any = None) -> str | None:
    """The stored prompt of a conversation as files hold it (:func:`as_messages`); None when ``value`` is none.

    ``tools``: the definitions of tools that stand in a column beside it, if any. Raises ValueError as as_messages does,
    and when the tools are no definitions.
    """
    found = conversation_of(value, tools)
    return None if found is None else to_prompt(*found)


def answer_of(message: Mapping[str, Any]) -> str:
    """The text of an answer. Raises ValueError when it calls a tool: its text alone would be compared and scored."""
    if message.get("tool_calls"):
        names = ", ".join(repr(call["function"]["name"]) for call in message["tool_calls"])
        raise ValueError(f"the answer calls a tool ({names}), which cannot be scored as text; take such rows out")
    return str(message["content"])


def messages_of(prompt: str) -> Messages | None:
    """The messages of a prompt that :func:`to_prompt` made; None for any other text."""
    return _stored(prompt)[0]


def tools_of(prompt: str) -> list[dict[str, Any]]:
    """The definitions of tools of a prompt that :func:`to_prompt` made; [] where there are none."""
    return _stored(prompt)[1]


def as_text(prompt: str) -> str:
    r"""A conversation written out, up to ``\n\nAssistant:``; any other prompt as it is.

    A system message stands first, without a name; other roles are named by their word. Definitions of tools stand
    before it, calls after the words of their message.
    """
    messages, tools = _stored(prompt)
    if messages is None:
        return prompt
    text = ""
    for message in messages:
        role = message["role"]
        name = SPEAKERS.get(role, role.capitalize()) + (f" ({message['name']})" if message.get("name") else "")
        text += _said(message) if role == "system" and not text else f"\n\n{name}: {_said(message)}"
    known = "".join(f"Tool: {json.dumps(tool.get('function', tool), ensure_ascii=False)}\n" for tool in tools)
    return (f"{known}\n" if known and not text.startswith("\n") else known) + text + "\n\nAssistant:"


def from_text(text: str) -> Messages | None:
    """The messages of a dialogue that is written out as :func:`as_text` does; None for any other text."""
    parts = re.split(r"\n\n(Human|Assistant): ?", text)
    names = {name: role for role, name in SPEAKERS.items()}
    said = list(zip(parts[1::2], parts[2::2], strict=True))
    messages: Messages = [{"role": names[name], "content": content} for name, content in said[:-1]]
    if messages and parts[0]:
        messages.insert(0, {"role": "system", "content": parts[0]})
    return messages if messages and as_text(to_prompt(messages)) == text else None


def last_message(prompt: str) -> str:
    """What the last message says, calls of tools included; any other prompt as it is."""
    messages = messages_of(prompt)
    return prompt if messages is None else _said(messages[-1])


def _stored(prompt: str) -> tuple[Messages | None, list[dict[str, Any]]]:
    """(messages, tools) of a stored prompt. A text that only begins like one is a text."""
    if not prompt.startswith((_START, _WITH_TOOLS)):
        return None, []
    try:
        value = json.loads(prompt)
    except (ValueError, RecursionError):
        return None, []
    messages, tools = (value.get("messages"), value.get("tools", [])) if isinstance(value, dict) else (value, [])
    sound = isinstance(messages, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) and isinstance(message.get("content"), str)
        for message in messages
    )
    return (messages, tools) if sound and messages else (None, [])


def _said(message: Mapping[str, Any]) -> str:
    calls = [call["function"] for call in message.get("tool_calls", ())]
    written = [f"[{call['name']}({json.dumps(call['arguments'], ensure_ascii=False)})]" for call in calls]
    return "\n".join([*([message["content"]] if message["content"] or not written else []), *written])
