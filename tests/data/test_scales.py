"""Who won by the whole set of values of a column; expected sides are worked by hand."""

from pathlib import Path
from typing import Any

import pytest

from kellet.data.agreement import Agreement, agreement
from kellet.data.answer_names import Answers, names_an_answer, tokens, word_side
from kellet.data.form import Said
from kellet.data.preferences import read_file
from kellet.data.scales import readings, told_reading
from kellet.data.survey import Column
from kellet.errors import DataError
from tests.helpers.rows import write_jsonl

LETTERS, ZERO, ONE = (Answers(f"response_{a}", f"response_{b}") for a, b in ("ab", "01", "12"))
SHP, MAPPED_ROUND = Answers("human_ref_A", "human_ref_B"), Answers("response_b", "response_a")


def column(name: str, *values: Any) -> Column:
    made = Column(name)
    for line, value in enumerate(values, 1):
        made.add(value, line)
    return made


def sides(name: str, answers: Answers, *values: Any) -> list[list[str | None]]:
    """Who wins by each value, in each reading."""
    return [[reading.side(value) for value in values] for reading in readings(column(name, *values), answers, name)]


ONE_READING = {
    "words": ("winner", LETTERS, ("a", "B", "tie"), "a b tie"),
    "sides": ("vote", LETTERS, ("left", "Right", "neither"), "a b tie"),
    "1, 2": ("winner", LETTERS, (1, 2), "a b"),
    "1, 2 in a CSV file": ("winner", LETTERS, ("1", "2.0"), "a b"),
    "1, 2 and a word": ("winner", LETTERS, (1, 2, "tie"), "a b tie"),
    "1, 2 and a code for missing": ("winner", LETTERS, (*[1, 2] * 6, 99), "a b " * 6 + "-"),
    "1, 1.5, 2": ("preference", Answers("output_1", "output_2"), (1, 2, 1.5), "a b tie"),
    "between 1 and 2": ("preference", Answers("output_1", "output_2"), (1.02, 1.97), "a b"),
    "numbers of the answers": ("better_response_id", ZERO, (0, 1), "a b"),
    "the number of one answer": ("winner", ONE, (1, 1), "a a"),
    "numbers in words": ("winner", ZERO, ("response 0", "Response 1"), "a b"),
    "an index": ("best_index", LETTERS, (0, 1), "a b"),
    "SHP": ("labels", SHP, (0, 1), "b a"),
    "HelpSteer": ("overall_preference", Answers("response1", "response2"), (-3, 2, 0), "a b tie"),
    "HelpSteer2": ("preference_strength", ONE, (-1, 3), "a b"),
    "true of the first": ("a_is_better", LETTERS, (True, False), "a b"),
    "true of the second": ("is_response_1_better", ZERO, (1, 0), "b a"),
    "true in a CSV file": ("prefers_b", LETTERS, ("True", "False"), "b a"),
    "levels with a number": ("preference", LETTERS, ("1 - A much better", "3: tie", "5. B much better"), "a tie b"),
    "ordinals": ("choice", LETTERS, ("1st", "2nd"), "a b"),
    "yes of the second": ("b_is_better", LETTERS, ("Yes", "no"), "b a"),
    "columns mapped the other way round": ("winner", MAPPED_ROUND, ("A", "B"), "b a"),
}


@pytest.mark.parametrize("case", ONE_READING)
def test_a_scale_with_one_reading(case: str) -> None:
    name, answers, values, wanted = ONE_READING[case]
    assert sides(name, answers, *values) == [[None if side == "-" else side for side in wanted.split()]]


SEVERAL = {
    "0, 1": ("label", LETTERS, (0, 1), ["a b", "b a"]),
    "0, 1 beside answers from 1": ("choice", ONE, (0, 1), ["a b", "b a"]),
    "1, 2 beside answers from 0": ("winner", ZERO, (1, 2), ["a b", "b a"]),
    "labels beside other names than SHP's": ("labels", LETTERS, (0, 1), ["a b", "b a"]),
    "true": ("label", LETTERS, (True, False), ["a b", "b a"]),
    "yes": ("winner", LETTERS, ("yes", "no"), ["a b", "b a"]),
    "true of the worse": ("a_is_less_preferred", LETTERS, (True, False), ["a b", "b a"]),
    "0, 1, 2": ("winner", LETTERS, (0, 1, 2), ["tie a b", "a b tie", "a tie b"]),
    "1, 2, 3": ("winner", LETTERS, (1, 2, 3), ["a b tie", "a tie b"]),
    "-1, 0, 1": ("score", LETTERS, (-1, 0, 1), ["a tie b", "b tie a"]),
    "-2, -1, 1, 2": ("vote", LETTERS, (-2, -1, 1, 2), ["a a b b", "b b a a"]),
    "1, 2 and many of 9 and 10": ("vote", LETTERS, (1, 2, 9, 10), ["a a b b", "b b a a"]),
    "1 to 5": ("preference", LETTERS, (1, 3, 5), ["a tie b", "b tie a"]),
    "1 to 7": ("preference", LETTERS, (3, 4, 7), ["a tie b", "b tie a"]),
    "0, 0.5, 1": ("preference", LETTERS, (0, 0.5, 1), ["a tie b", "b tie a"]),
    "always 2": ("winner", LETTERS, (2, 2), ["b b", "a a"]),
    "always 1": ("winner", LETTERS, (1, 1), ["b b", "a a"]),
    "mapped the other way round": ("winner", MAPPED_ROUND, (1, 2), ["a b", "b a"]),
}


@pytest.mark.parametrize("case", SEVERAL)
def test_a_scale_with_several_readings_has_them_all(case: str) -> None:
    name, answers, values, wanted = SEVERAL[case]
    assert sides(name, answers, *values) == [each.split() for each in wanted]


@pytest.mark.parametrize("values", [("a", 1), ("a", "1"), (True, 2), (1, 2, "perhaps"), (11, 12), (0.5, 3.5, 4)])
def test_a_mixed_or_strange_scale_has_no_reading(values: tuple[Any, ...]) -> None:
    assert sides("winner", LETTERS, *values) == []


WORDS = {
    "B gave a better answer": None,
    "I prefer B": "b",
    "2 > 1": "2",
    "1<2": "2",
    "A > 1": None,
    "2 - A is marginally better": "a",
    "A is slightly better": "a",
    "Response B": "b",
    "[[A]]": "a",
    "model_b": "b",
    "B is better than A": "b",
    "A>>B": "a",
    "[[B>A]]": "b",
    "A=B": "tie",
    "tie (bothbad)": "tie",
    "About the same": "tie",
    "response_a": "a",
    "first": "a",
    "A is worse": None,
    "not A": None,
    "B loses": None,
    "a bit better: B": None,
    "A < A": None,
    "neither a nor b": None,
    "unsure": None,
}


@pytest.mark.parametrize("text", WORDS)
def test_words_name_one_answer_or_none(text: str) -> None:
    assert word_side(text, LETTERS) == WORDS[text]


def test_names_are_split_into_words_and_endings() -> None:
    assert tokens("human_ref_A") == ("human", "ref", "a")
    assert tokens("responseA") == ("response", "a")
    assert tokens("summaries.0.text") == ("summaries", "0", "text")
    assert Answers("text1", "text2").endings == ("1", "2")
    assert Answers("left_text", "right_text").endings == ("left", "right")
    assert Answers("better", "other").endings is None
    assert [names_an_answer(text) for text in ("response_a", "Answer 1", "A", "Ask Bob", "")] == [
        True,
        True,
        *[False] * 3,
    ]


def comparisons(path: Path, name: str, values: list[Any], **more: list[Any]) -> Path:
    rows = [
        {"prompt": f"p{n}", "response_a": f"one {n}", "response_b": f"two {n}", name: value}
        | {column: each[n] for column, each in more.items()}
        for n, value in enumerate(values)
    ]
    return write_jsonl(path / "x.jsonl", rows)


def test_two_readings_are_refused_with_both_and_the_first_row(tmp_path: Path) -> None:
    path = comparisons(tmp_path, "label", [1, 0, 0])
    with pytest.raises(DataError) as error:
        read_file(path)
    message = str(error.value)
    assert "'label' holds 0, 1, which has 2 readings" in message
    assert "line 1 (1) is won by 'response_b'; --map-values 0=a,1=b" in message
    assert "line 1 (1) is won by 'response_a'; --map-values 0=b,1=a" in message
    rows, _ = read_file(path, said=Said(preferred_values={"0": "b", "1": "a"}))
    assert rows["chosen"].tolist() == ["one 0", "two 1", "two 2"]


def test_a_value_that_is_not_told_is_quarantined(tmp_path: Path) -> None:
    path = comparisons(tmp_path, "label", [1, 0, 7])
    rows, refused = read_file(path, said=Said(preferred_values={"0": "b", "1.0": "a"}))
    assert rows["chosen"].tolist() == ["one 0", "two 1"]
    assert refused[["line", "reason"]].to_numpy().tolist() == [
        [3, "preferred is 7, wanted 0, 1 (or a column's name; the answer)"]
    ]
    with pytest.raises(DataError, match=r"names x, and 'label' holds '1', '0', '7'"):
        read_file(path, said=Said(preferred_values={"x": "b"}))


def test_scores_of_both_answers_settle_which_reading_is_right_or_contradict_it(tmp_path: Path) -> None:
    first = [n % 3 == 0 for n in range(30)]
    high = {"score_a": [5 if won else 1 for won in first], "score_b": [1 if won else 5 for won in first]}
    for codes in ((1, 0), (0, 1)):
        path = comparisons(tmp_path, "label", [codes[0] if won else codes[1] for won in first], **high)
        rows, _ = read_file(path)
        assert rows["chosen"].tolist() == [f"{'one' if won else 'two'} {n}" for n, won in enumerate(first)]
    path = comparisons(tmp_path, "winner", [2 if won else 1 for won in first], **high)
    with pytest.raises(DataError, match=r"'winner' contradicts 'score_a' and 'score_b'.* only 0% of 30 rows"):
        read_file(path)
    rows, _ = read_file(path, said=Said(ignored=("score_a",)))
    assert rows["chosen"].tolist() == [f"{'two' if won else 'one'} {n}" for n, won in enumerate(first)]


def test_a_score_that_is_always_higher_on_one_side_tells_nothing(tmp_path: Path) -> None:
    """B has the higher score in all rows: it can neither contradict 1, 2 nor settle 0, 1."""
    always = {"score_a": [1] * 40, "score_b": [9] * 40}
    first = [n % 20 != 0 for n in range(40)]
    read, _ = read_file(comparisons(tmp_path, "winner", [1 if won else 2 for won in first], **always))
    assert read["chosen"].tolist() == [f"{'one' if won else 'two'} {n}" for n, won in enumerate(first)]
    with pytest.raises(DataError, match="2 readings"):
        read_file(comparisons(tmp_path, "label", [1 if won else 0 for won in first], **always))


def test_what_agreement_shows() -> None:
    """Worked by hand: 15 of 60 agree; Wilson's upper end of 0.25 at 60 is 0.37."""
    against = Agreement((8, 7), (30, 30))
    assert (against.share, against.balanced, against.contradicts(), against.settles()) == (0.25, 0.25, True, False)
    assert not Agreement((14, 13), (30, 30)).contradicts()
    assert Agreement((28, 27), (30, 30)).settles()
    assert not Agreement((40, 0), (40, 1)).settles()
    assert not Agreement((1, 1), (6, 6)).contradicts()
    assert agreement([("a", "a"), ("b", "a"), ("tie", "a"), ("b", ""), ("b", "b")]) == Agreement((1, 1), (2, 1))


def test_the_strength_of_a_preference_is_its_margin_when_that_is_told(tmp_path: Path) -> None:
    """|value - middle|: 3 of -3 about 0, 1 of 1."""
    rows = [{"prompt": "p", "response1": "x", "response2": "y", "overall_preference": value} for value in (-3, 1)]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    read, _ = read_file(path, said=Said({"margin": "overall_preference"}))
    assert read[["chosen", "margin"]].to_numpy().tolist() == [["x", 3.0], ["y", 1.0]]
    assert read_file(path)[0]["margin"].isna().all()


def test_a_middle_is_told_by_what_is_below_and_above() -> None:
    reading = told_reading({"<4": "b", "4": "tie", ">4": "a"})
    assert [reading.side(value) for value in (1, 4, 7)] == ["b", "tie", "a"]
    for wrong in ({"<4": "a"}, {"<4": "a", ">5": "b"}, {"<4": "a", ">4": "a"}, {"<x": "a", ">x": "b"}):
        with pytest.raises(ValueError, match="a middle is given by"):
            told_reading(wrong)


def test_a_winner_whose_name_says_one_answer_and_whose_text_is_the_other_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "answer_a": "b", "answer_b": "c", "preferred": vote} for vote in ("b", "a")]
    read, refused = read_file(write_jsonl(tmp_path / "x.jsonl", rows))
    assert read["chosen"].tolist() == ["b"]
    assert refused["reason"].tolist() == ["preferred is 'b', which says b, and is also the name or text of a"]


def test_scores_in_a_list_are_those_of_the_answers_in_their_order(tmp_path: Path) -> None:
    first = [n % 3 == 0 for n in range(30)]
    rating = [[5, 1] if won else [2, 4] for won in first]
    path = comparisons(tmp_path, "label", [0 if won else 1 for won in first], ratings=rating)
    rows, _ = read_file(path)
    assert rows["chosen"].tolist() == [f"{'one' if won else 'two'} {n}" for n, won in enumerate(first)]
