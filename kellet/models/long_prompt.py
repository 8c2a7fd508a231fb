"""A conversation that is longer than a prompt may be: old turns are left out, then the beginning of what is left.

The system message, the definitions of tools and the headers of the roles always stay, for without them the model reads
another kind of text than it was trained on. A turn is a message of the user with all up to the user's next, so that
calls of tools and their results stay together.
"""

from bisect import bisect_left
from typing import Any

from kellet.data.conversation import Messages, messages_of, to_prompt, tools_of
from kellet.errors import DataError
from kellet.models.chat_template import render

WORD = 40
"""Characters within which a cut is moved on to the next space, so that no word is cut in two."""


def conversation_ids(tokenizer: Any, prompt: str, limit: int, whole: bool = True) -> tuple[list[int], bool]:
    """(token ids, whether anything was left out) of a stored conversation in at most ``limit`` tokens.

    Raises DataError where the system message, tools and headers alone are longer, and as
    :func:`kellet.models.chat_template.render` does.
    """
    ids = _ids(tokenizer, prompt, whole)
    if len(ids) <= limit:
        return ids, False
    messages, tools = messages_of(prompt) or [], tools_of(prompt)

    def fits(kept: Messages) -> bool:
        return len(_ids(tokenizer, to_prompt(kept, tools), whole=False)) <= limit

    system, turns = _turns(messages)
    first = bisect_left(range(len(turns) - 1), True, key=lambda number: fits(_joined(system, turns[number:])))
    kept = _joined(system, turns[first:])
    left = set(range(len(system), len(kept)))
    while not fits(kept):
        if not left:
            least = len(_ids(tokenizer, to_prompt(kept, tools), whole=False))
            raise DataError(
                f"the system message, tools and headers of the prompt that begins {prompt[:80]!r} take {least} tokens "
                f"without what anybody says, and text.max_prompt_tokens is {limit}; raise it, or shorten them"
            )
        longest = max(left, key=lambda number: len(kept[number]["content"]))
        left.remove(longest)
        kept = _cut(kept, longest, fits)
    return _ids(tokenizer, to_prompt(kept, tools), whole), True


def _turns(messages: Messages) -> tuple[Messages, list[Messages]]:
    """The system messages at the beginning, and the turns."""
    spoken = next((number for number, message in enumerate(messages) if message["role"] != "system"), len(messages))
    turns: list[Messages] = []
    for message in messages[spoken:]:
        if message["role"] == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return messages[:spoken], turns


def _joined(system: Messages, turns: list[Messages]) -> Messages:
    return [*system, *(message for turn in turns for message in turn)]


def _cut(messages: Messages, number: int, fits: Any) -> Messages:
    """The messages without as much of the beginning of what ``number`` says as must go; without all, if need be."""
    said = messages[number]["content"]

    def without(characters: int) -> Messages:
        return [*messages[:number], messages[number] | {"content": said[characters:]}, *messages[number + 1 :]]

    start = bisect_left(range(len(said)), True, key=lambda characters: fits(without(characters)))
    space = said.find(" ", start, start + WORD) + 1
    if space and start and not said[start - 1].isspace() and fits(without(space)):
        return without(space)
    return without(start)


def _ids(tokenizer: Any, prompt: str, whole: bool) -> list[int]:
    return list(tokenizer(render(tokenizer, prompt, whole), add_special_tokens=False)["input_ids"])
