"""The suite: every row check and every table check finds what it is for, and nothing else."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kellet.config.data import Data, Split, Validation
from kellet.data.conversation import to_prompt
from kellet.data.data_docs import write_docs
from kellet.data.preferences import read_file
from kellet.data.prepare import examine
from kellet.data.prompts import prompt_key
from kellet.data.suite import TROUBLE
from kellet.data.validation import TableReport, check_pairs, check_rows, check_table, row_keys
from kellet.errors import DataError
from tests.helpers.rows import row, write_jsonl

DIALOGUE = "\n\nHuman: Hi {}\n\nAssistant: {}"


def reasons(tmp_path: Path, *rows: dict[str, Any], **limits: Any) -> dict[int, str]:
    """Row number -> reason, by the whole suite."""
    read, _ = read_file(write_jsonl(tmp_path / "x.jsonl", rows))
    first = check_rows(read, Validation(**limits)).reasons
    result = first.combine_first(check_pairs(row_keys(read, prompt_key)).reasons)
    return {int(index): reason for index, reason in result.items()}


def test_each_bad_row_gets_its_reason_and_sound_ones_none(tmp_path: Path) -> None:
    bad = [
        (row(0, prompt=None), "prompt is missing"),
        (row(1, rejected=None), "rejected is missing"),
        (row(2, prompt=" \n"), "prompt is empty"),
        (row(3, chosen=""), "chosen is empty"),
        (row(4, rejected="\u200b\u00a0"), "rejected is empty"),
        (row(12, chosen="\u3164\u3164"), "chosen is empty"),
        (row(13, chosen="\u2800\n\U000e0001"), "chosen is empty"),
        (row(14, prompt="\ufe0f\u202e\u00ad"), "prompt is empty"),
        (row(15, chosen="Same.", rejected="Sa\u200bme.\ufeff"), "chosen and rejected are equal"),
        (row(5, chosen="Same.", rejected=" Same.\n"), "chosen and rejected are equal"),
        (row(6, prompt="p" * 51), "prompt is longer than 50 characters"),
        (row(7, rejected="r" * 61), "rejected is longer than 60 characters"),
        (row(8, chosen="caf\ufffd"), "chosen has encoding trouble"),
        (row(9, prompt="Where\x00?"), "prompt has encoding trouble"),
    ]
    sound = [row(10, chosen="Façade\tin\r\nSÃO PAULO, 20 °C – “yes” 👍 naïve"), row(11, prompt="p" * 50)]
    sound += [
        row(20, prompt="أين طردي؟", chosen="👍🏽", rejected="👎"),
        row(21, chosen="می\u200cروم", rejected="میروم"),
    ]
    result = reasons(tmp_path, *(each for each, _ in bad), *sound, max_prompt_chars=50, max_answer_chars=60)
    assert result == {number: reason for number, (_, reason) in enumerate(bad)}


@pytest.mark.parametrize("text", ["é", "ü", "ñ", "ß", "É", "’", "“", "–", "…", "°", "👍", "\ufffd"])
def test_text_read_in_the_wrong_encoding_is_detected(text: str) -> None:
    """What Python's cp1252 makes of UTF-8 is the definition of this mojibake."""
    assert re.search(TROUBLE, text.encode().decode("cp1252", errors="replace"))
    assert (text == "\ufffd") == bool(re.search(TROUBLE, text))


def test_dialogues_that_diverge_before_the_last_turn_are_refused(tmp_path: Path) -> None:
    pair = {"chosen": DIALOGUE.format("you", "Yes"), "rejected": DIALOGUE.format("you", "No")}
    diverging = pair | {"rejected": DIALOGUE.format("there", "No")}
    twice = reasons(tmp_path, diverging, pair, pair)
    assert twice == {0: "prompts differ between the two sides", 2: "exact duplicate"}


def test_of_duplicates_the_first_is_kept_and_annotators_are_distinguished(tmp_path: Path) -> None:
    result = reasons(tmp_path, row(0, annotator="a"), row(0, annotator="b"), row(0, annotator="a"), row(0))
    assert result == {2: "exact duplicate"}


def test_contradictions_of_one_annotator_or_of_none_go_and_disagreement_stays(tmp_path: Path) -> None:
    def swapped(**who: str) -> dict[str, Any]:
        return row(0, chosen=row(0)["rejected"], rejected=row(0)["chosen"], **who)

    both = "the same answers are judged both ways"
    same = reasons(tmp_path, row(0, annotator="a"), row(1), swapped(annotator="a"))
    assert same == {0: both, 2: both}
    assert reasons(tmp_path, row(0), row(0), swapped()) == {0: both, 1: both, 2: both}
    assert reasons(tmp_path, row(0, annotator="a"), swapped(annotator="b"), swapped()) == {}


def table(pairs: int = 40, **columns: Any) -> pd.DataFrame:
    """Accepted pairs of which every second prefers the longer answer; 40 prompts over three splits."""
    frame = pd.DataFrame([row(n) for n in range(pairs)]).assign(source="x")
    frame["pair_id"] = [f"{n:016x}" for n in range(pairs)]
    frame["split"] = [("train", "validation", "test")[n % 3] for n in range(pairs)]
    return frame.assign(**columns)


def judged(frame: pd.DataFrame, quarantined: int = 0, **limits: Any) -> TableReport:
    data = Data(validation=Validation(**({"min_pairs": 10} | limits)))
    missing = {"rejected_prompt": frame["prompt"], "annotator": None, "tie": False, "label": None}
    keys = row_keys(pd.DataFrame(missing, frame.index).assign(**frame), prompt_key)
    keys = keys.assign(**frame[[name for name in ("pair_id", "split") if name in frame]])
    return check_table(keys, {"quarantined": quarantined, "rows_in": len(frame) + quarantined}, data)[0]


LONG, SHORT, THREE = "a b c d", "a b", ["a b c", "x y z"] * 20
BAD_TABLES: dict[str, tuple[pd.DataFrame, str, str]] = {
    "few": (table(9), "expect_table_row_count_to_be_between", "got 9"),
    "one prompt": (table(prompt="p", split="train"), "expect_column_unique_value_count_to_be_between", "got 1"),
    "leak": (
        table(prompt=["p", *"abcdefghijklmnopqrstuvwxyz0123456789ABC"[:38], "p"]),
        "expect_no_prompt_in",
        "got 1 ",
    ),
    "no test split": (table(split=["train", "validation"] * 20), "expect_column_distinct_values", "none in test"),
    "twice": (table(pair_id=["0" * 16] * 40), "expect_column_values_to_be_unique", "got 40 exceptions"),
    "bad ids": (table(pair_id=[f"{n}" for n in range(40)]), "expect_column_values_to_match_regex", "got 40"),
    "always longer": (
        table(chosen=LONG, rejected=SHORT),
        "expect_labels_to_vary",
        "longer answer was chosen in all 40",
    ),
    "one loser": (table(rejected="a b c d e f"), "expect_labels_to_vary", "rejected answer is the same text in all 40"),
    "label": (table(label="1"), "expect_labels_to_vary", "label column has one value in all 40"),
    "long band": (table(chosen=[LONG] * 38 + [SHORT, "a"], rejected=THREE), "expect_longer_preferred", "got 0.95"),
    "short band": (table(chosen=[SHORT] * 38 + [LONG, LONG], rejected=THREE), "expect_longer_preferred", "got 0.05"),
}


def test_a_sound_table_passes_without_warnings() -> None:
    report = judged(table())
    assert report.failed == ()
    assert report.warnings == ()
    report.raise_if_failed()


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_fails_by_the_expectation_for_it(name: str) -> None:
    frame, expectation, observed = BAD_TABLES[name]
    with pytest.raises(DataError) as error:
        judged(frame).raise_if_failed()
    assert re.search(f"{expectation}.*{re.escape(observed)}", str(error.value)), error.value


def test_the_quarantined_share_is_held_to_its_limit() -> None:
    assert judged(table(40), quarantined=10).failed == ()
    assert [check.observed for check in judged(table(40), quarantined=11).failed] == ["0.2157 (11 of 51 rows)"]


def test_outside_the_inner_band_the_table_passes_with_a_warning() -> None:
    report = judged(table(chosen=[LONG] * 30 + [SHORT] * 10, rejected=THREE))
    assert report.failed == ()
    assert len(report.warnings) == 1
    assert "[0.35, 0.65]" in report.warnings[0]
    assert "got 0.75" in report.warnings[0]


def test_pairs_of_equal_length_do_not_count_in_the_band() -> None:
    chosen = ["a b c"] * 30 + [LONG] * 5 + [SHORT] * 5
    report = judged(table(chosen=chosen, rejected=THREE))
    assert report.failed == ()
    assert report.warnings == ()


def test_answers_without_spaces_between_words_have_a_length() -> None:
    long, short = "您的包裹今天已经寄出，明天就到。", "不知道。"
    with pytest.raises(DataError, match="the longer answer was chosen in all 40 pairs"):
        judged(table(chosen=long, rejected=[short, "不清楚啊。"] * 20)).raise_if_failed()
    report = judged(table(chosen=[long, short] * 20, rejected=[short, long] * 20))
    assert report.failed == ()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is it?", "where  IS\u00a0it?\n"),
        ("Where is it?", "Where\u200b is\u2060 it?\u202c\ufeff"),
        ("Was ist mit Jürgen?", "Was ist mit Ju\u0308rgen?"),
        ("👩‍👩‍👧 ❤️", "👩👩👧 ❤"),
        ("می\u200cروم", "میروم"),
    ],
)
def test_near_copies_have_one_key_and_stay_as_they_are(one: str, other: str) -> None:
    assert prompt_key(one) == prompt_key(other)
    assert prompt_key(to_prompt([{"role": "user", "content": one}])) == prompt_key(f"\n\nHuman: {other}\n\nAssistant:")


def test_what_reads_differently_is_no_near_copy() -> None:
    texts = ["x2", "x²", "u", "ü", "1/2", "½", "שלום", "سلام", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "🏴󠁧󠁢󠁳󠁣󠁴󠁿", "🏴", "👍🏽", "👍"]
    assert len({prompt_key(text) for text in texts}) == len(texts)


def test_data_docs_need_no_network_and_show_no_text_of_the_data(tmp_path: Path) -> None:
    nasty = "<i onclick=alert(1)>"
    rows = [row(n) for n in range(40)] + [row(50, chosen=f"Ã©{nasty}"), row(51, prompt=nasty, rejected="")]
    data = Data(validation=Validation(min_pairs=10), split=Split(validation=0.3, test=0.3))
    docs = tmp_path / "docs"
    examine([("x", write_jsonl(tmp_path / "x.jsonl", rows))], data, tmp_path, docs)
    pages = {path.name: path.read_text(encoding="utf-8") for path in docs.iterdir()}
    assert sorted(pages) == ["index.html", "pairs.html", "rows.html", "table.html"]
    for page in pages.values():
        assert "alert(1)" not in page
        assert "<script" not in page
        assert "http://" not in page
        assert "https://" not in page
        for link in re.findall(r'href="([^"#]+)[^"]*"', page):
            assert link in pages
    assert "the table can be used" in pages["index.html"]
    assert "chosen has encoding trouble" in pages["index.html"]
    assert "Quarantine: chosen has encoding trouble" in pages["rows.html"]


def test_what_stands_in_the_index_is_escaped(tmp_path: Path) -> None:
    write_docs(tmp_path / "docs", TableReport(()), {"<b>&": 1}, {})
    assert "&lt;b&gt;&amp;" in (tmp_path / "docs/index.html").read_text()


def test_an_expectation_that_cannot_be_computed_is_raised_not_counted() -> None:
    with pytest.raises(KeyError, match="pair_id"):
        judged(table().drop(columns="pair_id"))
