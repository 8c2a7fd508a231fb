"""Prompt and answers of one row, as texts of the contract.

The prompt may have parts in columns of their own: a system message, what was said before, an input after the
instruction, definitions of tools. An answer is a text or the last message of a conversation.
"""

from collections.abc import Mapping
from typing import Any

from kellet.data.conversation import answer_of, as_messages, as_tools, to_prompt
from kellet.data.exports import parsed
from kellet.data.form import Form
from kellet.data.implicit import common_beginning, split_dialogue
from kellet.data.messages import Messages, conversation_of


def sides_of(values: Mapping[str, Any], order: tuple[str, str], form: Form) -> dict[str, Any]:
    """prompt, chosen, rejected and rejected_prompt of a row whose better answer is in the first column of ``order``.

    Raises ValueError when the row cannot be used.
    """
    conversations = [as_messages(values.get(side)) for side in order]
    if all(conversations):
        named = zip(conversations, order, strict=True)
        return _row(*(_last_turn(messages, side, values) for messages, side in named if messages))
    if any(conversations):
        raise ValueError(f"of {order[0]} and {order[1]} one is a conversation and the other is not")
    texts = [text_of(values, side) for side in order]
    if form.implicit in ("dialogue", "beginning") and any(
        _said(values.get(part)) for part in ("system", "history", "input", "tools")
    ):
        raise ValueError("a part of the prompt stands in a column beside dialogues, where it has no place")
    if form.implicit == "dialogue":
        return _row(*(_dialogue(text, side) for text, side in zip(texts, order, strict=True)))
    if form.implicit == "beginning" and texts[0] is not None and texts[1] is not None:
        begin = common_beginning(texts[0], texts[1])
        if not begin:
            raise ValueError(f"{order[0]} and {order[1]} share no beginning to take the prompt from")
        return _row(*((begin.strip(), text[len(begin) :].strip()) for text in texts if text is not None))
    prompt = _prompt(values, form)
    if form.implicit == "repeated":
        return _row(*((prompt, _rest(text, values["prompt"], side)) for text, side in zip(texts, order, strict=True)))
    return _row((prompt, texts[0]), (prompt, texts[1]))


def text_of(values: Mapping[str, Any], name: str) -> str | None:
    """A text of a row. Raises ValueError when it is something else, or holds what no file can."""
    value = values.get(name)
    if value is None or (isinstance(value, str) and writable(value) == value):
        return value
    if isinstance(value, str):
        raise ValueError(f"{name} holds half of a surrogate pair, which is no character")  # noqa: TRY004
    raise ValueError(f"{name} is a {type(value).__name__}, wanted a text")


def writable(text: str) -> str:
    """``text`` with lone surrogates, which no file can hold, as backslash escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _row(chosen: tuple[str | None, str | None], rejected: tuple[str | None, str | None]) -> dict[str, Any]:
    row = {"prompt": chosen[0], "chosen": chosen[1], "rejected": rejected[1], "rejected_prompt": rejected[0]}
    for name in ("prompt", "chosen", "rejected"):
        text_of(row, name)
    return row


def _rest(text: str | None, prompt: str | None, side: str) -> str | None:
    """An answer without the prompt that it begins with."""
    if text is None or prompt is None:
        return text
    if not text.strip().startswith(prompt.strip()):
        raise ValueError(f"{side} does not begin with the prompt, as the other rows do")
    return text.strip()[len(prompt.strip()) :].strip()


def _dialogue(text: str | None, side: str) -> tuple[str | None, str | None]:
    return (None, None) if text is None else split_dialogue(text, side)


def _prompt(values: Mapping[str, Any], form: Form) -> str | None:
    """The prompt of text answers: a text, or a conversation where it is one or has parts that only one can hold."""
    messages, tools = _with_parts(values, conversation_of(values.get("prompt"), values.get("tools")))
    if messages is not None:
        _refuse_answer(messages[-1], values)
        return to_prompt(messages, tools)
    text = _text_with_input(values)
    if text is not None and form.history_is_text and _said(values.get("history")):
        text = f"{text_of(values, 'history')}\n\n{text}"
    parts = {"system", "tools"} if form.history_is_text else {"system", "history", "tools"}
    if text is None or not parts & set(form.names):
        return text
    values = {**values, "history": None} if form.history_is_text else values
    found, tools = _with_parts(values, ([{"role": "user", "content": text}], as_tools(values.get("tools"))))
    return to_prompt(found or [], tools)


def _refuse_answer(last: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    answers = [values.get(name) for name in ("chosen", "rejected", "answer_a", "answer_b")]
    if last["role"] == "assistant" and last["content"].strip() in [each.strip() for each in answers if each]:
        raise ValueError("the conversation before the answers ends with one of them: take its last message out")


def _text_with_input(values: Mapping[str, Any]) -> str | None:
    text, after = text_of(values, "prompt"), text_of(values, "input")
    if not _said(after):
        return text
    return after if text is None or not text.strip() else f"{text}\n\n{after}"


def _with_parts(
    values: Mapping[str, Any], conversation: tuple[Messages, list[dict[str, Any]]] | None
) -> tuple[Messages | None, list[dict[str, Any]]]:
    """A conversation with the system message and what was said before in front."""
    if conversation is None:
        return None, []
    messages, tools = conversation
    before = _turns(values.get("history"))
    system = text_of(values, "system")
    rest = messages[1:] if messages[0]["role"] == "system" else messages
    if _said(system) and rest is not messages and messages[0]["content"] != system:
        raise ValueError("the conversation has another system message than the column beside it")
    if _said(values.get("input")) and not isinstance(values.get("prompt"), str):
        raise ValueError("an input stands beside a conversation, where it has no place")
    front = [{"role": "system", "content": system}] if _said(system) else messages[: len(messages) - len(rest)]
    return [*front, *before, *rest], tools


def _turns(history: Any) -> Messages:
    """What was said before the prompt: messages, or pairs of what user and assistant said."""
    if not _said(history):
        return []
    history = parsed(history)
    if (messages := as_messages(history)) is not None:
        return messages
    if not isinstance(history, list) or not all(
        isinstance(turn, list) and len(turn) == 2 and all(isinstance(t, str) for t in turn) for turn in history
    ):
        raise ValueError("history is not a list of [user, assistant]")
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for turn in history for role, text in zip(roles, turn, strict=True)]


def _last_turn(messages: Messages, side: str, values: Mapping[str, Any]) -> tuple[str, str]:
    """(prompt, answer) of a conversation; the column ``prompt`` counts where it has no messages before the answer."""
    *before, last = messages
    if last["role"] != "assistant":
        raise ValueError(f"{side} ends with a message of {last['role']!r}, wanted the assistant's answer")
    prompt = values.get("prompt")
    found = conversation_of(prompt, values.get("tools"))
    given, tools = found if found is not None else (None, as_tools(values.get("tools")))
    if given is None and isinstance(prompt, str) and not before:
        given = [{"role": "user", "content": _text_with_input(values) or ""}]
    if not before and not given:
        raise ValueError(f"{side} is an answer without a prompt")
    if before and given and before != given:
        raise ValueError(f"{side} holds {len(messages)} messages beside a prompt, wanted one answer")
    if before and isinstance(prompt, str) and given is None and not _among(prompt, before):
        raise ValueError(f"{side} holds {len(messages)} messages, and prompt is none of them")
    whole, tools = _with_parts(values, (before or given or [], tools))
    return to_prompt(whole or [], tools), answer_of(last)


def _among(prompt: str, messages: Messages) -> bool:
    """Whether a prompt beside a whole conversation is what one of its messages says."""
    return any(prompt.strip() == str(message["content"]).strip() for message in messages)


def _said(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else bool(value)
