"""Messages as other tools write them, read into one form: role, content, and what a call of a tool needs.

Roles and fields have many names; each that is understood stands in ``ROLES``, ``ROLE_KEYS`` and ``CONTENT_KEYS``:
- OpenAI and TRL: role and content, content in parts, tool_calls, function_call, tool_call_id;
- ShareGPT and LLaMA-Factory: from and value, human, gpt, function_call, observation;
- OASST: role and text, prompter; LangChain: type and content, human, ai; Claude's export: sender and text.
Sources: LLaMA-Factory ``data/README.md`` (tags), LangChain ``messages_to_dict``, OASST's export. Calls of tools are in
kellet/data/tool_calls.py. A field of a message is used, or one of ``IGNORED``, or the row is refused.
"""

import re
from collections.abc import Mapping
from typing import Any

from kellet.data.tool_calls import CALL_KEYS, absent, as_tools, calls_of, parse, quoted, short, written_calls

Messages = list[dict[str, Any]]
ROLES = {
    "user": ("user", "human", "prompter", "customer", "client"),
    "assistant": ("assistant", "gpt", "bot", "model", "chatbot", "ai", "agent", "chatgpt", "bing", "bard"),
    "system": ("system", "developer"),
    "tool": ("tool", "function", "observation", "ipython", "tool_response", "function_response", "tool_result"),
}
"""Role -> what it is called, in any capitals. A developer message is what OpenAI calls a system message now."""
_ROLE = {name: role for role, names in ROLES.items() for name in names}
CALL_ROLES = ("function_call", "tool_call")
"""Roles of a message whose text is the JSON of a call: the assistant's."""
ROLE_KEYS = ("role", "from", "speaker", "author", "sender")
CONTENT_KEYS = ("content", "value", "text", "message")
IGNORED = frozenset(
    re.findall(
        r"\w+",
        "weight name id message_id parent_id parent_message_id message_tree_id conversation_id turn turn_id index idx "
        "type timestamp time date created_at created_date create_time updated_at update_time lang language model "
        "model_name user_id train trainable training loss loss_mask masked score rank labels emojis detoxify "
        "review_count review_result synthetic source metadata response_metadata usage_metadata usage status end_turn "
        "finish_reason stop_reason token_count tokens logprobs prefix loss_weight",
    )
)
"""Fields beside a message's text that say nothing to a model; :func:`left_out` names those that a value has."""
TEXT_PARTS = (None, "text", "input_text", "output_text")
_LIST = re.compile(r"\s*(\[\s*\{|\{\s*['\"]messages['\"])")
_LOOKS = re.compile(
    rf"\s*\[\s*\{{.*['\"]({'|'.join(ROLE_KEYS)})['\"]\s*:\s*['\"]({'|'.join(_ROLE)})['\"]", re.DOTALL | re.IGNORECASE
)


def as_messages(value: Any) -> Messages | None:
    """A list of messages, or the text of one as CSV files hold it (JSON, or as Python writes it); None if neither.

    An object with ``messages`` stands for its list. Each message has role (user, assistant, system, tool) and content;
    an assistant's may have tool_calls, a tool's name and tool_call_id. Raises ValueError, with the number of the
    message, when one has no text, an unknown role, or a field that is neither understood nor known to be harmless.

    A text may be JSON and no conversation, as answers are to who asks for some: one of its messages has to have a role
    that is known, or ``role`` and ``content``.
    """
    found = _conversation(value)
    if found is None:
        return None
    messages, tools = found
    if tools:
        raise ValueError("the conversation holds tool definitions, which have no place here")
    return messages


def conversation_of(value: Any, tools: Any = None) -> tuple[Messages, list[dict[str, Any]]] | None:
    """(messages, tool definitions) of a conversation; ``tools`` are those that stand beside it, in a column."""
    found = _conversation(value)
    if found is None:
        return None
    messages, inside = found
    beside = as_tools(tools)
    if inside and beside and inside != beside:
        raise ValueError("the conversation and the column beside it define different tools")
    return messages, inside or beside


def left_out(value: Any) -> set[str]:
    """The fields of a conversation's messages that have a value and are ignored; empty for what as_messages refuses."""
    try:
        found = _list_of(value) if _conversation(value) else None
    except ValueError:
        return set()
    fields: set[str] = set()
    for message in found[0] if found is not None else ():
        role, role_key = _role(message, 0)
        used = {role_key, "type", *(["name"] if role == "tool" else [])}
        beside = (IGNORED | set(ROLE_KEYS)) - used
        fields |= {key for key, field in _fields(message).items() if key in beside and not absent(field)}
    return fields


def _conversation(value: Any) -> tuple[Messages, list[dict[str, Any]]] | None:
    found = _list_of(value)
    if found is None:
        return None
    messages, tools = found
    if not any(_is_message(message) for message in messages):
        return None
    return [_message(message, number) for number, message in enumerate(messages, 1)], as_tools(tools)


def _list_of(value: Any) -> tuple[list[Any], Any] | None:
    """(the messages as they came, tool definitions beside them) of a value that could be a conversation."""
    text = value if isinstance(value, str) else ""
    if text:
        value = parse(text) if _LIST.match(text) else None
        if value is None and _LOOKS.match(text):
            raise ValueError(f"looks like messages, but is neither JSON nor what Python writes: {short(text)}")
        if isinstance(value, list) and not any(_is_meant(message) for message in value):
            return None
    tools = None
    if isinstance(value, dict) and isinstance(value.get("messages"), list):
        others = {key for key, field in value.items() if not absent(field)} - {"messages", "tools"} - IGNORED
        if others - {"parallel_tool_calls"}:
            raise ValueError(f"the conversation has {quoted(others)} beside messages, which cannot be used")
        tools, value = value.get("tools"), value["messages"]
    return (value, tools) if isinstance(value, list) and value else None


def _message(message: Any, number: int) -> dict[str, Any]:
    if _is_ordinary(message):
        return {"role": message["role"], "content": message["content"]}
    if not _is_message(message):
        raise ValueError(f"message {number} has no role and text: {short(message)}")
    fields = _fields(message)
    role, role_key = _role(message, number)
    where = f"message {number} ({role})"
    content_key = next((key for key in CONTENT_KEYS if fields.get(key) not in (None, "", [])), None)
    content = "" if content_key is None else _text(fields[content_key], where)
    calls = calls_of(fields, where) if role == "assistant" else []
    if role in CALL_ROLES:
        role, calls, content = "assistant", written_calls(content, where), ""
    if content_key is None and not calls and all(fields.get(key) is None for key in CONTENT_KEYS):
        raise ValueError(f"{where} has no text: its content is NoneType")
    used = {role_key, content_key, *(CALL_KEYS if calls else ())}
    kept: dict[str, Any] = {"role": role, "content": content}
    kept |= {"tool_calls": calls} if calls else {}
    for key in ("tool_call_id", "name") if role == "tool" else ():
        used.add(key)
        said = "" if absent(fields.get(key)) else _text(fields[key], where)
        kept |= {key: said} if said else {}
    _account(fields, used, content, where)
    return kept


def _account(fields: Mapping[str, Any], used: set[str | None], content: str, where: str) -> None:
    """Raise ValueError when a field with a value is neither used nor known to be harmless."""
    rest = {key for key, field in fields.items() if key not in used and key not in IGNORED and not absent(field)}
    said_twice = {key for key in rest & set(CONTENT_KEYS) if fields[key] == content}
    names = {key for key in rest & set(ROLE_KEYS) if isinstance(fields[key], str)}
    meant = {None, *(_known(fields[key]) for key in ROLE_KEYS if key in used)}
    speakers = {key for key in names if _known(fields[key]) in meant}
    rest -= said_twice | speakers
    if rest:
        raise ValueError(
            f"{where} has {quoted(rest)} beside its text, which would be lost: write it into the text, or take it out"
        )


def _is_ordinary(message: Any) -> bool:
    """Whether a message is as it is stored: nearly all are, and nothing else of them has to be looked at."""
    return (
        isinstance(message, dict)
        and message.keys() == {"role", "content"}
        and isinstance(message["role"], str)
        and message["role"] in ROLES
        and isinstance(message["content"], str)
    )


def _is_message(message: Any) -> bool:
    if _is_ordinary(message):
        return True
    if not isinstance(message, Mapping):
        return False
    fields = _fields(message)
    has_text = any(key in fields for key in (*CONTENT_KEYS, *CALL_KEYS))
    return has_text and (any(key in fields for key in ROLE_KEYS) or _known(fields.get("type")) is not None)


def _is_meant(message: Any) -> bool:
    """Whether an object in a text is a message rather than data with fields of such names."""
    if not _is_message(message):
        return False
    fields = _fields(message)
    said = any(_known(fields.get(key)) is not None for key in (*ROLE_KEYS, "type"))
    return said or {"role", "content"} <= fields.keys()


def _role(message: Mapping[Any, Any], number: int) -> tuple[str, str]:
    """(role, the key that holds it)."""
    fields = _fields(message)
    key = next((key for key in ROLE_KEYS if not absent(fields.get(key))), "type")
    value = fields.get(key)
    role = _known(value)
    if role is None:
        known = "; ".join(f"{role} ({', '.join(names[1:])})" for role, names in ROLES.items())
        raise ValueError(f"message {number} has the role {short(value)}; known are {known}, {', '.join(CALL_ROLES)}")
    return role, key


def _known(value: Any) -> str | None:
    """The role that a word means; None for another word or no word."""
    if not isinstance(value, str):
        return None
    word = re.sub(r"[\s-]+", "_", value.strip().rstrip(":").lower())
    return word if word in CALL_ROLES else _ROLE.get(word)


def _fields(message: Mapping[Any, Any]) -> dict[str, Any]:
    """The fields by their names in small letters."""
    fields: dict[str, Any] = {}
    for key, value in message.items():
        name = str(key).strip().lower()
        if not absent(fields.get(name)) and not absent(value):
            raise ValueError(f"a message has the field {name!r} twice")
        fields[name] = fields.get(name) if absent(value) and name in fields else value
    return fields


def _text(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "".join(_part(part, number, where) for number, part in enumerate(content, 1))
    raise ValueError(f"{where} has no text: its content is {type(content).__name__}")


def _part(part: Any, number: int, where: str) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    text = next((key for key in ("text", "value") if isinstance(part, dict) and isinstance(part.get(key), str)), None)
    if text is not None and kind in TEXT_PARTS:
        others = {str(key) for key, field in part.items() if not absent(field)} - {"type", text, "annotations"}
        if not others:
            return str(part[text])
        kind = ", ".join(sorted(others))
    raise ValueError(f"{where} holds {short(kind)} in part {number} of its content; only text can be used")
