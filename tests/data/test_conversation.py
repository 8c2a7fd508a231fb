"""Messages of other tools become the same few messages, or an error that names what would be lost."""

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kellet.data.conversation import (
    answer_of,
    as_messages,
    as_text,
    as_tools,
    last_message,
    left_out,
    messages_of,
    prompt_of,
    to_prompt,
    tools_of,
)
from kellet.data.messages import CALL_ROLES, CONTENT_KEYS, ROLE_KEYS, ROLES

USER = {"role": "user", "content": "Where is it?"}
CALL = {"type": "function", "function": {"name": "track", "arguments": {"id": 7}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": '{"day": 1}', "name": "track"}
TRACK = {"type": "function", "function": {"name": "track", "description": "Find a parcel."}}

contents = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | contents, lambda v: st.lists(v, max_size=2), max_leaves=4
)
calls = st.builds(
    lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
    contents.filter(bool),
    st.dictionaries(contents, values.filter(lambda value: value is not None), max_size=2),
)
plain = st.builds(
    lambda role, content: {"role": role, "content": content}, st.sampled_from(["system", "user", "assistant"]), contents
)
calling = st.builds(
    lambda content, made: {"role": "assistant", "content": content, "tool_calls": made},
    contents,
    st.lists(calls, min_size=1, max_size=2),
)
results = st.builds(
    lambda content, name: {"role": "tool", "content": content, "name": name}, contents, contents.filter(bool)
)
conversations = st.lists(plain | calling | results, min_size=1, max_size=5)


@given(conversations)
def test_what_is_stored_is_read_back(messages: list[dict[str, Any]]) -> None:
    prompt = to_prompt(messages)
    assert as_messages(prompt) == messages_of(prompt) == messages
    assert tools_of(prompt) == []
    with_tools = to_prompt(messages, [TRACK])
    assert messages_of(with_tools) == messages
    assert tools_of(with_tools) == [TRACK]
    assert prompt_of(with_tools) == with_tools


def test_ordinary_messages_are_stored_as_they_always_were() -> None:
    """The bytes on which pair ids and splits rest."""
    talk = [{"role": "user", "content": 'Où "?'}, {"content": "", "role": "assistant"}]
    assert to_prompt(talk) == '[{"role": "user", "content": "Où \\"?"}, {"role": "assistant", "content": ""}]'


@given(conversations, st.randoms(use_true_random=False), st.data())
@settings(deadline=None)
def test_every_naming_of_roles_and_fields_gives_the_same_messages(
    messages: list[dict[str, Any]], order: random.Random, data: st.DataObject
) -> None:
    def renamed(message: dict[str, Any]) -> dict[str, Any]:
        role = data.draw(st.sampled_from(ROLES[message["role"]]))
        spelled = data.draw(st.sampled_from([role, role.upper(), role.capitalize(), f" {role}: "]))
        rest = {key: value for key, value in message.items() if key not in ("role", "content")}
        fields = {
            data.draw(st.sampled_from(ROLE_KEYS)): spelled,
            data.draw(st.sampled_from(CONTENT_KEYS)): message["content"],
        }
        items = list((fields | rest | {"weight": 1, "audio": None, "images": []}).items())
        order.shuffle(items)
        return dict(items)

    written = [renamed(message) for message in messages]
    assert as_messages(written) == messages
    assert as_messages(json.dumps(written)) == messages  # as CSV files hold it
    assert as_messages(repr(written)) == messages  # as pandas writes it into a CSV file
    assert as_messages({"messages": written}) == messages


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "assistant", "tool_calls": [{"function": {"name": "track", "arguments": '{"id": 7}'}}]},
        {"role": "assistant", "content": "", "function_call": {"name": "track", "arguments": '{"id": 7}'}},
        {"role": "assistant", "tool_calls": json.dumps([CALL]), "content": None},
        {"from": "function_call", "value": '{"name": "track", "arguments": {"id": 7}}'},
    ],
)
def test_a_call_of_a_tool_is_the_same_call_however_it_is_written(message: dict[str, Any]) -> None:
    assert as_messages([USER, message]) == [USER, CALLING]


def test_what_parquet_fills_in_is_no_argument(tmp_path: Path) -> None:
    """Of a list of calls with other arguments each, Parquet makes calls that have all of them."""
    other = {
        "type": "function",
        "function": {"name": "refund", "arguments": {"order": {"number": "A1"}, "parts": [None]}},
    }
    rows = [{"prompt": [USER, CALLING]}, {"prompt": [USER, CALLING | {"tool_calls": [other]}]}]
    pd.DataFrame(rows).to_parquet(tmp_path / "x.parquet")
    read = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert read[0]["prompt"][1]["tool_calls"][0]["function"]["arguments"]["order"] is None
    assert [as_messages(row["prompt"]) for row in read] == [row["prompt"] for row in rows]
    schema = TRACK["function"] | {"parameters": {"type": "object", "required": None}}
    assert as_tools([schema]) == [
        {"type": "function", "function": TRACK["function"] | {"parameters": {"type": "object"}}}
    ]


def test_content_in_parts_is_joined() -> None:
    parts = [{"type": "text", "text": "Where "}, {"type": "input_text", "text": "is", "image": None}, " it?"]
    assert as_messages([{"role": "user", "content": parts}]) == [USER]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "narrator", "content": "x"}, "message 2 has the role 'narrator'; known are user (human, prompter"),
        ({"role": "\x1b[2J", "content": "x"}, r"'\\x1b\[2J'"),
        ({"role": None, "content": "x"}, "message 2 has the role None"),
        ({"role": ["user"], "content": "x"}, r"message 2 has the role \['user'\]"),
        ({"content": "x"}, "message 2 has no role"),
        ("x", "message 2 has no role"),
        ({"role": "user"}, "message 2 has no role and text"),
        ({"role": "user", "content": None}, r"message 2 \(user\) has no text: its content is NoneType"),
        ({"role": "user", "content": 3}, r"message 2 \(user\) has no text: its content is int"),
        (
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
            "holds 'image_url' in part 1",
        ),
        ({"role": "user", "content": [{"type": "text", "text": "x", "image": "i"}]}, "holds 'image' in part 1"),
        ({"role": "assistant", "content": "x", "reasoning_content": "hm"}, "has 'reasoning_content' beside its text"),
        ({"role": "assistant", "content": None, "refusal": "No."}, "NoneType"),
        ({"role": "assistant", "content": "x", "audio": {"id": 1}}, "has 'audio' beside its text"),
        ({"role": "user", "content": "x", "tool_calls": [CALL]}, "has 'tool_calls' beside its text"),
        ({"role": "user", "content": "x", "text": "y"}, "has 'text' beside its text"),
        ({"role": "user", "from": "gpt", "content": "x"}, "has 'from' beside its text"),
        ({"role": "user", "author": {"name": "Ann", "says": "y"}, "content": "x"}, "has 'author' beside its text"),
        ({"role": "user", "Role": "system", "content": "x"}, "the field 'role' twice"),
        ({"role": "assistant", "content": "x", "tool_calls": [{"function": {}}]}, "calls a tool without a name"),
        ({"role": "assistant", "content": "x", "tool_calls": "track"}, "tool_calls that are 'track'"),
        (
            {"role": "assistant", "tool_calls": [{"type": "custom", "function": {"name": "f"}}]},
            "calls a tool in a way that is not understood",
        ),
        ({"from": "function_call", "value": "track(7)"}, "calls a tool without a name"),
    ],
)
def test_what_would_be_lost_is_refused_by_name(message: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("(human", r"\(human")):
        as_messages([USER, message])


def test_what_is_no_conversation_is_none_and_what_looks_like_one_is_refused() -> None:
    for value in (
        None,
        [],
        "[]",
        "Hi",
        "[Hi]",
        {"text": "x"},
        [{"value": "a", "rank": 1}],
        [{"type": "text", "text": "x"}],
    ):
        assert as_messages(value) is None
        assert prompt_of(value) is None
    for answer in (
        '[{"from": "Rome", "text": "x"}]',
        "[{'from': 'Rome', 'value': 3}",
        '{"role": "user", "content": "x"}',
    ):
        assert as_messages(answer) is None  # an answer may be JSON
    with pytest.raises(ValueError, match="the role 'narrator'"):
        as_messages('[{"role": "narrator", "content": "x"}]')
    with pytest.raises(ValueError, match="looks like messages"):  # as numpy writes a list of two
        as_messages("[{'role': 'user', 'content': 'x'}\n {'role': 'assistant', 'content': 'y'}]")
    with pytest.raises(ValueError, match="'image' beside messages"):
        as_messages({"messages": [USER], "image": "x"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [*ROLE_KEYS, *CONTENT_KEYS, "tool_calls", "function_call", "name", "type", "function", "arguments"]
            )
            | st.text(max_size=3),
            inner | st.sampled_from([*ROLES, *CALL_ROLES, "text", "function"]),
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values | st.lists(json_values, max_size=3))
def test_any_json_is_messages_or_none_or_a_value_error(value: Any) -> None:
    for given_value in (value, json.dumps(value)):
        for read in (as_messages, prompt_of, as_tools, left_out):
            reason, result = "", None
            try:
                result = read(given_value)
            except ValueError as error:
                reason = str(error)
            assert reason.isprintable()
            assert read is not as_messages or not result or as_messages(to_prompt(result)) == result


def test_harmless_fields_are_named_for_the_account() -> None:
    said = [USER | {"weight": 0.5, "name": "Ann", "id": ""}, RESULT | {"timestamp": 3}]
    assert as_messages(said) == [USER, RESULT]
    assert left_out(said) == {"weight", "name", "timestamp"}
    assert as_messages([{"from": "human", "sender": "client", "value": USER["content"]}]) == [USER]
    named = [USER | {"author": "Bob", "from": "human"}]
    assert as_messages(named) == [USER]
    assert left_out(named) == {"author", "from"}
    assert left_out(json.dumps([RESULT])) == left_out("text") == set()


def test_tools_stand_in_the_prompt_or_are_refused() -> None:
    bare = {"name": "track", "description": "Find a parcel."}
    for given_tools in ([TRACK], [bare], json.dumps([bare]), bare):
        assert as_tools(given_tools) == [TRACK]
        assert prompt_of([USER], given_tools) == prompt_of({"messages": [USER], "tools": [TRACK]})
    assert prompt_of([USER], None) == prompt_of([USER], []) == prompt_of([USER], "") == to_prompt([USER])
    for wrong in ("track", [3], [{"description": "x"}]):
        with pytest.raises(ValueError, match="tools are "):
            prompt_of([USER], wrong)
    with pytest.raises(ValueError, match="different tools"):
        prompt_of({"messages": [USER], "tools": [TRACK]}, [{"name": "refund"}])
    with pytest.raises(ValueError, match="tool definitions"):
        as_messages({"messages": [USER], "tools": [TRACK]})


def test_an_answer_that_calls_a_tool_is_no_text() -> None:
    assert answer_of({"role": "assistant", "content": "Yes."}) == "Yes."
    with pytest.raises(ValueError, match=r"the answer calls a tool \('track'\)"):
        answer_of(CALLING | {"content": "Let me look."})


def test_calls_and_results_are_written_out() -> None:
    prompt = to_prompt([USER, CALLING, RESULT], [TRACK])
    assert as_text(prompt) == (
        'Tool: {"name": "track", "description": "Find a parcel."}\n'
        "\n\nHuman: Where is it?"
        '\n\nAssistant: [track({"id": 7})]'
        '\n\nTool (track): {"day": 1}'
        "\n\nAssistant:"
    )
    assert last_message(to_prompt([USER, CALLING])) == '[track({"id": 7})]'


@given(conversations)
def test_nothing_of_a_conversation_is_missing_where_it_is_written_out(messages: list[dict[str, Any]]) -> None:
    text = as_text(to_prompt(messages))
    place = 0
    for message in messages:
        written = [
            json.dumps(call["function"]["arguments"], ensure_ascii=False) for call in message.get("tool_calls", ())
        ]
        names = [call["function"]["name"] for call in message.get("tool_calls", ())]
        for piece in [message["content"], *(part for pair in zip(names, written, strict=True) for part in pair)]:
            place = text.index(piece, place) + len(piece)


@pytest.mark.parametrize(
    "text", ['[{"role": "user"', '[{"role": "user"}]', '[{"role": "user", "content": 3}]', '{"messages": [{"role": "']
)
def test_a_text_that_begins_like_a_stored_conversation_is_a_text(text: str) -> None:
    assert messages_of(text) is None
    assert as_text(text) == last_message(text) == text
