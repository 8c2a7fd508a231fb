"""Style counts worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kellet.data.world import texts
from kellet.stats.style import Style, sentences, style

NONE = Style(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("prompt", "response", "expected"),
    [
        ("", "", NONE),
        ("Where is it?", "It ships tomorrow.", NONE),
        ("x", "Thank you for writing! We are sorry. Your refund is paid.", NONE._replace(courtesy=2)),
        ("x", "We’re happy to help.\nHave a great day", NONE._replace(courtesy=2)),
        ("x", "Steps:\n1. Open it\n2) Close it\n- or\n* both", NONE._replace(structure=4)),
        ("x", "# Title\n**Bold title**\nText with **bold** and - a dash, 3. inside", NONE._replace(structure=2)),
        ("x", "Perhaps it is lost. I think, but I am not entirely sure.", NONE._replace(hedging=3)),
        ("x", "It is definitely 100% free, guaranteed.", NONE._replace(certainty=3)),
        # 'where is my' and 'is my parcel'; case and punctuation do not matter
        ("Where is my parcel?", "You ask: where is my parcel.", NONE._replace(echo=2)),
        # a b c | b c a | c a b | a b c: the last has been there
        ("x", "a b c. A b, c!", NONE._replace(repetition=1)),
        # six characters in place of three words: two such runs are in the question, one has been said before
        ("我的包裹在哪里？", "我的包裹在哪里", NONE._replace(echo=2)),
        ("x", "包裹明天送到。包裹明天送到！", NONE._replace(repetition=1)),
    ],
)
def test_counts_worked_by_hand(prompt, response, expected):
    assert style(prompt, response) == expected


def test_the_world_s_filler_is_courtesy_and_its_facts_are_plain():
    world_texts = texts()
    assert [style("", sentence).courtesy for sentence in world_texts.filler] == [1] * len(world_texts.filler)
    facts = [wording for facts in world_texts.facts.values() for fact in facts for wording in fact]
    assert [fact for fact in facts if style("", fact) != NONE] == []


@given(st.text(max_size=60), st.text(max_size=60))
def test_an_answer_and_itself_again_counts_twice_except_for_the_runs(prompt, response):
    once, twice = style(prompt, response), style(prompt, f"{response}\n{response}")
    assert min(once) >= 0
    assert twice[:4] == tuple(2 * count for count in once[:4])
    assert twice.repetition >= once.repetition


def test_sentences_end_at_punctuation_and_at_line_ends():
    assert sentences("One. Two!  Three?\nfour\n\n 5.6 is a number.") == [
        "One.",
        "Two!",
        "Three?",
        "four",
        "5.6 is a number.",
    ]
    assert sentences(" \n ") == []
    assert sentences("今天寄出。明天到！？「好。」谢谢") == ["今天寄出。", "明天到！？", "「好。」谢谢"]
