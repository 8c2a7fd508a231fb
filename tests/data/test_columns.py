"""Which column is which: what is read together, what is refused with its names, and the account of the rest."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kellet.data.columns import find_columns
from kellet.data.conversation import messages_of, tools_of
from kellet.data.form import Said
from kellet.data.preferences import read_file
from kellet.data.reading import find_form
from kellet.data.survey import survey
from kellet.errors import DataError
from tests.helpers.foreign_files import assistant, user
from tests.helpers.rows import write_jsonl

NOUNS = ("parcel", "refund", "invoice", "voucher", "password", "delivery")
Make = Callable[[int], dict[str, Any]]


def pair(n: int, **other: Any) -> dict[str, Any]:
    """Answers to question ``n``."""
    return {"chosen": f"Your {NOUNS[n % 6]} {n} is on its way.", "rejected": f"Nobody knows about it, {n}."} | other


def asked(n: int) -> str:
    return f"Where is my {NOUNS[n % 6]} number {n}?"


def prose(n: int) -> str:
    return f"The {NOUNS[n % 6]} was sent to the customer on day {n}."


def write(tmp_path: Path, make: Make, rows: int = 30) -> Path:
    return write_jsonl(tmp_path / "x.jsonl", [make(n) for n in range(rows)])


def prompts(tmp_path: Path, make: Make, said: Said | None = None) -> list[str]:
    rows, refused = read_file(write(tmp_path, make), said=said)
    assert refused.empty
    return list(rows["prompt"])


def account(tmp_path: Path, make: Make, said: Said | None = None) -> dict[str, tuple[str, str]]:
    """Column -> (taken for, why)."""
    form = find_form(write(tmp_path, make), said or Said(), 1000)
    assert form is not None
    return {entry.name: (entry.taken_for, entry.why) for entry in form.account}


@pytest.mark.parametrize("name", ["input", "query", "question", "instruction", "context", "user message", "Text"])
def test_a_prompt_under_another_name_is_not_taken_from_the_answers(tmp_path: Path, name: str) -> None:
    """Answers of support often begin alike: 'Thank you …' is no prompt."""
    found = prompts(
        tmp_path, lambda n: {name: asked(n)} | pair(n, chosen=f"Thank you. Yes {n}", rejected=f"Thank you. No {n}")
    )
    assert found == [asked(n) for n in range(30)]


def test_an_instruction_and_its_input_are_the_prompt(tmp_path: Path) -> None:
    """Alpaca: an empty line between them, and nothing where there is no input."""

    def make(n: int) -> dict[str, Any]:
        return {"instruction": "Say it politely, please.", "input": "" if n % 2 else asked(n)} | pair(n)

    found = prompts(tmp_path, make)
    assert found[:2] == [f"Say it politely, please.\n\n{asked(0)}", "Say it politely, please."]
    assert account(tmp_path, make)["input"][0] == "prompt"
    assert account(tmp_path, lambda n: make(n) | {"input": ""})["input"] == ("", "empty in every row")


def test_a_system_column_is_the_system_message_and_an_empty_one_is_told(tmp_path: Path) -> None:
    def make(n: int, system: str) -> dict[str, Any]:
        return {"system": system, "question": asked(n)} | pair(n)

    found = prompts(tmp_path, lambda n: make(n, "" if n == 1 else "Be brief."))
    assert messages_of(found[0]) == [{"role": "system", "content": "Be brief."}, *user(asked(0))]
    assert messages_of(found[1]) == user(asked(1))
    assert prompts(tmp_path, lambda n: make(n, "")) == [asked(n) for n in range(30)]
    assert account(tmp_path, lambda n: make(n, ""))["system"] == ("", "empty in every row")


def test_a_history_of_turns_stands_before_the_prompt(tmp_path: Path) -> None:
    """LLaMA-Factory: a list of [what the user said, what was answered]; other texts are told with --map history."""
    before = [*user("Hello"), *assistant("Hi")]
    found = prompts(
        tmp_path, lambda n: {"instruction": asked(n), "history": [["Hello", "Hi"]] if n % 2 else []} | pair(n)
    )
    assert messages_of(found[1]) == [*before, *user(asked(1))]
    assert messages_of(found[0]) == user(asked(0))
    told = Said({"history": "context"})
    found = prompts(tmp_path, lambda n: {"prompt": asked(n), "context": prose(n)} | pair(n), told)
    assert found[0] == f"{prose(0)}\n\n{asked(0)}"


def test_tools_beside_a_prompt_are_kept(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "track"}}]
    found = prompts(tmp_path, lambda n: {"prompt": user(asked(n)), "tools": tools} | pair(n))
    assert tools_of(found[0]) == tools


def test_answers_that_begin_with_the_prompt_lose_it(tmp_path: Path) -> None:
    def make(n: int) -> dict[str, Any]:
        return {"prompt": asked(n)} | {side: f"{asked(n)}\n{text}" for side, text in pair(n).items()}

    rows, _ = read_file(write(tmp_path, make))
    assert rows.loc[0, ["prompt", "chosen", "rejected"]].tolist() == [asked(0), *pair(0).values()]
    rows, refused = read_file(write(tmp_path, lambda n: make(n) | ({"chosen": "Other."} if n == 3 else {})))
    assert refused["reason"].tolist() == ["chosen does not begin with the prompt, as the other rows do"]


REFUSED: dict[str, tuple[Make, str]] = {
    "text of which nobody knows what it is": (
        lambda n: {"prompt": asked(n), "background": prose(n)} | pair(n),
        r"'background' holds text .*line 1: 'The parcel was sent.*--map input=background .*--ignore background",
    ),
    "text without spaces": (
        lambda n: {"prompt": asked(n), "背景": f"これは長い文章です。実際に{n}番の荷物の話です"} | pair(n),
        "'背景' holds text that could belong to the prompt",
    ),
    "two of them": (
        lambda n: (
            {"prompt": asked(n), "background": prose(n), "persona": f"You talk like pirate number {n} does"} | pair(n)
        ),
        r"'background' holds text .*so does 'persona'.*--ignore background --ignore persona",
    ),
    "two prompts": (
        lambda n: {"question": asked(n), "context": prose(n)} | pair(n),
        r"'question', 'context' could each be prompt.*--map prompt=question with --map history=context",
    ),
    "a question's input in single words": (
        lambda n: {"prompt": "What is the square of this number?", "input": n} | pair(n),
        r"'input' holds text that could belong to the prompt \(line 2: '1'\)",
    ),
    "images": (
        lambda n: {"prompt": asked(n), "images": [{"path": f"{n}.png"}]} | pair(n),
        r"'images' belongs to the prompt .*--ignore images",
    ),
    "two judgements": (
        lambda n: {"prompt": asked(n), "response_a": "x", "response_b": "y", "label": "a", "winner": "b"},
        r"'label', 'winner' could each be preferred.*--map preferred=label or --map preferred=winner",
    ),
    "two questions of Argilla": (
        lambda n: {
            "prompt": asked(n),
            "response_a": "x",
            "response_b": "y",
            "q.responses": ["a"],
            "z.responses": ["b"],
        },
        r"'q.responses', 'z.responses' could each be preferred",
    ),
    "two kinds of answers": (
        lambda n: {"prompt": asked(n), "response_a": "x", "response_b": "y", "text1": "v", "text2": "w", "winner": "a"},
        r"'response_a', 'text1' could each be answer_a",
    ),
    "three answers": (
        lambda n: {"prompt": asked(n), "response_1": "x", "response_2": "y", "response_3": "z", "best": 1},
        r"'response_1', 'response_2', 'response_3' are more than two answers",
    ),
    "KTO": (lambda n: {"prompt": asked(n), "completion": "x", "label": True}, "as for KTO, is unpaired"),
    "KTO as messages": (
        lambda n: {"messages": [*user(asked(n)), *assistant("x")], "label": True},
        "as for KTO, is unpaired",
    ),
    "Nectar": (
        lambda n: {"prompt": asked(n), "answers": [{"answer": prose(n + k), "rank": k} for k in range(3)]},
        r"columns 'chosen' and 'rejected' are missing.*'answers' holds lists of answers",
    ),
    "names without their answers": (
        lambda n: {"prompt": asked(n), "chosen": f"response_{'ab'[n % 2]}", "rejected": f"response_{'ba'[n % 2]}"},
        "'chosen' names answers, such as 'response_a', and no columns hold them",
    ),
    "answers that only begin alike": (
        lambda n: pair(n, chosen=f"Thank you. Yes {n}", rejected=f"Thank you. No {n}"),
        r"column 'prompt' is missing.*line 1: 'Thank you\.'.*--accept",
    ),
    "a text beside answers that begin alike": (
        lambda n: {"subject matter": asked(n)} | pair(n, chosen=f"Thank you. Yes {n}", rejected=f"Thank you. No {n}"),
        r"column 'prompt' is missing.*--map 'prompt=subject matter'",
    ),
    "answers that do not begin alike": (pair, "nor begin alike in 90% of the rows"),
    "lists of texts": (
        lambda n: {"prompt": json.dumps([asked(n)])} | pair(n),
        r"'prompt' holds lists \(line 1\), wanted a text or messages",
    ),
    "scores the other way round": (
        lambda n: {"prompt": asked(n), "score_chosen": 1.0, "score_rejected": 4.0} | pair(n),
        r"'chosen' contradicts 'score_chosen' and 'score_rejected'.*--ignore score_chosen",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_is_refused_with_the_way_to_tell_it(tmp_path: Path, case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(DataError, match=message):
        read_file(write(tmp_path, make))


def test_an_ignored_column_settles_it_and_a_wrong_name_is_told(tmp_path: Path) -> None:
    def make(n: int) -> dict[str, Any]:
        return {"prompt": asked(n), "background": prose(n)} | pair(n)

    assert prompts(tmp_path, make, Said(ignored=("background",))) == [asked(n) for n in range(30)]
    told = account(tmp_path, make, Said(ignored=("background",)))
    assert told["background"] == ("", "left out, as data.ignored says")
    with pytest.raises(DataError, match="'background' holds text"):
        read_file(write(tmp_path, make), said=Said(ignored=("Background",)))
    with pytest.raises(DataError, match="'prompt' is mapped as chosen and as rejected"):
        read_file(write(tmp_path, make), said=Said({"chosen": "prompt", "rejected": "prompt"}))


def test_ordinary_columns_are_left_out_without_a_question_and_named(tmp_path: Path) -> None:
    def make(n: int) -> dict[str, Any]:
        beside = {"id": f"a-{n}", "time": f"Mon 2026-01-{n:02d} 12:00:00 UTC", "model": "gpt 4 turbo", "score": n / 7}
        beside |= {"rationale": prose(n), "feedback": [prose(n)], "response": pair(n)["chosen"], "question": asked(n)}
        return {"prompt": asked(n)} | pair(n) | beside | {"style": "Be kind to all of our customers."}

    told = account(tmp_path, make)
    assert [name for name, (taken_for, _) in told.items() if taken_for] == ["prompt", "chosen", "rejected"]
    assert told["response"][1] == told["question"][1] == "repeats what prompt and answers say"
    assert told["rationale"][1] == told["feedback"][1] == "beside the pair, by its name"
    assert told["model"][1] == told["style"][1] == "the same text in every row"
    assert told["id"][1] == told["time"][1] == told["score"][1] == "numbers, codes or names"


def test_many_fields_of_one_object_are_one_entry(tmp_path: Path) -> None:
    flags = {"flagged": False, "scores": dict.fromkeys("abcd", 0.1)}
    told = account(tmp_path, lambda n: {"prompt": asked(n), "moderation": flags, "extra": {"x": 1, "y": 2}} | pair(n))
    assert told["moderation.*"] == ("", "beside the pair, by its name (5 fields)")
    assert told["extra.x"] == told["extra.y"] == ("", "numbers, codes or names")
    assert len(told) == 6


def test_an_answer_that_quotes_a_passage_does_not_make_it_a_repetition(tmp_path: Path) -> None:
    """A context may stand in the chosen answer word for word and still be what the model was given."""
    with pytest.raises(DataError, match="'passage' holds text"):
        read_file(write(tmp_path, lambda n: pair(n, chosen=f"See: {prose(n)}", prompt=asked(n), passage=prose(n))))


def test_fields_of_messages_that_are_left_out_are_named(tmp_path: Path) -> None:
    told = account(tmp_path, lambda n: {"prompt": [user(asked(n))[0] | {"timestamp": 7}]} | pair(n))
    assert told["prompt[].timestamp"] == ("", "beside what a message says")


STATES = ["submitted", "discarded", "draft", "completed"]


def test_judgements_that_were_not_submitted_are_set_aside(tmp_path: Path) -> None:
    """Argilla: a state for each annotator; of four, two count."""
    row = {"prompt": "p", "response_a": "x", "response_b": "y", "q.responses": ["response_b"] * 4}
    beside = {"q.responses.users": list("abcd"), "q.responses.status": STATES, "status": "completed"}
    rows, refused = read_file(write_jsonl(tmp_path / "x.jsonl", [row | beside]))
    assert rows[["chosen", "annotator"]].to_numpy().tolist() == [["y", "a"], ["y", "d"]]
    assert refused["reason"].tolist() == ["its judgement was skipped, discarded or left unfinished"] * 2


@pytest.mark.parametrize(
    "row", [{"response_a": "x", "response_b": "y", "preferred": "a"}, {"chosen": "x", "rejected": "y"}]
)
def test_records_that_were_not_finished_are_set_aside(tmp_path: Path, row: dict[str, Any]) -> None:
    rows = [{"prompt": f"p{n}", "status": state} | row for n, state in enumerate(STATES)]
    read, refused = read_file(write_jsonl(tmp_path / "x.jsonl", rows))
    assert (read["prompt"].tolist(), refused["line"].tolist()) == (["p0", "p3"], [2, 3])
    kept, _ = read_file(write_jsonl(tmp_path / "x.jsonl", [each | {"status": "unchanged"} for each in rows]))
    assert len(kept) == 4


def test_tasks_that_were_skipped_in_label_studio_are_set_aside(tmp_path: Path) -> None:
    def task(n: int, *annotations: dict[str, Any]) -> dict[str, Any]:
        return {"id": n, "data": {"prompt": f"p{n}", "text1": "x", "text2": "y"}, "annotations": list(annotations)}

    def done(side: str, **other: Any) -> dict[str, Any]:
        return {
            "completed_by": 7,
            "result": [{"from_name": "pw", "type": "pairwise", "value": {"selected": side}}],
        } | other

    skipped = {"completed_by": 8, "result": [], "was_cancelled": True}
    rows = [task(0, done("left"), skipped), task(1, done("right", was_cancelled=True)), task(2, skipped), task(3)]
    read, refused = read_file(write_jsonl(tmp_path / "x.jsonl", rows))
    assert read[["prompt", "chosen", "annotator"]].to_numpy().tolist() == [["p0", "x", "7"]]
    assert refused["line"].tolist() == [1, 2, 3, 4]
    aside = "its judgement was skipped, discarded or left unfinished"
    assert refused["reason"].tolist() == [aside, aside, *["nobody judged it: preferred is empty"] * 2]


def test_three_columns_of_one_and_nought_are_one_winner(tmp_path: Path) -> None:
    """Kaggle's arena: of a row with no 1, or two, nobody knows the winner."""
    won = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0), (1, 1, 0)]
    names = ("winner_model_a", "winner_model_b", "winner_tie")
    rows = [
        {"prompt": f"p{n}", "response_a": "x", "response_b": "y"} | dict(zip(names, each, strict=True))
        for n, each in enumerate(won)
    ]
    read, refused = read_file(write_jsonl(tmp_path / "x.jsonl", rows))
    assert read[["chosen", "tie"]].to_numpy().tolist() == [["x", False], ["y", False], ["x", True]]
    assert refused["line"].tolist() == [4, 5]


def test_the_prompt_of_two_conversations_is_what_they_share(tmp_path: Path) -> None:
    """Arena: conversation_a and conversation_b; where earlier turns differ there is no common prompt."""

    def talk(*texts: str) -> list[dict[str, str]]:
        return [message for n, text in enumerate(texts) for message in (assistant if n % 2 else user)(text)]

    rows = [
        {"conversation_a": talk("q", "x"), "conversation_b": talk("q", "y"), "winner": "model_b"},
        {"conversation_a": talk("q", "x", "r", "v"), "conversation_b": talk("q", "y", "r", "w"), "winner": "model_a"},
    ]
    read, _ = read_file(write_jsonl(tmp_path / "x.jsonl", rows))
    assert read["chosen"].tolist() == ["y", "v"]
    assert (read["prompt"] == read["rejected_prompt"]).tolist() == [True, False]


def test_a_prompt_that_is_none_of_the_messages_is_refused(tmp_path: Path) -> None:
    good = {"prompt": "q", "chosen": [*user("q"), *assistant("x")], "rejected": [*user("q"), *assistant("y")]}
    read, refused = read_file(write_jsonl(tmp_path / "x.jsonl", [good, good | {"prompt": "another"}]))
    assert len(read) == 1
    assert refused["reason"].tolist() == ["chosen holds 2 messages, and prompt is none of them"]


def test_the_reading_as_options_and_parameters_is_the_same_reading(tmp_path: Path) -> None:
    def make(n: int) -> dict[str, Any]:
        row = {
            "question": asked(n),
            "response_0": f"x{n}",
            "response_1": f"y{n}",
            "winner": n % 2,
            "extra text": prose(n),
        }
        return row | {"system": "Be brief."}

    form = find_form(write(tmp_path, make), Said(ignored=("extra text",)), 1000)
    assert form is not None
    assert form.options() == (
        "--map prompt=question --map answer_a=response_0 --map answer_b=response_1 --map preferred=winner "
        "--map system=system --map-values 0=a,1=b --ignore 'extra text'"
    )
    again = find_form(write(tmp_path, make), Said(**form.parameters()), 1000)
    assert again is not None
    assert (again.names, again.options()) == (form.names, form.options())


def test_the_order_of_rows_and_columns_does_not_matter_for_which_is_which(tmp_path: Path) -> None:
    rows = [{"input": "", "instruction": asked(n), "history": [], "source": "web"} | pair(n) for n in range(5)]
    names = [
        find_columns(survey(write_jsonl(tmp_path / "x.jsonl", each), 2), Said()).names
        for each in (rows, [dict(reversed(row.items())) for row in reversed(rows)])
    ]
    assert names[0] == names[1] == {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}
