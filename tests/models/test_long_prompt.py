"""A long prompt loses old turns and beginnings, never its system message or headers; and what is lost is counted."""

import json
import logging

import pandas as pd
import pytest

from kellet.config.training import Text
from kellet.data.conversation import from_text, to_prompt
from kellet.errors import ConfigError, DataError
from kellet.models.base_model import train_tokenizer
from kellet.models.tokens import beginning, decode, encode_prompt, encode_queries, encode_query, pad, tell_cut
from kellet.policy.train import train_policy
from kellet.reward.train import train_reward
from tests.helpers import tiny
from tests.models.test_tokens import CHATML, NO_SYSTEM, chatting

SYSTEM = {"role": "system", "content": "Be brief."}
TURNS = [
    {"role": "user", "content": "Where is my parcel? I have been waiting for it since the third of May."},
    {"role": "assistant", "content": "It arrives today."},
    {"role": "user", "content": "Thank you. Does it come to my door?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "And when?"},
]


def said(tokenizer, messages, limit, whole=True):
    query = encode_query(tokenizer, to_prompt(messages), Text(max_prompt_tokens=limit), whole)
    assert len(query.ids) <= limit
    return tokenizer.decode(query.ids), query.cut


def chatml(*messages):
    """What CHATML writes, by hand."""
    turns = "".join(f"<|start|>{message['role']}\n{message['content']}<|end|>\n" for message in messages)
    return f"{turns}<|start|>assistant\n"


def tokens_of(tokenizer, text):
    return len(tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("dropped", [0, 2, 4])
def test_old_turns_go_as_wholes_and_the_system_message_stays(dropped):
    tokenizer = chatting(CHATML)
    wanted = chatml(SYSTEM, *TURNS[dropped:])
    limit = tokens_of(tokenizer, wanted)
    assert said(tokenizer, [SYSTEM, *TURNS], limit) == (wanted, dropped > 0)
    assert said(tokenizer, [SYSTEM, *TURNS], limit - 1)[0] != wanted


def test_the_last_question_loses_its_beginning_between_words():
    tokenizer = chatting(CHATML)
    for limit in range(tokens_of(tokenizer, chatml(SYSTEM, {"role": "user", "content": ""})), 200):
        text, cut = said(tokenizer, [SYSTEM, TURNS[0]], limit)
        before, _, kept = text.removesuffix("<|end|>\n<|start|>assistant\n").partition("<|start|>user\n")
        assert before == "<|start|>system\nBe brief.<|end|>\n"
        assert TURNS[0]["content"].endswith(kept)
        assert cut == (kept != TURNS[0]["content"])
        assert kept == "" or not cut or TURNS[0]["content"].removesuffix(kept).endswith(" ") or " " not in kept


def test_a_call_of_a_tool_and_its_result_go_together_and_a_long_result_is_cut_first():
    tokenizer = chatting(CHATML)
    result = {"role": "tool", "content": "late " * 60, "name": "track"}
    text, cut = said(tokenizer, [SYSTEM, *TURNS[:2], TURNS[4], result], 60)
    assert cut
    assert text.startswith("<|start|>system\nBe brief.<|end|>\n<|start|>user\nAnd when?<|end|>\n<|start|>tool\n")
    assert text.endswith("late <|end|>\n<|start|>assistant\n")


def test_a_template_that_puts_the_system_message_into_the_first_question_keeps_it():
    text, cut = said(chatting(NO_SYSTEM), [SYSTEM, *TURNS], 40)
    assert cut
    assert text == "<bos><|start|>user\nBe brief.\n\nAnd when?<|end|>\n<|start|>model\n"


@pytest.mark.parametrize("limit", [1, 5, 12])
def test_a_limit_below_the_headers_is_an_error(limit):
    tokenizer = chatting(CHATML)
    with pytest.raises(DataError, match=rf"headers of the prompt .* without what anybody says, .* is {limit}"):
        said(tokenizer, [SYSTEM, *TURNS], limit)


def test_a_system_message_alone_is_not_cut():
    tokenizer = chatting(CHATML)
    with pytest.raises(DataError, match="without what anybody says"):
        said(tokenizer, [SYSTEM], 10)


def test_every_prompt_is_a_message_where_the_chat_template_is_asked_for():
    tokenizer = chatting(CHATML)
    assert (
        tokenizer.decode(encode_prompt(tokenizer, "hi", Text(chat=True)))
        == "<|start|>user\nhi<|end|>\n<|start|>assistant\n"
    )
    assert tokenizer.decode(encode_prompt(tokenizer, "hi", Text(prompt_template="Q: {prompt}"))) == "<bos>Q: hi"
    with pytest.raises(ConfigError, match=r"text\.chat is true and the tokenizer has no chat template"):
        encode_prompt(train_tokenizer(["where is it"], 280), "hi", Text(chat=True))


THREE = [("user", "a"), ("assistant", "b"), ("user", "c: d\n\ne")]


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("\n\nHuman: a\n\nAssistant:", [("user", "a")]),
        (
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c: d\n\ne\n\nAssistant:",
            THREE,
        ),
        ("Be brief.\n\nHuman: a\n\nAssistant:", [("system", "Be brief."), ("user", "a")]),
        ("\n\nHuman: a", None),
        ("\n\nHuman: a\n\nAssistant: b", None),
        ("a\n\nAssistant:", None),
        ("\n\nHuman:a\n\nAssistant:", None),
        ("", None),
    ],
)
def test_a_written_dialogue_becomes_its_messages(text, messages):
    found = from_text(text)
    assert (found and [(message["role"], message["content"]) for message in found]) == messages
    if messages:
        tokenizer = chatting(CHATML)
        wanted = chatml(*({"role": role, "content": content} for role, content in messages))
        assert tokenizer.decode(encode_prompt(tokenizer, text, Text(chat=True, max_prompt_tokens=200))) == wanted


def test_plain_text_begins_as_the_tokenizer_begins_it(tmp_path):
    own = train_tokenizer(["where is my parcel"] * 3, 280)
    own.save_pretrained(tmp_path)
    from transformers import AutoTokenizer

    assert beginning(AutoTokenizer.from_pretrained(tmp_path)) == (own.bos_token_id,)
    own.backend_tokenizer.post_processor = None  # a tokenizer that knows <bos> and puts nothing in front
    own.add_special_tokens({"bos_token": "<start>"})
    assert beginning(chatting(CHATML)) != ()
    text = Text(prompt_template="{prompt}")
    assert encode_prompt(own, "my", text) == own("my", add_special_tokens=False)["input_ids"]
    with pytest.raises(DataError, match="nothing to continue"):
        encode_prompt(own, "", text)


def test_a_base_that_was_trained_before_tokenizers_began_texts_keeps_its_beginning():
    old = train_tokenizer(["where is my parcel"] * 3, 280)
    old.backend_tokenizer.post_processor = None
    assert encode_prompt(old, "my", Text())[0] == old.bos_token_id


def test_the_end_of_an_answer_is_no_text():
    tokenizer = train_tokenizer(["where is my parcel"] * 3, 280)
    word = tokenizer("my", add_special_tokens=False)["input_ids"]
    tokenizer.kellet_ends = (tokenizer.eos_token_id, 50)
    batch = pad([[1]] * 2, [[*word, 50], [*word, tokenizer.eos_token_id]], 0)
    assert decode(tokenizer, batch.responses, batch.response_mask) == ["my", "my"]


def test_what_is_cut_is_told_and_bounded(caplog):
    text = Text(max_prompt_tokens=4, max_cut_prompts=0.5, max_cut_responses=0)
    tell_cut(0, 10, "prompts", text, "a.parquet")
    assert caplog.messages == []
    tell_cut(5, 10, "prompts", text, "a.parquet")
    (told,) = caplog.messages
    assert told.startswith("5 of 10 prompts (50%) of a.parquet are longer than text.max_prompt_tokens (4)")
    with pytest.raises(DataError, match=r"6 of 10 prompts \(60%\).* more than text.max_cut_prompts \(0.5\) allows"):
        tell_cut(6, 10, "prompts", text, "a.parquet")
    with pytest.raises(
        DataError, match=r"1 of 10 responses .*text.max_response_tokens \(96\).*max_cut_responses \(0\)"
    ):
        tell_cut(1, 10, "responses", text, "a.parquet")


def test_counts_are_in_card_and_history(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    table: pd.DataFrame = tiny.pairs()
    long = table["split"].isin(["validation", "train"]) & (table.index % 8 < 4)
    table.loc[long, "prompt"] = "Once upon a time there was a parcel, and nobody knew where. " * 3 + table["prompt"]
    table.loc[table["split"] == "validation", "chosen"] += " and " * 30
    table.to_parquet(tmp_path / "p.parquet")
    base = tiny.folder() / "base"
    short = tiny.config(
        text={"max_prompt_tokens": 44}, policy={"iterations": 1, "batch_size": 64, "minibatch_size": 64}
    )
    queries = encode_queries(tiny.base()[1], list(table.loc[table["split"] == "train", "prompt"]), short.text)
    share = sum(query.cut for query in queries) / len(queries)
    assert 0.4 < share < 0.7
    card = train_reward(short, tmp_path / "p.parquet", base, tmp_path / "reward")
    assert card["cut"]["responses"] == 0.5  # every chosen one
    assert card["cut"]["prompts"] == 1.0
    assert any(
        "50.0% of the answers are longer than text.max_response_tokens (10)" in line for line in card["warnings"]
    )
    assert "are longer than text.max_response_tokens" in (tmp_path / "reward/card.md").read_text()
    train_policy(short, tmp_path / "p.parquet", base, tmp_path / "reward", tmp_path / "policy")
    (row,) = [json.loads(line) for line in (tmp_path / "policy/history.jsonl").read_text().splitlines()]
    assert row["tokens/prompts_cut_share"] == share  # one batch is all prompts
    assert any("text.max_prompt_tokens (44)" in message for message in caplog.messages)
    bounded = tiny.config(text={"max_prompt_tokens": 44, "max_cut_prompts": 0.1})
    for stage in (
        lambda: train_reward(bounded, tmp_path / "p.parquet", base, tmp_path / "none"),
        lambda: train_policy(bounded, tmp_path / "p.parquet", base, tmp_path / "reward", tmp_path / "none"),
    ):
        with pytest.raises(DataError, match=r"text\.max_cut_prompts"):
            stage()
    assert not (tmp_path / "none").exists()
