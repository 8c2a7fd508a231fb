"""Calls and definitions of tools, read into the form that transformers' chat templates expect.

A call is ``{"type": "function", "function": {"name": …, "arguments": {…}}}``, with ``id`` where it has one. OpenAI
writes arguments as JSON in a text, LLaMA-Factory writes the whole call as a message's text.
Source: transformers ``docs/source/en/chat_extras.md``; TRL issue 4959.
"""

import ast
import json
import reprlib
from collections.abc import Mapping
from typing import Any

CALL_KEYS = ("tool_calls", "function_call")
"""Fields of a message that hold calls; the second is OpenAI's older name, and holds one."""


def as_tools(value: Any) -> list[dict[str, Any]]:
    """Definitions of tools, as a list or its JSON: each ``{"type": "function", "function": {"name": …}}``; [] if none.

    A bare function gets that frame. Raises ValueError when it is something else.
    """
    if absent(value) or (isinstance(value, str) and not value.strip()):
        return []
    parsed = parse(value) if isinstance(value, str) else value
    tools = parsed if isinstance(parsed, list) else [parsed]
    if not all(isinstance(tool, dict) and _named(tool) for tool in tools):
        raise ValueError(f"tools are {short(value)}, wanted a list of functions, each with its name")
    framed = [
        tool if isinstance(tool.get("function"), dict) else {"type": "function", "function": tool} for tool in tools
    ]
    return list(_plain(framed, "tools"))


def calls_of(fields: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    """The calls of tools in an assistant's message."""
    several, single = ([] if absent(fields.get(key)) else fields[key] for key in CALL_KEYS)
    calls = parse(several) if isinstance(several, str) else several
    if not isinstance(calls, list):
        raise ValueError(f"{where} has tool_calls that are {short(several)}, wanted a list")  # noqa: TRY004
    return [_call(call, where) for call in [*calls, *([single] if single else [])]]


def written_calls(content: str, where: str) -> list[dict[str, Any]]:
    """The calls that a message's text is the JSON of."""
    calls = parse(content)
    return [_call(call, where) for call in (calls if isinstance(calls, list) and calls else [calls])]


def _call(call: Any, where: str) -> dict[str, Any]:
    """A call as transformers' templates expect it: arguments are an object, not its JSON."""
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise ValueError(f"{where} calls a tool without a name: {short(call)}")
    outer = call if function is not call else {}
    others = {key for key, field in {**outer, **function}.items() if not absent(field)}
    given = [key for key in ("arguments", "parameters", "args") if not absent(function.get(key))]
    others -= {"type", "function", "name", "id", "index", *given[:1]}
    if others or outer.get("type") not in (None, "function"):
        raise ValueError(f"{where} calls a tool in a way that is not understood: {short(call)}")
    arguments = function[given[0]] if given else {}
    parsed = parse(arguments) if isinstance(arguments, str) else arguments
    named = {"name": function["name"], "arguments": _plain(parsed if isinstance(parsed, dict) else arguments, where)}
    identity = call.get("id")
    return ({} if absent(identity) else {"id": str(identity)}) | {"type": "function", "function": named}


def parse(text: str) -> Any:
    """What a text holds as JSON, or as Python writes lists and objects; None when it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None


def _plain(value: Any, where: str) -> Any:
    """The value as JSON gives it back, without names whose value is null."""
    try:
        return _filled(json.loads(json.dumps(value, ensure_ascii=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{where} holds what JSON cannot: {error}") from error


def _filled(value: Any) -> Any:
    """Parquet gives each call the arguments of all others too, as null; TRL's ``remove_none_values`` takes them out."""
    if isinstance(value, dict):
        return {key: _filled(inner) for key, inner in value.items() if inner is not None}
    return [_filled(inner) for inner in value] if isinstance(value, list) else value


def _named(tool: Mapping[str, Any]) -> bool:
    function = tool.get("function", tool)
    return isinstance(function, dict) and isinstance(function.get("name"), str) and bool(function["name"])


def absent(value: Any) -> bool:
    """Whether a field says nothing: null, false or empty, as Parquet fills the fields that other rows have."""
    return value is None or value is False or (isinstance(value, str | list | dict | tuple) and not value)


def quoted(keys: set[Any]) -> str:
    """Names for a message, so that control characters do no harm."""
    return ", ".join(short(key) for key in sorted(map(str, keys)))


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
_SHORT.maxlist = _SHORT.maxdict = _SHORT.maxlevel = 3
short = _SHORT.repr
