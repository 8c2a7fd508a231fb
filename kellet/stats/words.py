"""Words of a text in any script, and what of a text can be seen. Nothing here changes a text that is kept.

Where words stand between spaces, a word is what ``str.split`` gives. Chinese, Japanese, Thai, Lao, Khmer, Burmese and
Tibetan put no space between words; there the default word boundaries of Unicode are taken (UAX #29): an ideograph, a
hiragana or a letter of the South-East Asian scripts is one, a run of katakana is one, a Tibetan syllable is one. That
is no linguist's word, but it grows with the answer, which is what length is asked for.
"""

import re
from unicodedata import category

BLANK = (
    r"\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d159\U0001d173-\U0001d17a"
    r"\U000e0000-\U000e0fff"
)
"""What shows nothing by itself, as the inside of a regular expression's class: white space, the characters that Unicode
calls default-ignorable (DerivedCoreProperties.txt: zero-width, format, filler, variation, tag), interlinear anchors and
the blank signs of Braille and music."""
IDLE = r"\u00ad\u115f\u1160\u180e\u200b\u200e\u200f\u2060-\u2064\u3164\ufeff\uffa0\ufff9-\ufffb"
"""Those that do not change how the text around them reads: not joiners, variation selectors, tags, overrides."""
_FLAG = "\U0001f3f4[\U000e0020-\U000e007e]+\U000e007f"  # England, Scotland: a black flag with the name in tags
_UNSEEN = re.compile(rf"({_FLAG})|(?!\s)[{BLANK}]")
_VISIBLE = re.compile(f"[^{BLANK}]")
_IDLE = re.compile(f"[{IDLE}]")
_SOUTH_EAST = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17DC), (0x1950, 0x19DF)),
    *((0x1A20, 0x1AAF), (0xA9E0, 0xA9FF), (0xAA60, 0xAADF)),
)
_LETTERS = "".join(chr(c) for low, high in _SOUTH_EAST for c in range(low, high + 1) if category(chr(c))[0] == "L")
_IDEOGRAPHS = r"\u3005-\u3007\u3021-\u3029\u3038-\u303b\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
_SINGLE = _IDEOGRAPHS + r"\u3041-\u3096\u309d-\u309f\U0001b001-\U0001b11f\U0001f200" + _LETTERS
_KATAKANA = r"\u3031-\u3035\u309b\u309c\u30a0-\u30fa\u30fc-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_TIBETAN = r"\u0f00\u0f20-\u0f33\u0f35\u0f37\u0f39\u0f3e-\u0fbc\u0fc6"
_UNSPACED = re.compile(f"[{_SINGLE}{_KATAKANA}{_TIBETAN}]")
_OTHER = rf"(?:[^\W_{_SINGLE}{_KATAKANA}{_TIBETAN}]|[\u0300-\u036f])+"
_WORD = re.compile(rf"[{_SINGLE}]|[{_KATAKANA}]+|[{_TIBETAN}]+|{_OTHER}(?:['’.,]{_OTHER})*")


def words(text: str) -> list[str]:
    """The words of ``text``; ``text.split()`` where it has no character of a script without spaces."""
    tokens = text.split()
    if text.isascii() or _UNSPACED.search(text) is None:
        return tokens
    return [word for token in tokens for word in (_WORD.findall(token) if _UNSPACED.search(token) else [token])]


def characters_a_word(text: str) -> int:
    """How many of :func:`words` say about as much as a word between spaces: 1, or 2 in a script without spaces."""
    return 1 if text.isascii() or _UNSPACED.search(text) is None else 2


def word_count(text: str) -> int:
    """The number of :func:`words`."""
    return len(words(text))


def is_blank(text: str) -> bool:
    """Whether ``text`` shows nothing: it is empty, or white space and invisible characters alone."""
    return _VISIBLE.search(text) is None


def seen(text: str) -> str:
    """``text`` without the characters that show nothing, white space apart: a key for near copies, not for keeping.

    Joiners of emoji and of Persian or Indic words go too; a flag that is spelled in tags stays.
    """
    return text if text.isascii() else _UNSEEN.sub(lambda match: match[1] or "", text)


def as_read(text: str) -> str:
    """``text`` without white space at its ends and characters that do not change how it reads: to compare answers."""
    return text.strip() if text.isascii() else _IDLE.sub("", text).strip()
