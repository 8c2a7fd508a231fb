"""Chosen and rejected under other names, and questions that say who won; what is right is worked by hand."""

from pathlib import Path
from typing import Any

import pytest

from kellet.data.form import Said
from kellet.data.pair_names import Verdict, verdict
from kellet.data.preferences import read_file
from kellet.data.reading import find_form
from kellet.errors import DataError
from tests.helpers.rows import write_jsonl

ROWS = 24


def asked(n: int) -> str:
    return f"Where is my parcel number {n}?"


def better(n: int) -> str:
    return f"It was sent on day {n} and is at your post office now."


def worse(n: int) -> str:
    return f"I cannot tell where number {n} may be."


def first_won(n: int) -> bool:
    return n % 3 == 0


def compared(n: int, one: str = "response_a", two: str = "response_b") -> dict[str, Any]:
    texts = (better(n), worse(n)) if first_won(n) else (worse(n), better(n))
    return {"prompt": asked(n), **dict(zip((one, two), texts, strict=True))}


def write(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    return write_jsonl(tmp_path / "x.jsonl", rows)


def assert_right(path: Path, said: Said | None = None, rows: int = ROWS) -> None:
    """Each row is there, and none is turned round."""
    read, refused = read_file(path, said=said)
    assert refused.empty
    assert read[["chosen", "rejected"]].to_numpy().tolist() == [[better(n), worse(n)] for n in range(rows)]


def refused(path: Path, said: Said | None = None) -> str:
    with pytest.raises(DataError) as error:
        read_file(path, said=said)
    return str(error.value)


NAMES = [
    ("good", "bad"),
    ("better_response", "worse_response"),
    ("winner", "loser"),
    ("accepted", "declined"),
    ("accepted", "rejected"),
    ("preferred", "dispreferred"),
    ("Preferred Response", "Non-preferred Response"),
    ("preferred_output", "non_preferred_output"),
    ("preferred_answer", "unpreferred_answer"),
    ("preferred_answer", "less_preferred_answer"),
    ("chosen", "reject"),
    ("y_w", "y_l"),
    ("answer_chosen", "answer_rejected"),
    ("response", "rejected_response"),
    ("response_j", "response_k"),
]


@pytest.mark.parametrize(("won", "lost"), NAMES)
@pytest.mark.parametrize("turned", [False, True])
def test_a_pair_is_told_by_its_names_whichever_stands_first(tmp_path: Path, won: str, lost: str, turned: bool) -> None:
    def row(n: int) -> dict[str, Any]:
        answers = [(won, better(n)), (lost, worse(n))]
        return {"prompt": asked(n), **dict(reversed(answers) if turned else answers)}

    assert_right(write(tmp_path, [row(n) for n in range(ROWS)]))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("good_response", Verdict(True, ("response",))),
        ("Non-preferred Response", Verdict(False, ("response",))),
        ("notChosen", Verdict(False, ())),
        ("better_or_worse", None),
        ("goodness", None),
        ("response", None),
    ],
)
def test_what_a_name_says(name: str, told: Verdict | None) -> None:
    assert verdict(name) == told


def test_remarks_beside_two_answers_and_names_of_models_are_no_pair(tmp_path: Path) -> None:
    remarks = {"good": "It says where the parcel is", "bad": "It does not say when it will come"}
    rows = [compared(n) | {"winner": "A" if first_won(n) else "B"} | remarks for n in range(ROWS)]
    rows[0]["good"] = rows[0]["bad"] = "Nothing to remark on this one"
    said = Said(ignored=("good", "bad"))
    assert_right(write(tmp_path, rows), said)
    assert "'good' holds text that could belong to the prompt" in refused(tmp_path / "x.jsonl")
    models = [
        compared(n) | {"winner": ("response_a", "response_b")[not first_won(n)], "loser": "the other model"}
        for n in range(ROWS)
    ]
    assert_right(write(tmp_path, models))


def test_two_pairs_of_names_are_refused_with_both(tmp_path: Path) -> None:
    rows = [
        {"prompt": asked(n), "good_answer": better(n), "bad_answer": worse(n)}
        | {"best_response": better(n), "worst_response": worse(n)}
        for n in range(ROWS)
    ]
    assert "'best_response', 'good_answer' could each be chosen" in refused(write(tmp_path, rows))


def test_openai_and_ms_swift_files(tmp_path: Path) -> None:
    """https://developers.openai.com/api/docs/guides/direct-preference-optimization; ms-swift, Custom-dataset.md"""

    def user(n: int) -> dict[str, str]:
        return {"role": "user", "content": asked(n)}

    def assistant(text: str) -> dict[str, str]:
        return {"role": "assistant", "content": text}

    openai = [
        {
            "input": {"messages": [user(n)], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [assistant(better(n))],
            "non_preferred_output": [assistant(worse(n))],
        }
        for n in range(ROWS)
    ]
    swift = [
        {"messages": [user(n), assistant(better(n))], "rejected_response": worse(n), "margin": 1.5} for n in range(ROWS)
    ]
    both = [
        {
            "messages": [user(n), assistant(better(n))],
            "rejected_messages": [user(n), assistant(worse(n))],
        }
        for n in range(ROWS)
    ]
    for rows in (openai, swift, both):
        assert_right(write(tmp_path, rows))
        read, _ = read_file(tmp_path / "x.jsonl")
        assert read.loc[3, "prompt"] == f'[{{"role": "user", "content": "{asked(3)}"}}]'


def test_argilla_as_it_writes_records_and_as_it_did_before(tmp_path: Path) -> None:
    """Record.to_dict of version 2; FeedbackDataset of version 1, whose judgements have a status."""

    def said(n: int, **more: Any) -> dict[str, Any]:
        return {"value": "response_a" if first_won(n) else "response_b", "user_id": f"u{n % 2}", **more}

    def records(n: int) -> dict[str, Any]:
        return {"id": str(n), "fields": compared(n), "metadata": {}, "responses": {"preference": [said(n)]}}

    assert_right(write(tmp_path, [records(n) for n in range(ROWS)]))
    assert set(read_file(tmp_path / "x.jsonl")[0]["annotator"]) == {"u0", "u1"}
    old = [compared(n) | {"preference": [said(n, status="submitted")]} for n in range(ROWS)]
    assert_right(write(tmp_path, old))
    old[-1]["preference"][0]["status"] = "discarded"
    read, aside = read_file(write(tmp_path, old))
    assert (len(read), list(aside["line"])) == (ROWS - 1, [ROWS])


TRAPS = ("Which is better at deceiving?", "Which one would you not choose?", "Which has the better spelling?")


@pytest.mark.parametrize("name", ["Which is better?", "Which response do you prefer?", "Overall winner"])
@pytest.mark.parametrize(("one", "two"), [("Response A", "Response B"), ("A is much better", "B is slightly better")])
def test_a_question_says_who_won_where_its_values_name_the_answers(
    tmp_path: Path, name: str, one: str, two: str
) -> None:
    rows = [compared(n) | {name: one if first_won(n) else two} for n in range(ROWS)]
    assert_right(write(tmp_path, rows))
    for other in ("Which is worse?", "Which is longer?", "Which is least preferred?", "less_preferred", *TRAPS):
        turned = [compared(n) | {other: two if first_won(n) else one} for n in range(ROWS)]
        assert "column 'preferred' is missing" in refused(write(tmp_path, turned))


@pytest.mark.parametrize("name", ["loser", "worse", "less_preferred", "not_chosen"])
def test_a_column_that_says_who_lost_is_never_read_as_who_won(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, [compared(n) | {name: "B" if first_won(n) else "A"} for n in range(ROWS)])
    told = refused(path, Said({"preferred": name}))
    assert f"'{name}' says by its name who lost" in told
    assert "--map-values b=a,a=b" in told
    assert_right(path, Said({"preferred": name}, {"a": "b", "b": "a"}))


def test_values_that_nobody_understands_are_refused_by_name_before_any_row(tmp_path: Path) -> None:
    path = write(tmp_path, [compared(n) | {"winner": f"Antwort {'A' if first_won(n) else 'B'}"} for n in range(ROWS)])
    assert "--map-values 'antwort a=…,antwort b=…'" in refused(path)
    assert_right(path, Said(preferred_values={"antwort a": "a", "antwort b": "b"}))


@pytest.mark.parametrize("missing", ["NaN", "null", "N/A", "#N/A", " "])
def test_what_programs_write_for_nothing_is_no_judgement(tmp_path: Path, missing: str) -> None:
    rows = [compared(n) | {"winner": 1 if first_won(n) else 2} for n in range(ROWS)]
    path = write(tmp_path, [*rows, compared(99) | {"winner": missing}])
    read, aside = read_file(path)
    assert list(read["chosen"]) == [better(n) for n in range(ROWS)]
    assert list(aside["reason"]) == ["nobody judged it: preferred is empty"]


@pytest.mark.parametrize("score", ["reward", "rm_score", "score", "answer_score"])
def test_scores_of_any_name_tell_when_chosen_is_swapped(tmp_path: Path, score: str) -> None:
    rows = [
        {"prompt": asked(n), "good_answer": worse(n), "bad_answer": better(n)}
        | {f"good_{score}": 0.1 * n, f"bad_{score}": 0.1 * n + 1}
        for n in range(ROWS)
    ]
    assert f"'good_answer' contradicts 'good_{score}' and 'bad_{score}'" in refused(write(tmp_path, rows))


def test_a_winner_that_is_always_the_same_is_told(tmp_path: Path) -> None:
    rows = [{"prompt": asked(n), "response_a": better(n), "response_b": worse(n), "winner": "A"} for n in range(ROWS)]
    form = find_form(write(tmp_path, rows), Said(), 7)
    assert form is not None
    assert form.notes == ("'winner' says in all 24 rows that 'response_a' won: was it filled in?",)
    assert_right(tmp_path / "x.jsonl")


def test_a_header_below_a_title_is_named(tmp_path: Path) -> None:
    lines = ["Study of May,,,", ",,,", "prompt,response A,response B,preferred"]
    path = tmp_path / "x.csv"
    path.write_text("\n".join([*lines, *(f"{asked(n)},yes {n},no {n},A" for n in range(ROWS))]), encoding="utf-8")
    assert "line 3 reads like the header: take out the lines above it" in refused(path)


def test_scores_alone_are_asked_about(tmp_path: Path) -> None:
    path = write(tmp_path, [compared(n) | {"score_a": n, "score_b": 3} for n in range(ROWS)])
    assert "score_a, score_b alone do not say who won: add a column preferred" in refused(path)


def test_margins_that_are_negative_tell_when_chosen_is_swapped(tmp_path: Path) -> None:
    def rows(margins: list[float]) -> list[dict[str, Any]]:
        return [
            {"prompt": asked(n), "chosen": better(n), "rejected": worse(n), "margin": margin}
            for n, margin in enumerate(margins)
        ]

    told = refused(write(tmp_path, rows([-1.0] * 23 + [0.5])))
    assert "'margin' is positive in only 4% of 24 rows" in told
    assert "--ignore margin" in told
    assert_right(tmp_path / "x.jsonl", Said(ignored=("margin",)))
    assert_right(write(tmp_path, rows([-1.0, 1.0] * 12)))
    assert_right(write(tmp_path, rows([0.0] * 24)))


def test_a_conversation_that_ends_with_the_answer_is_no_prompt(tmp_path: Path) -> None:
    """Else the reward model would be asked with the answer before its eyes."""
    rows = [
        {
            "conversations": [{"from": "User", "value": asked(n)}, {"from": "Assistant", "value": better(n)}],
            "chosen": better(n),
            "rejected": worse(n),
        }
        for n in range(ROWS)
    ]
    assert "ends with one of them: take its last message out" in refused(write(tmp_path, rows))


def test_marks_of_a_chat_template_are_told(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"<|im_start|>user\n{asked(n)}<|im_end|>\n", "chosen": better(n), "rejected": worse(n)}
        for n in range(ROWS)
    ]
    form = find_form(write(tmp_path, rows), Said(), 100)
    assert form is not None
    assert [note.split(";")[0] for note in form.notes] == [
        "'prompt' holds marks of a chat template (line 1: <|im_start|>), which stay in its text"
    ]
    plain = find_form(write(tmp_path, [row | {"prompt": "a < b | c > d"} for row in rows]), Said(), 100)
    assert plain is not None
    assert plain.notes == ()


@pytest.mark.parametrize("named", ["responses.A", "responses.0.text"])
def test_answers_inside_an_object_or_a_list_of_two(tmp_path: Path, named: str) -> None:
    def row(n: int) -> dict[str, Any]:
        _, one, two = compared(n).values()
        responses: Any = {"A": one, "B": two} if named.endswith("A") else [{"text": one}, {"text": two}]
        return {"prompt": asked(n), "responses": responses, "winner": "AB"[not first_won(n)]}

    assert_right(write(tmp_path, [row(n) for n in range(ROWS)]))
    form = find_form(tmp_path / "x.jsonl", Said(), 100)
    assert form is not None
    assert form.names["answer_a"] == named


def test_a_strength_without_a_sign_does_not_say_who_won(tmp_path: Path) -> None:
    """1 and 2 are the first and the second answer in any other column."""
    rows = [compared(n) | {"preference_strength": 1 + n % 2} for n in range(ROWS)]
    assert "'preference_strength' says who won by 1, 2, which is no scale" in refused(write(tmp_path, rows))
    for name in ("winner", "Which is better?", "preference.winner"):
        asked_too = [row | {name: "AB"[not first_won(n)]} for n, row in enumerate(rows)]
        assert_right(write(tmp_path, asked_too))
    words = [
        row | {"preference_strength": "slight", "preference": "AB"[not first_won(n)]} for n, row in enumerate(rows)
    ]
    assert_right(write(tmp_path, words))


def test_what_a_judge_wrote_beside_the_verdict_is_left_out(tmp_path: Path) -> None:
    rows = [
        compared(n)
        | {"judgment": f"Answer {n} is better than the other one", "verdict": f"[[{'AB'[not first_won(n)]}]]"}
        for n in range(ROWS)
    ]
    assert_right(write(tmp_path, rows))


def test_a_ranking_is_not_two_people_who_disagree(tmp_path: Path) -> None:
    """Read as two judgements, each pair would be there both ways round."""
    ranked = [compared(n) | {"preference": ["A", "B"] if first_won(n) else ["B", "A"]} for n in range(ROWS)]
    assert "'preference' holds both answers in every row (line 1), as a ranking does" in refused(
        write(tmp_path, ranked)
    )
    people = [row | {"annotator": ["x", "y"]} for row in ranked]
    read, _ = read_file(write(tmp_path, people))
    assert len(read) == 2 * ROWS
    voted = [compared(n) | {"preference": ["AB"[not first_won(n)]] * 2} for n in range(ROWS)]
    read, _ = read_file(write(tmp_path, voted))
    assert list(read["chosen"]) == [better(n) for n in range(ROWS) for _ in range(2)]
