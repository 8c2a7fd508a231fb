"""Words of any script against what Unicode says, and what of a text can be seen."""

import re
import sys

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from kellet.stats.words import BLANK, IDLE, is_blank, seen, word_count, words

LIVING = {  # sentences of today's scripts without spaces
    "Chinese": "我的包裹在哪里？订单号是12345。",
    "Japanese": "ありがとうございます。カスタマーサービスに連絡しました。",
    "Thai": "ขอบคุณครับ พัสดุของฉันอยู่ที่ไหน",
    "Lao": "ຂອບໃຈ",
    "Khmer": "អរគុណ",
    "Burmese": "ကျေးဇူးတင်ပါတယ်",
    "Tibetan": "ཐུགས་རྗེ་ཆེ།",
    "mixed": "iPhone手机 don't 3.14元",
}


@pytest.mark.parametrize("language", LIVING)
def test_words_are_those_of_unicode_s_default_boundaries(language: str) -> None:
    """The library regex implements UAX #29; a segment with a letter or a digit is a word."""
    text = LIVING[language]
    segments = regex.split(r"\b", text, flags=regex.WORD | regex.V1)
    expected = [segment for segment in segments if regex.search(r"[\p{L}\p{N}]", segment)]
    assert word_count(text) == len(expected) > 1
    # the same words too, but for the vowel signs and tone marks that hang on a letter
    assert [regex.sub(r"\p{M}", "", word) for word in words(text)] == [regex.sub(r"\p{M}", "", w) for w in expected]


spaced = st.text(
    st.characters(exclude_categories=["Cs"], max_codepoint=0xDFF) | st.sampled_from("한국어 اردو हिन्दी 👍🏽 ‏ …—“”、。")
)


@given(spaced)
def test_where_words_stand_between_spaces_they_are_what_split_gives(text: str) -> None:
    assert words(text) == text.split()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_has_a_word_for_each_token_at_least_and_two_texts_add_up(text: str) -> None:
    assert word_count(text) >= len(text.split())
    assert words(f"{text} {text}") == words(text) * 2


def test_an_answer_without_spaces_is_longer_when_it_says_more() -> None:
    short = "您的包裹明天到。"
    assert word_count(short) == 7
    assert word_count(short * 3) == 21
    assert word_count("。。") == 1


def test_what_shows_nothing_is_what_unicode_ignores_by_default_and_the_blank_signs() -> None:
    shown = re.compile(f"[^{BLANK}]")
    ignorable = regex.compile(r"[\p{Default_Ignorable_Code_Point}\s]")
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    extra = {c for c in every if not shown.match(c) and not ignorable.match(c)} - set("\x1c\x1d\x1e\x1f")
    assert extra == set("\u2800\ufff9\ufffa\ufffb\U0001d159")
    assert not any(shown.match(c) for c in every if ignorable.match(c))
    assert set(re.findall(f"[{IDLE}]", "".join(every))) < {c for c in every if not shown.match(c)}


def test_emoji_marks_and_right_to_left_text_are_seen() -> None:
    for text in ("👍🏽", "❤️", "é", "اردو", "‏שלום", "क्ष", "\u0600", "ZWNJ می\u200cروم"):
        assert not is_blank(text)
    assert is_blank("")
    assert is_blank("\u3164 \u200d\U000e0001\ufe0f\n\u180e")


@given(st.text(st.sampled_from("ab é👩👧\u200d\u200c\ufe0f\u202e\u2066\u00ad\ufeff\n"), max_size=10))
def test_a_key_knows_no_invisible_characters_and_no_others_go(text: str) -> None:
    assert seen(text) == re.sub("[\u200d\u200c\ufe0f\u202e\u2066\u00ad\ufeff]", "", text)


def test_flags_of_countries_that_are_spelled_in_tags_stay_apart() -> None:
    england, scotland = (
        "\U0001f3f4" + "".join(chr(0xE0000 + ord(c)) for c in name) + "\U000e007f" for name in ("gbeng", "gbsct")
    )
    assert seen(england) == england != seen(scotland)
    assert seen("\U000e0067a") == "a"
