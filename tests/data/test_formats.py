"""Files as TRL and annotation tools write them, and what the columns of a foreign file are taken for."""

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kellet.data.conversation import as_text, to_prompt
from kellet.data.form import Said
from kellet.data.implicit import common_beginning
from kellet.data.preferences import read_file
from kellet.errors import DataError
from tests.helpers.rows import write_jsonl

USER, SYSTEM = {"role": "user", "content": "Where is it?"}, {"role": "system", "content": "Be brief."}
YES, NO = ({"role": "assistant", "content": text} for text in ("On its way.", "No idea."))
PROMPT = '[{"role": "user", "content": "Where is it?"}]'


def read(tmp_path: Path, *rows: dict[str, Any], **columns: str) -> tuple[list[list[Any]], list[str]]:
    """([prompt, chosen, rejected] of each row, reasons of the refused ones)."""
    rows, refused = read_file(write_jsonl(tmp_path / "x.jsonl", rows), columns=columns)
    return rows[["prompt", "chosen", "rejected"]].to_numpy().tolist(), refused["reason"].tolist()


CONVERSATIONS = {
    "explicit prompt": {"prompt": [USER], "chosen": [YES], "rejected": [NO]},
    "implicit prompt": {"chosen": [USER, YES], "rejected": [USER, NO]},
    "prompt told twice": {"prompt": "Where is it?", "chosen": [USER, YES], "rejected": [USER, NO]},
    "prompt as text": {"prompt": "Where is it?", "chosen": [YES], "rejected": [NO]},
    "content in parts": {
        "prompt": [
            {"role": "user", "content": [{"type": "text", "text": "Where "}, {"type": "text", "text": "is it?"}]}
        ],
        "chosen": [YES],
        "rejected": [NO],
    },
    "JSON in text": {"prompt": PROMPT, "chosen": json.dumps([YES]), "rejected": json.dumps([NO])},
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_each_form_of_a_conversation_is_the_same_pair(tmp_path: Path, name: str) -> None:
    assert read(tmp_path, CONVERSATIONS[name]) == ([[PROMPT, "On its way.", "No idea."]], [])


def test_a_conversation_in_parquet_is_read_alike(tmp_path: Path) -> None:
    pd.DataFrame([{"prompt": [SYSTEM, USER], "chosen": [YES], "rejected": [NO]}]).to_parquet(tmp_path / "x.parquet")
    rows, _ = read_file(tmp_path / "x.parquet")
    assert rows.loc[0, "prompt"] == to_prompt([SYSTEM, USER])
    assert rows.loc[0, "chosen"] == "On its way."


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": [USER], "chosen": [YES], "rejected": [USER]}, "rejected ends with a message of 'user'"),
        ({"prompt": [USER], "chosen": [NO, USER, YES], "rejected": [NO]}, "chosen holds 3 messages beside a prompt"),
        ({"prompt": [USER], "chosen": [YES], "rejected": "No idea."}, "one is a conversation and the other is not"),
        ({"prompt": None, "chosen": [YES], "rejected": [NO]}, "chosen is an answer without a prompt"),
        (
            {"prompt": [USER], "chosen": [{"role": "assistant", "content": None}], "rejected": [NO]},
            "content is NoneType",
        ),
    ],
)
def test_a_conversation_that_is_no_pair_is_refused(tmp_path: Path, row: dict[str, Any], reason: str) -> None:
    good = {"prompt": [USER], "chosen": [YES], "rejected": [NO]}
    pairs, reasons = read(tmp_path, good, row)
    assert len(pairs) == len(reasons) == 1
    assert reason in reasons[0]


def test_sides_with_different_conversations_have_different_prompts(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "x.jsonl", [{"chosen": [USER, YES], "rejected": [SYSTEM, USER, NO]}])
    rows, _ = read_file(path)
    assert rows.loc[0, "prompt"] != rows.loc[0, "rejected_prompt"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_dialogue_with_either_line_end_is_the_same_pair(tmp_path: Path, end: str) -> None:
    whole = f"{end}{end}Human: Where?{end}{end}Assistant: {{}}"
    found = read(tmp_path, {"chosen": whole.format("Here."), "rejected": whole.format("No idea.")})
    assert found == ([["\n\nHuman: Where?\n\nAssistant:", "Here.", "No idea."]], [])


def test_a_conversation_is_written_out_as_hh_rlhf_does() -> None:
    prompt = to_prompt([SYSTEM, USER, NO, USER])
    written_out = "Be brief.\n\nHuman: Where is it?\n\nAssistant: No idea.\n\nHuman: Where is it?\n\nAssistant:"
    assert as_text(prompt) == written_out
    assert as_text("a plain [prompt]") == "a plain [prompt]"


def test_the_prompt_is_what_both_texts_begin_with(tmp_path: Path) -> None:
    """TRL's documented example of the implicit prompt: 'The sky is blue.' and 'The sky is green.'"""
    rows = [{"chosen": "The sky is blue.", "rejected": "The sky is green."}, {"chosen": "Yes", "rejected": "No"}]
    rows += [{"chosen": f"It is {n}!", "rejected": f"It is not {n}."} for n in range(8)]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    pairs, refused = read_file(path, said=Said(prompt_from="beginning"))
    assert pairs.loc[0, ["prompt", "chosen", "rejected"]].tolist() == ["The sky is", "blue.", "green."]
    assert refused["reason"].tolist() == ["chosen and rejected share no beginning to take the prompt from"]
    with pytest.raises(DataError, match=r"line 1: 'The sky is'.*confirm it once with --accept"):
        read_file(path)
    assert common_beginning("It is black", "It is blue") == "It is "
    assert common_beginning("Wait here", "Wait here please") == "Wait "


# Columns as label-studio-sdk writes them (converter/exports/csv2.py): the task's own, the control's, and its own five.
LABEL_STUDIO = [
    [
        *("annotation_id", "annotator", "answer1", "answer2", "comparison"),
        *("created_at", "id", "lead_time", "prompt", "x"),
    ],
    ["7", "ann@x.org", "short", "long one", '[{"selected": "answer2"}]', "2026-01-31T09:00:00Z", "1", "3.2", "p1", "x"],
    ["8", "bob@x.org", "short", "long one", '[{"selected": "left"}]', "2026-01-31T09:10:00Z", "1", "2.0", "p1", "x"],
    ["9", "ann@x.org", "one", "two", "tie", "2026-01-31T09:20:00Z", "2", "2.0", "p2", "x"],
    ["10", "ann@x.org", "one", "two", "", "2026-01-31T09:20:00Z", "3", "2.0", "p3", "x"],
]


def test_a_csv_export_of_label_studio_is_read_without_a_map(tmp_path: Path) -> None:
    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(LABEL_STUDIO)
    rows, refused = read_file(tmp_path / "x.csv")
    kept = ["prompt", "chosen", "rejected", "annotator", "created_at", "tie"]
    assert rows[kept].to_numpy().tolist() == [
        ["p1", "long one", "short", "ann@x.org", "2026-01-31T09:00:00Z", False],
        ["p1", "short", "long one", "bob@x.org", "2026-01-31T09:10:00Z", False],
        ["p2", "one", "two", "ann@x.org", "2026-01-31T09:20:00Z", True],
    ]
    assert refused["reason"].tolist() == ["nobody judged it: preferred is empty"]


# Fields, QUESTION.responses and its users, as argilla's records/_io/_generic.py flattens them.
ARGILLA = {"instruction": "p", "response1": "one", "response2": "two", "status": "completed"}
RANKED = [{"value": "response2", "rank": 1}, {"value": "response1", "rank": 2}]
EQUAL = [{"value": "response1", "rank": 1}, {"value": "response2", "rank": 1}]


@pytest.mark.parametrize("as_csv", [False, True])
def test_an_export_of_argilla_gives_a_row_for_each_annotator(tmp_path: Path, as_csv: bool) -> None:
    labels = {"q.responses": ["response1", "response2"], "q.responses.users": ["u1", "u2"]}
    ranks = {"q.responses": [RANKED, EQUAL], "q.responses.users": ["u1", "u2"]}
    rows = [ARGILLA | labels, ARGILLA | ranks, ARGILLA | {"q.responses": None, "q.responses.users": None}]
    path = write_jsonl(tmp_path / "x.jsonl", rows)
    if as_csv:
        path = tmp_path / "x.csv"
        pd.DataFrame(rows).to_csv(path, index=False)
    rows, refused = read_file(path)
    assert rows[["chosen", "rejected", "annotator", "tie"]].to_numpy().tolist() == [
        ["one", "two", "u1", False],
        ["two", "one", "u2", False],
        ["two", "one", "u1", False],
        ["one", "two", "u2", True],
    ]
    assert len(refused) == 1
    assert set(rows["prompt"]) == {"p"}


@pytest.mark.parametrize(
    ("preferred", "winner"),
    [("A", "a"), ("right", "b"), (2, "b"), (1.0, "a"), ("two", "b"), ("better", "a"), ("both", None)],
)
def test_the_winner_may_be_written_in_several_ways(tmp_path: Path, preferred: Any, winner: str | None) -> None:
    row = {"q": "p", "better": "one", "other": "two", "vote": preferred}
    other = row | {"vote": 3 - preferred if isinstance(preferred, int | float) else "a"}
    names = {"prompt": "q", "answer_a": "better", "answer_b": "other", "preferred": "vote"}
    rows, _ = read_file(write_jsonl(tmp_path / "x.jsonl", [row, other]), columns=names)
    assert rows.loc[0, "tie"] == (winner is None)
    assert rows.loc[0, "chosen"] == ("two" if winner == "b" else "one")


def test_a_vote_that_is_not_understood_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "p", "answer_a": "x", "answer_b": "y", "preferred": vote} for vote in ("a", "perhaps")]
    pairs, reasons = read(tmp_path, *rows)
    assert pairs == [["p", "x", "y"]]
    assert [reason[:18] for reason in reasons] == ["preferred is 'perh"]


def test_mapped_columns_are_read_and_a_wrong_map_lists_the_columns(tmp_path: Path) -> None:
    row = {"question": "p", "good": "x", "bad": "y"}
    pairs, _ = read(tmp_path, row, chosen="good", rejected="bad")
    assert pairs == [["p", "x", "y"]]
    with pytest.raises(DataError, match=r"mapped chosen=best, found the columns bad, good, question"):
        read(tmp_path, row, chosen="best", rejected="bad")
    with pytest.raises(DataError, match=r"--map chosen=COLUMN"):
        read(tmp_path, row)
