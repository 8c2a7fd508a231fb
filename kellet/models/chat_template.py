"""A conversation as the tokenizer's chat template writes it, with nothing left out.

Templates are programs of the models' makers, and many write less than they are given: some know no system message, some
no tools, some cut reasoning out of earlier answers. So what each message says, the name and the arguments of each call
and the name of each tool must be found in what is rendered. White space does not count, because templates trim.

It is looked for twice: the texts themselves, for each prompt; and marks in their place that stand nowhere else, once
for each shape of a conversation, so that a short text that stands in the template by chance hides nothing.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from itertools import count
from typing import Any

from jinja2 import TemplateError

from kellet.data.conversation import Messages, messages_of, tools_of
from kellet.errors import DataError

REFUSALS = (
    *(TemplateError, TypeError, ValueError, LookupError, AttributeError),
    *(ArithmeticError, MemoryError, RecursionError),
)
"""What a template raises that cannot write a conversation, on purpose or not."""
WAYS_OUT = "use a template that writes it, put it into a message that the template writes, or take such rows out"
Tools = list[dict[str, Any]]
Piece = tuple[str, str]
"""(where it stands, in words; a text that must appear)."""


def render(tokenizer: Any, prompt: str, whole: bool = True) -> str:
    """The template's text of a stored conversation, up to where the assistant's answer begins.

    Text that spells a special token gets a space after its first character. Where the template refuses a system
    message, it is put in front of the message after it; where it refuses arguments as an object, they are given as
    JSON. Raises DataError when the template refuses all that, or, with ``whole``, leaves out what a message says.
    """
    # text that spells a special token must not become that token
    special = {token: f"{token[0]} {token[1:]}" for token in tokenizer.all_special_tokens if len(token) > 1}
    messages = _mapped(messages_of(prompt) or [], lambda text: _replaced(text, special))
    tools = _mapped(tools_of(prompt), lambda text: _replaced(text, special))
    refused: dict[str, None] = {}
    for change in _changes(messages):
        text = _apply(tokenizer, change(messages), tools, refused)
        if text is None:
            continue
        if not whole:
            return text
        marked = json.dumps(_marked(messages, tools))
        missing = _missing_of_shape(tokenizer, str(tokenizer.chat_template), marked, change)
        missing = missing or _missing(_pieces(messages, tools), text)
        if missing is not None:
            raise DataError(
                f"the tokenizer's chat template leaves out {missing}, or a part of it, in the prompt that begins "
                f"{prompt[:80]!r}; {WAYS_OUT}"
            )
        return text
    roles = ", ".join(message["role"] for message in messages)
    raise DataError(
        f"the tokenizer's chat template refuses a prompt of {roles}: {'; '.join(refused)}; take such rows out "
        f"(the prompt begins {prompt[:80]!r})"
    )


def _apply(tokenizer: Any, messages: Messages, tools: Tools, refused: dict[str, None]) -> str | None:
    """The rendered text; None when the template refuses, with its reason added to ``refused``."""
    given = {"tools": tools} if tools else {}
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **given))
    except REFUSALS as error:
        refused[str(error)] = None
        return None


def _changes(messages: Messages) -> list[Callable[[Messages], Messages]]:
    """What is tried in turn: the messages as they are, then in the forms that some templates want."""
    system = messages[0]["role"] == "system" and len(messages) > 1
    calls = any("tool_calls" in message for message in messages)
    either = [_as_they_are, *([_arguments_as_json] if calls else [])]
    return [*either, *([_system_in_front, _system_and_arguments] if system and calls else [_system_in_front] * system)]


def _as_they_are(messages: Messages) -> Messages:
    return messages


def _system_in_front(messages: Messages) -> Messages:
    system, first, *rest = messages
    return [first | {"content": f"{system['content']}\n\n{first['content']}"}, *rest]


def _arguments_as_json(messages: Messages) -> Messages:
    """Arguments of calls as JSON in a text: DeepSeek's templates want it so."""

    def written(call: Mapping[str, Any]) -> dict[str, Any]:
        function = call["function"]
        arguments = json.dumps(function["arguments"], ensure_ascii=False)
        return {**call, "function": function | {"arguments": arguments}}

    return [
        message | {"tool_calls": [written(call) for call in message["tool_calls"]]}
        if "tool_calls" in message
        else message
        for message in messages
    ]


def _system_and_arguments(messages: Messages) -> Messages:
    return _arguments_as_json(_system_in_front(messages))


@lru_cache(maxsize=256)
def _missing_of_shape(
    tokenizer: Any,
    template: str,  # noqa: ARG001 - part of the key: a tokenizer may get another template
    marked: str,
    change: Callable[[Messages], Messages],
) -> str | None:
    """What the template leaves out of a conversation of marks; None also where it refuses marks."""
    messages, tools = json.loads(marked)
    text = _apply(tokenizer, change(messages), tools, {})
    return None if text is None else _missing(_pieces(messages, tools), text)


def _missing(pieces: Iterator[Piece], text: str) -> str | None:
    """Where the first piece stands that is not in ``text``: white space apart, as it is or escaped (JSON, Python)."""
    squeezed = _squeezed(text)
    for where, said in pieces:
        if _squeezed(said) not in squeezed and not any(_squeezed(form) in squeezed for form in _escaped(said)):
            return where
    return None


def _pieces(messages: Messages, tools: Tools) -> Iterator[Piece]:
    for number, tool in enumerate(tools, 1):
        yield f"definition {number} of {len(tools)} of a tool", str(tool["function"]["name"])
    for number, message in enumerate(messages, 1):
        where = f"message {number} of {len(messages)} ({message['role']})"
        yield where, message["content"]
        for call in message.get("tool_calls", ()):
            for text in (call["function"]["name"], *_leaves(call["function"]["arguments"])):
                yield f"a tool's call in {where}", text


def _leaves(value: Any) -> Iterator[str]:
    """The names and texts in arguments, and their numbers as JSON writes them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)


def _marked(messages: Messages, tools: Tools) -> tuple[Messages, Tools]:
    """The same shape with a mark of its own for each text; ids of calls have nine characters, as Mistral wants them."""
    marks = (f"mark{number:04d}of{number:04d}" for number in count())
    ids: dict[str, str] = {}
    marked = []
    for message in messages:
        new = message | {"content": next(marks) if message["content"].strip() else ""}
        new |= {"name": next(marks)} if "name" in message else {}
        new |= _marked_id(message, "tool_call_id", ids)
        if "tool_calls" in message:
            new["tool_calls"] = [
                call
                | _marked_id(call, "id", ids)
                | {"function": {"name": next(marks), "arguments": _marked_value(call["function"]["arguments"], marks)}}
                for call in message["tool_calls"]
            ]
        marked.append(new)
    return marked, [tool | {"function": tool["function"] | {"name": next(marks)}} for tool in tools]


def _marked_id(message: Mapping[str, Any], key: str, ids: dict[str, str]) -> dict[str, str]:
    return {key: ids.setdefault(message[key], f"callid{len(ids):03d}")} if key in message else {}


def _marked_value(value: Any, marks: Iterator[str]) -> Any:
    if isinstance(value, dict):
        return {next(marks): _marked_value(inner, marks) for inner in value.values()}
    if isinstance(value, list):
        return [_marked_value(inner, marks) for inner in value]
    if isinstance(value, str) and value.strip():
        return next(marks)
    return 7340017 if isinstance(value, int | float) and not isinstance(value, bool) else value


def _escaped(text: str) -> Iterator[str]:
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield json.dumps(text)[1:-1]
    yield repr(text)[1:-1]


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """Each text in the value changed, the names of fields too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_mapped(inner, change) for inner in value]
    if isinstance(value, dict):
        return {change(key): _mapped(inner, change) for key, inner in value.items()}
    return value


def _replaced(text: str, replacements: Mapping[str, str]) -> str:
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text
