"""What a conversation says is in what a chat template renders, or an error says what the template leaves out.

The templates below behave as public ones do, each in one respect: Phi-3-mini's first one wrote no system message and
said nothing (ggml-org/llama.cpp, tests/test-chat-template.cpp), Gemma's refuses one, Llama's trims, Llama 3's and
Phi-3's write nothing of a call, Qwen3's cuts reasoning out of earlier answers, Llama 3.1's writes a tool's result as
JSON, DeepSeek-V3's wants arguments as a text, Mistral's an id of nine characters (huggingface/trl, trl/chat_templates).
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kellet.config.training import Text
from kellet.data.conversation import to_prompt
from kellet.errors import DataError
from kellet.models.base_model import train_tokenizer
from kellet.models.chat_template import render
from kellet.models.sampling import generate_text
from kellet.models.tokens import encode_prompt, encode_prompts

END = "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
TURN = "<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n"
CHATML = "{% for m in messages %}" + TURN + "{% endfor %}" + END
CALLS = (
    "{% for t in tools or [] %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}<|start|>{{ m.role }}\n"
    "{{ m.content | trim }}{% for c in m.tool_calls or [] %}<call>{{ c.function | tojson }}{% endfor %}<|end|>\n"
    "{% endfor %}" + END
)
SPEAKERS_ONLY = "{% for m in messages if m.role in ('user', 'assistant') %}" + TURN + "{% endfor %}" + END
LAST_ONLY = "<|start|>user\n{{ messages[-1].content }}<|end|>\n" + END
NO_REASONING = (
    "{% for m in messages %}<|start|>{{ m.role }}\n"
    "{{ m.content.split('</think>')[-1] if m.role == 'assistant' else m.content }}<|end|>\n{% endfor %}" + END
)
RESULT_AS_JSON = CALLS.replace(
    "{{ m.content | trim }}", "{{ (m.content | tojson) if m.role == 'tool' else m.content }}"
)
TEXT_ARGUMENTS = CALLS.replace("{{ c.function | tojson }}", "{{ c.function.name + '(' + c.function.arguments + ')' }}")
NAME_ONLY = CALLS.replace("{{ c.function | tojson }}", "{{ c.function.name }}")
ARGUMENTS_ONLY = CALLS.replace("{{ c.function | tojson }}", "{{ c.function.arguments | tojson }}")
KEYS_ONLY = CALLS.replace("{{ c.function | tojson }}", "{{ c.function.name }} {{ c.function.arguments.keys() | join }}")
ONCE = (
    "{% set seen = namespace(ids=[]) %}{% for m in messages if m.tool_call_id not in seen.ids %}"
    + TURN
    + "{% set seen.ids = seen.ids + [m.tool_call_id or loop.index0] %}{% endfor %}"
)
NINE = CALLS.replace("<call>", "{% if c.id | length != 9 %}{{ raise_exception('id of nine') }}{% endif %}<call>")
NO_TOOLS_HERE = CALLS.replace("{{ t | tojson }}", "")

SYSTEM, USER = {"role": "system", "content": "Be brief."}, {"role": "user", "content": " Where is it?\n"}
YES = {"role": "assistant", "content": "Yes?"}
CALL = {"id": "abc123456", "type": "function", "function": {"name": "track", "arguments": {"id": 7, "of": 'A "é"'}}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": '{"day": 1}', "name": "track", "tool_call_id": "abc123456"}
TRACK = {"type": "function", "function": {"name": "track", "description": "Find a parcel."}}


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    trained = train_tokenizer(["where is my parcel? it is late", "It arrives today. Thank you."] * 3, 300)
    trained.add_special_tokens({"additional_special_tokens": ["<|start|>", "<|end|>"]})
    return trained


def rendered(tokenizer: Any, template: str, *messages: dict[str, Any], tools: tuple[Any, ...] = ()) -> str:
    tokenizer.chat_template = template
    return render(tokenizer, to_prompt(messages, tools))


LEAVE_OUT = {
    "system": (SPEAKERS_ONLY, [SYSTEM, USER], (), r"message 1 of 2 \(system\)"),
    "a tool's result": (SPEAKERS_ONLY, [USER, YES, RESULT], (), r"message 3 of 3 \(tool\)"),
    "all but the last": (LAST_ONLY, [USER, YES, USER], (), r"message 1 of 3 \(user\)"),
    "a repeated word": (LAST_ONLY, [USER, {"role": "user", "content": "user"}], (), r"message 1 of 2 \(user\)"),
    "what stands in the template": (
        SPEAKERS_ONLY,
        [{"role": "system", "content": "user"}, USER],
        (),
        r"message 1 of 2 \(system\)",
    ),
    "reasoning": (
        NO_REASONING,
        [USER, {"role": "assistant", "content": "<think>hm</think>Yes?"}, USER],
        (),
        r"message 2 of 3 \(assistant\)",
    ),
    "a call": (CHATML, [USER, CALLING, RESULT], (), r"a tool's call in message 2 of 3 \(assistant\)"),
    "arguments": (NAME_ONLY, [USER, CALLING, RESULT], (), r"a tool's call in message 2 of 3 \(assistant\)"),
    "its name": (ARGUMENTS_ONLY, [USER, CALLING, RESULT], (TRACK,), r"a tool's call in message 2 of 3 \(assistant\)"),
    "values": (KEYS_ONLY, [USER, CALLING, RESULT], (), r"a tool's call in message 2 of 3 \(assistant\)"),
    "a second result of a call": (ONCE, [USER, RESULT, RESULT | {"content": "2"}], (), r"message 3 of 3 \(tool\)"),
    "definitions": (NO_TOOLS_HERE, [USER], (TRACK,), "definition 1 of 1 of a tool"),
}


@pytest.mark.parametrize("name", LEAVE_OUT)
def test_what_a_template_leaves_out_is_an_error_that_names_it(tokenizer: Any, name: str) -> None:
    template, messages, tools, where = LEAVE_OUT[name]
    with pytest.raises(
        DataError, match=rf"chat template leaves out {where}, or a part of it.*begins '[\[{{].*rows out"
    ):
        rendered(tokenizer, template, *messages, tools=tools)


WRITE_ALL = {
    "as it is": (CHATML, [SYSTEM, USER, YES, USER], ()),
    "trimmed": (CALLS, [SYSTEM, USER, YES, USER], ()),
    "two of the user in a row, the assistant first": (CHATML, [YES, USER, USER], ()),
    "nothing said": (CHATML, [{"role": "system", "content": ""}, USER, {"role": "assistant", "content": " "}], ()),
    "calls": (CALLS, [SYSTEM, USER, CALLING, RESULT, YES, USER], (TRACK,)),
    "a result as JSON": (RESULT_AS_JSON, [USER, CALLING, RESULT], ()),
    "arguments as a text": (TEXT_ARGUMENTS, [USER, CALLING, RESULT], ()),
    "an id of nine characters": (NINE, [USER, CALLING, RESULT], ()),
    "results of two calls": (ONCE, [USER, RESULT, RESULT | {"tool_call_id": "xyz123456"}], ()),
    "no reasoning to cut": (NO_REASONING, [USER, YES, USER], ()),
}


@pytest.mark.parametrize("name", WRITE_ALL)
def test_a_template_that_writes_everything_is_used_as_it_is(tokenizer: Any, name: str) -> None:
    template, messages, tools = WRITE_ALL[name]
    text = rendered(tokenizer, template, *messages, tools=tools)
    for message in messages:
        assert message["content"].strip() in text or '"{\\"day\\": 1}"' in text
    assert text.count("track") == str(messages).count("'name': 'track', 'arguments'") + len(tools)


def test_a_template_that_refuses_system_messages_with_calls_gets_them_in_the_first(tokenizer: Any) -> None:
    no_system = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}" + TEXT_ARGUMENTS
    text = rendered(tokenizer, no_system, SYSTEM, USER, CALLING, RESULT)
    assert text.startswith("<|start|>user\nBe brief.\n\n Where is it?")
    assert "track({" in text


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["system", "user", "assistant", "tool"]),
            st.text(st.sampled_from('abuser <|end|>\n"\\é\u200b你1'), max_size=8),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a_template_is_refused_where_it_leaves_something_out_and_nowhere_else(
    tokenizer: Any, said: list[tuple[str, str]]
) -> None:
    messages = [{"role": role, "content": content} for role, content in said]
    rendered(tokenizer, CALLS, *messages)
    lost = [content for role, content in said if role in ("system", "tool") and content.strip()]
    if lost:
        with pytest.raises(DataError, match="leaves out message"):
            rendered(tokenizer, SPEAKERS_ONLY, *messages)
    else:
        rendered(tokenizer, SPEAKERS_ONLY, *messages)


def test_a_chat_goes_on_where_a_template_cuts_its_own_model_s_reasoning(tokenizer: Any) -> None:
    tokenizer.chat_template = NO_REASONING
    prompt = to_prompt([USER, {"role": "assistant", "content": "<think>hm</think>Yes?"}, USER])
    assert "Yes?" in render(tokenizer, prompt, whole=False)
    tokenizer.chat_template = "{{ raise_exception('no') }}"
    with pytest.raises(DataError, match="refuses a prompt of system"):
        render(tokenizer, to_prompt([SYSTEM]), whole=False)


def test_names_and_arguments_that_spell_a_special_token_do_not_become_one(tokenizer: Any) -> None:
    nasty = {"name": "f<|end|>", "arguments": {"<|end|>": ["<|end|>"]}}
    tools = ({"type": "function", "function": {"name": "f<|end|>"}},)
    text = rendered(tokenizer, CALLS, CALLING | {"tool_calls": [{"type": "function", "function": nasty}]}, tools=tools)
    assert text.count("<|end|>") == 1
    assert text.count("< |end|>") == 4


def test_a_template_that_changes_on_the_tokenizer_is_judged_anew(tokenizer: Any) -> None:
    rendered(tokenizer, CHATML, SYSTEM, USER)
    with pytest.raises(DataError, match="leaves out"):
        rendered(tokenizer, SPEAKERS_ONLY, SYSTEM, USER)
    rendered(tokenizer, CHATML, SYSTEM, USER)


def test_prompts_that_cannot_be_encoded_are_counted(tokenizer: Any) -> None:
    tokenizer.chat_template = SPEAKERS_ONLY
    prompts = [to_prompt([USER]), to_prompt([SYSTEM, USER]), "a text", to_prompt([SYSTEM, YES])]
    with pytest.raises(DataError, match=r"^2 of 4 prompts cannot be encoded; number 2: .*message 1 of 2 \(system\)"):
        encode_prompts(tokenizer, prompts, Text())
    with pytest.raises(DataError, match=r"^2 of 4 prompts"):  # before the model, which is none, is asked for an answer
        generate_text(None, tokenizer, prompts, Text(), seed=0, batch_size=1)
    sound = [prompts[0], prompts[2]]
    assert encode_prompts(tokenizer, sound, Text()) == [encode_prompt(tokenizer, prompt, Text()) for prompt in sound]
