"""The support world: the same bytes from the same seed, gold worked by hand, and labels that like length as asked."""

import gzip
import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from kellet.config.data import World
from kellet.data.world import (
    Counts,
    count,
    gold,
    intent_of,
    sample_answer,
    sample_prompts,
    synthesise,
    texts,
    write_world,
)
from kellet.errors import DataError

LATE = "Hi, where is my lamp? The order is A123. Thanks."
ARRIVES = "Late parcels usually arrive within three more working days."
FOLLOW, FOLLOW_AGAIN = (
    "You can follow the parcel with the tracking link.",
    "The tracking link shows where the parcel is now.",
)
REPLACED = "After ten days we send a replacement for free."
REFUND, CARD = "Refunds are paid within five days of the return.", "The money goes back to your original payment card."
CANCEL, LABEL = (
    "Orders can be cancelled until they leave the warehouse.",
    "Print the return label from your online account page.",
)
THANKS, VALUE = (
    "Thank you so very much for taking the time to write to us today.",
    "We truly value you as a loyal member of our large and growing family.",
)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    small = World(prompts=40)
    written = []
    for number, world in enumerate((small, small, small.model_copy(update={"seed": 1}))):
        path = tmp_path / f"{number}.jsonl.gz"
        assert write_world(world, path) == 80
        written.append(path.read_bytes())
    assert written[0] == written[1] != written[2]
    assert written[0][3:8] == bytes(5)  # RFC 1952: no flag, so no file name, and no time


def test_a_row_holds_what_preferences_need(tmp_path):
    write_world(World(prompts=40), tmp_path / "a.jsonl.gz")
    rows = [json.loads(line) for line in gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()).splitlines()]
    assert len(rows) == 80
    for row in rows:
        assert list(row) == ["prompt", "chosen", "rejected", "annotator", "created_at"]
        assert row["chosen"] != row["rejected"]
    assert [row["created_at"] for row in rows] == sorted(row["created_at"] for row in rows)
    assert {row["annotator"] for row in rows} == {f"annotator-{number:02d}" for number in range(8)}


def test_worlds_that_differ_in_the_annotators_hold_the_same_answers():
    worlds = [
        World(prompts=60, length_bias=0.0, length_bias_spread=0.0),
        World(prompts=60, length_bias=3.0),
        World(prompts=60, gold_weight=0.5, annotators=3),
    ]
    answers = [[(row["prompt"], {row["chosen"], row["rejected"]}) for row in synthesise(world)] for world in worlds]
    assert answers[0] == answers[1] == answers[2]
    labels = [[row["chosen"] for row in synthesise(world)] for world in worlds]
    assert labels[0] != labels[1]


@pytest.mark.parametrize(
    ("sentences", "counts", "value"),
    [
        ([ARRIVES, FOLLOW, REPLACED], Counts(3, 0, 0, 0), 1.0),
        ([FOLLOW, REFUND, THANKS], Counts(1, 1, 1, 0), -0.2),  # 1/3 - 1/3 - 1/5
        ([FOLLOW, FOLLOW_AGAIN], Counts(1, 0, 0, 1), 1 / 12),  # the same fact in other words: 1/3 - 1/4
        ([ARRIVES, FOLLOW, "Parcels the of usually three"], Counts(2, 0, 1, 0), 7 / 15),  # garbled: 2/3 - 1/5
        ([ARRIVES, "You can follow the parcel with"], Counts(1, 0, 1, 0), 2 / 15),  # cut off: 1/3 - 1/5
        ([THANKS, VALUE, THANKS], Counts(0, 0, 2, 1), -0.65),  # -2/5 - 1/4
        ([REFUND, CARD, CANCEL, LABEL], Counts(0, 4, 0, 0), -1.0),  # -4/3, clipped
        (["late PARCELS usually arrive, within three more working days!"], Counts(1, 0, 0, 0), 1 / 3),
        ([], Counts(0, 0, 0, 0), 0.0),
    ],
)
def test_gold_by_hand(sentences, counts, value):
    assert count(LATE, " ".join(sentences)) == counts
    assert gold(LATE, " ".join(sentences)) == pytest.approx(value, abs=1e-12)


SENTENCES = [*texts().filler, *(wording for facts in texts().facts.values() for fact in facts for wording in fact)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(SENTENCES), max_size=8), st.randoms(use_true_random=False))
def test_gold_does_not_see_order_and_never_rewards_more_idle_talk(sentences, random):
    value = gold(LATE, " ".join(sentences))
    shuffled = list(sentences)
    random.shuffle(shuffled)
    assert gold(LATE, " ".join(shuffled)) == pytest.approx(value)
    assert -1 <= value <= 1
    for more in [THANKS, *sentences]:
        assert gold(LATE, " ".join([*sentences, more])) <= value


def test_every_message_has_its_intent():
    world_texts = texts()
    for intent, messages in world_texts.messages.items():
        for message, opening, closing in itertools.product(messages, world_texts.openings, world_texts.closings):
            for product in world_texts.products:
                assert intent_of(f"{opening}{message.format(product=product, order='H999')}{closing}") == intent


def test_another_text_has_no_gold():
    with pytest.raises(DataError, match="Where is the moon"):
        gold("Where is the moon?", ARRIVES)


def test_a_sentence_means_one_thing():
    assert len(SENTENCES) == len({sentence.lower() for sentence in SENTENCES})


def test_thousands_of_distinct_prompts():
    prompts = sample_prompts(World(prompts=5000), np.random.default_rng(0))
    assert len(set(prompts)) == len(prompts) == 5000
    shares = np.bincount([sorted(texts().messages).index(intent_of(prompt)) for prompt in prompts[:1200]]) / 1200
    assert len(shares) == 12
    assert all(abs(shares - 1 / 12) < 4 * math.sqrt(1 / 12 * 11 / 12 / 1200))


def labelled(length_bias, **other):
    """Of each pair of unequal length: gold of the longer less that of the shorter; whether the longer was chosen."""
    world = World(**{"prompts": 2000, "length_bias": length_bias, "length_bias_spread": 0.0, **other})
    gaps, chosen = [], []
    for row in synthesise(world):
        words = len(row["chosen"].split()) - len(row["rejected"].split())
        if words:
            gap = gold(row["prompt"], row["chosen"]) - gold(row["prompt"], row["rejected"])
            gaps.append(gap if words > 0 else -gap)
            chosen.append(words > 0)
    return np.array(gaps), np.array(chosen)


@pytest.fixture(scope="module")
def without_bias():
    return labelled(0.0)


def test_without_length_bias_labels_do_not_see_length(without_bias):
    gaps, longer_chosen = without_bias
    equal = np.abs(gaps) < 1e-9
    assert equal.sum() > 40
    assert binomtest(int(longer_chosen[equal].sum()), int(equal.sum()), 0.5).pvalue > 0.001
    # to annotators who hardly see gold, all pairs are equal
    _, longer_chosen = labelled(0.0, gold_weight=1e-9)
    assert binomtest(int(longer_chosen.sum()), len(longer_chosen), 0.5).pvalue > 0.001


def test_labels_follow_gold_by_bradley_terry(without_bias):
    gaps, longer_chosen = without_bias
    # σ(3 · 1/3) = 0.7311 and σ(-3 · 1/3) = 0.2689 from a table of the logistic function
    for gap, share in ((1 / 3, 0.7311), (-1 / 3, 0.2689)):
        here = np.abs(gaps - gap) < 1e-9
        assert here.sum() > 50
        assert binomtest(int(longer_chosen[here].sum()), int(here.sum()), share).pvalue > 0.001


def test_the_longer_answer_is_chosen_more_often_the_more_length_is_liked(without_bias):
    shares = [without_bias[1].mean(), *(labelled(bias)[1].mean() for bias in (0.5, 1.0, 2.0))]
    assert all(more > less + 0.02 for less, more in itertools.pairwise(shares))


def test_an_ideal_answer_is_no_longer_than_a_sampled_one():
    rng = np.random.default_rng(0)
    world_texts = texts()
    sampled, ideal = [], []
    for intent in sorted(world_texts.facts):
        sampled += [len(sample_answer(intent, rng).split()) for _ in range(150)]
        ideal += [len(wording.split()) for fact in world_texts.facts[intent] for wording in fact]
    assert 0.7 < 3 * np.mean(ideal) / np.mean(sampled) < 1.03
