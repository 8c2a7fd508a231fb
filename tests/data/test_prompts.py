"""Prompts from files of their own: what is refused, that no test prompt is trained on, and who reads them."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from kellet.config.data import Data, Prompts, Split, Validation
from kellet.data.prepare import prepare
from kellet.data.prompts import IN_TRAINING, SAME, prompts_of
from kellet.errors import DataError
from tests.helpers.rows import row, write_jsonl

TRAIN = ["Where is my card?", "where is  my CARD? ", "My card is lost", "", "caf\ufffd"]
TEST = ["My card is LOST", "Is there a fee?", "x" * 60]


def files(tmp_path: Path, train: list[Any], test: list[Any], **prompts: Any) -> Data:
    write_jsonl(tmp_path / "raw.jsonl", [row(n) for n in range(40)])
    for name, texts in (("train", train), ("test", test)):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": text} for text in texts])
    return Data(
        source="files",
        files=("raw.jsonl",),
        validation=Validation(min_pairs=10, max_prompt_chars=50, max_quarantined=0.7),
        split=Split(validation=0.3, test=0.3),
        prompts={"train": ("train.jsonl",), "test": ("test.jsonl",), "column": "text"} | prompts,
    )


def test_prompts_are_refused_row_by_row_and_never_leak(tmp_path: Path) -> None:
    found = prepare(files(tmp_path, TRAIN, TEST), tmp_path, tmp_path / "out")["prompt_files"]
    assert found["rows_in"] == 8
    assert found["accepted"] == {"train": 2, "test": 1}
    assert found["reasons"] == {
        IN_TRAINING: 1,
        SAME: 1,
        "prompt has encoding trouble": 1,
        "prompt is empty": 1,
        "prompt is longer than 50 characters": 1,
    }
    preferences = tmp_path / "out/preferences.parquet"
    assert set(prompts_of(preferences, "train")) == {"Where is my card?", "My card is lost"}
    assert prompts_of(preferences, "test") == ["Is there a fee?"]
    refused = pd.read_parquet(tmp_path / "out/prompts_quarantine.parquet")
    assert sorted(zip(refused["file"], refused["line"], strict=True)) == [
        *(("test.jsonl", 1), ("test.jsonl", 3)),
        *(("train.jsonl", 2), ("train.jsonl", 4), ("train.jsonl", 5)),
    ]


def test_without_files_the_prompts_are_those_of_the_pairs(tmp_path: Path) -> None:
    frame = pd.DataFrame({"prompt": ["a", "a", "b"], "split": ["train", "train", "test"]})
    frame.to_parquet(tmp_path / "preferences.parquet")
    assert prompts_of(tmp_path / "preferences.parquet", "train") == ["a"]


def test_line_breaks_count_as_white_space_in_conversations_too(tmp_path: Path) -> None:
    data = files(tmp_path, ["My card\n\nis lost"], ["my card is lost", "Fee?"], conversation=True)
    assert prepare(data, tmp_path, tmp_path / "out")["prompt_files"]["reasons"] == {IN_TRAINING: 1}


def test_a_text_may_be_what_a_user_says_first(tmp_path: Path) -> None:
    data = files(tmp_path, ["Hi", [{"role": "user", "content": "Lost"}]], ["Fee?"], conversation=True)
    prepare(data, tmp_path, tmp_path / "out")
    prompts = set(prompts_of(tmp_path / "out/preferences.parquet", "train"))
    assert prompts == {'[{"role": "user", "content": "Hi"}]', '[{"role": "user", "content": "Lost"}]'}


def test_prompts_are_read_from_the_files_that_spreadsheets_save(tmp_path: Path) -> None:
    """Semicolons in UTF-8, tabs in UTF-16, and a line end within a prompt."""
    prompts = Prompts(train=("train.csv",), test=("test.TSV",), column="text")
    data = files(tmp_path, [], []).model_copy(update={"prompts": prompts})
    (tmp_path / "train.csv").write_bytes(
        'text;category\r\n"Card; lost,\u2028or\r\nnot";a\r\nFee?;b\r\n'.encode("utf-8-sig")
    )
    (tmp_path / "test.TSV").write_bytes("text\tcategory\r\nWhere, exactly?\ta\r\n".encode("utf-16"))
    prepare(data, tmp_path, tmp_path / "out")
    preferences = tmp_path / "out/preferences.parquet"
    assert set(prompts_of(preferences, "train")) == {"Card; lost,\u2028or\r\nnot", "Fee?"}
    assert prompts_of(preferences, "test") == ["Where, exactly?"]


@pytest.mark.parametrize(
    ("train", "test", "other", "message"),
    [
        (["a"], ["A"], {}, "data.prompts.test leaves no prompt"),
        (["a"] * 9, ["b"], {}, "8 of 10 prompts are quarantined"),
        (["a"], ["b"], {"column": "message"}, "no column 'message'; found text"),
    ],
)
def test_files_that_cannot_be_used_say_why(
    tmp_path: Path, train: list[str], test: list[str], other: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        prepare(files(tmp_path, train, test, **other), tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_training_and_test_prompts_are_given_together_and_not_to_the_world() -> None:
    with pytest.raises(ValidationError, match="together"):
        Data(source="files", prompts={"train": ("a.csv",)})
    with pytest.raises(ValidationError, match="source: files"):
        Data(source="world", prompts={"train": ("a.csv",), "test": ("b.csv",)})
