"""Answers chosen by rule, and the texts of their tokens."""

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel
from transformers import PreTrainedTokenizerFast

from kellet.evaluation.highlights import choose
from kellet.evaluation.token_kl import pieces, token_kl


def rows():
    """Six prompts; by hand: gains 5, 1, 2, -9, 0, 3, lengths of b, KL of a."""
    reward, length = [5.0, 1.0, 2.0, -9.0, 0.0, 3.0], [10, 99, 10, 10, 10, 10]
    kl = [1.0, 1.0, 1.0, 1.0, 7.0, 1.0]
    columns = {"prompt_id": list("abcdef"), "sample": 0}
    candidate = pd.DataFrame(
        columns | {"system": "candidate", "reward": reward, "length_tokens": length, "kl_nats": kl}
    )
    reference = pd.DataFrame(columns | {"system": "reference", "reward": 0.0, "length_tokens": 10, "kl_nats": np.nan})
    return pd.concat([candidate, reference], ignore_index=True)


def test_each_rule_chooses_its_answer_and_none_twice():
    chosen = choose(rows())
    assert [one.prompt_id for one in chosen] == [
        "a",
        "b",
        "d",
        "c",
        "e",
    ]  # b is the lower of the two in the middle (1, 2)
    rules = [one.rule.split()[0] for one in chosen]
    assert rules == ["Largest", "Median", "Largest", "Longest", "Most"]


def test_the_longest_is_chosen_by_its_length():
    table = rows()
    table.loc[table["prompt_id"] == "b", "reward"] = 4.0  # no longer in the middle
    assert {one.rule: one.prompt_id for one in choose(table)}["Longest answer of the candidate"] == "b"


def test_the_order_of_the_rows_does_not_matter():
    assert choose(rows().sample(frac=1, random_state=1)) == choose(rows())


def test_what_cannot_be_chosen_is_left_out():
    table = rows()
    assert len(choose(table.assign(kl_nats=np.nan))) == 4
    one = table[table["prompt_id"] == "a"]
    assert [item.rule for item in choose(one)] == ["Largest gain of reward"]
    table["reward"] = table["reward"].abs()
    assert choose(table)[2].rule == "Smallest gain of reward"


def byte_tokenizer():
    """A tokenizer with one token a byte, as the rare characters of a byte-level BPE have them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=inner)


def test_a_character_of_several_tokens_stands_at_the_last_of_them():
    tokenizer = byte_tokenizer()
    ids = tokenizer("a €!", add_special_tokens=False)["input_ids"]
    assert len(ids) == 6  # the euro sign is three bytes in UTF-8
    assert pieces(tokenizer, ids) == ["a", " ", "", "", "€", "!"]
    assert "".join(pieces(tokenizer, ids[:4])) == tokenizer.decode(ids[:4])  # cut within the character


def test_the_traces_of_the_chosen_answers_are_kept():
    table = rows()
    tokenizer = byte_tokenizer()
    ids = np.array(tokenizer("ok", add_special_tokens=False)["input_ids"])
    table["token_ids"] = [ids] * len(table)
    table["token_kl"] = [np.array([number, 0.123456]) for number in range(len(table))]
    first = token_kl(table, tokenizer)["answers"][0]
    assert first == {
        "rule": "Largest gain of reward",
        "prompt_id": "a",
        "sample": 0,
        "tokens": ["o", "k"],
        "nats": [0.0, pytest.approx(0.1235)],
    }
