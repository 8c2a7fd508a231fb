"""``kellet validate``: the account at its end, how a reading is told, and how it is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from kellet.config.file import load_config
from tests.helpers.command import kellet
from tests.helpers.rows import row, write_jsonl

SMALL = ("--set", "data.validation.min_pairs=10", "--set", "data.split={validation: 0.3, test: 0.3}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def compared(n: int, **other: Any) -> dict[str, Any]:
    """The first answer is the better one in the even rows; label 1 says so."""
    pair = row(n)
    answers = [pair["chosen"], pair["rejected"]]
    if n % 2:
        answers.reverse()
    return {"prompt": pair["prompt"], "answer_a": answers[0], "answer_b": answers[1], "label": int(n % 2 == 0)} | other


def test_it_ends_with_the_account_and_the_same_reading_as_options(folder: Path) -> None:
    rows = [
        {"question": row(n)["prompt"], "id": n} | {key: row(n)[key] for key in ("chosen", "rejected")}
        for n in range(40)
    ]
    write_jsonl(folder / "x.jsonl", rows)
    result = kellet("validate", "x.jsonl", *SMALL)
    assert result.exit_code == 0, result.output
    lines = [line.split(maxsplit=2) for line in result.stdout.splitlines()]
    assert ["'question'", "prompt", "100% of rows  the only column that can be the prompt, by its name"] in lines
    assert any(line[:2] == ["'id'", "left"] for line in lines)
    assert "the same reading as options: --map prompt=question" in result.stdout
    told = json.loads(kellet("validate", "x.jsonl", "--json", *SMALL).stdout)
    assert set(told) >= {"usable", "columns", "summary", "checks", "account"}
    entry = told["account"]["x.jsonl"][0]
    assert (entry["name"], entry["taken_for"], entry["share"]) == ("question", "prompt", 1.0)


def test_two_readings_are_settled_by_an_option_and_kept_in_a_profile(folder: Path) -> None:
    write_jsonl(folder / "x.jsonl", [compared(n) for n in range(40)])
    result = kellet("validate", "x.jsonl", *SMALL)
    assert result.exit_code == 2
    assert "--map-values 0=b,1=a" in result.stderr
    told = ("--map-values", "0=b,1=a")
    result = kellet("validate", "x.jsonl", *told, *SMALL)
    assert result.exit_code == 0, result.output
    profile = folder / "mine.yaml"
    profile.write_text("data: # mine\n  source: files\n  files: [x.jsonl]\n  validation: {min_pairs: 10}\n")
    before = profile.read_text()
    assert kellet("validate", "x.jsonl", *told, *SMALL).exit_code == 0
    assert profile.read_text() == before
    result = kellet("validate", "x.jsonl", *told, "--accept", "--params", "mine.yaml", *SMALL[2:])
    assert result.exit_code == 0, result.output
    assert "kept in mine.yaml: data.columns, data.preferred_values" in result.stdout
    assert load_config(profile).data.preferred_values == {"0": "b", "1": "a"}
    assert load_config(profile).data.columns == {"preferred": "label"}
    assert kellet("validate", "x.jsonl", "--params", "mine.yaml", *SMALL[2:]).exit_code == 0
    result = kellet("prepare", "--params", "mine.yaml", *SMALL[2:])
    assert result.exit_code == 0, result.output
    assert "40 pairs accepted" in result.stdout


def test_a_guess_is_accepted_once_and_no_file_is_written_that_was_not_named(folder: Path) -> None:
    ends = ("Here.", "Please wait a bit.")
    pairs = [
        {side: f"Where is parcel {n}? {ends[(n + k) % 2]}" for k, side in enumerate(("chosen", "rejected"))}
        for n in range(40)
    ]
    write_jsonl(folder / "x.jsonl", pairs)
    (folder / "params.yaml").write_text("data:\n  name: other\n")
    result = kellet("validate", "x.jsonl", *SMALL)
    assert result.exit_code == 2
    assert "confirm it once with --accept" in result.stderr
    result = kellet("validate", "x.jsonl", "--accept", *SMALL)
    assert result.exit_code == 0, result.output
    assert "data:\n  prompt_from: beginning\n" in result.stdout
    assert (folder / "params.yaml").read_text() == "data:\n  name: other\n"


def test_a_reading_is_not_kept_when_the_file_cannot_be_used(folder: Path) -> None:
    write_jsonl(folder / "x.jsonl", [compared(n) for n in range(5)])
    (folder / "mine.yaml").write_text("data:\n  name: mine\n")
    result = kellet("validate", "x.jsonl", "--map-values", "0=b,1=a", "--accept", "--params", "mine.yaml")
    assert result.exit_code == 2
    assert yaml.safe_load((folder / "mine.yaml").read_text()) == {"data": {"name": "mine"}}


def test_files_that_are_read_differently_are_accepted_one_at_a_time(folder: Path) -> None:
    write_jsonl(folder / "x.jsonl", [compared(n) for n in range(40)])
    write_jsonl(folder / "y.jsonl", [row(n) for n in range(40, 80)])
    result = kellet("validate", "x.jsonl", "y.jsonl", "--map-values", "0=b,1=a", "--accept", *SMALL)
    assert result.exit_code == 2
    assert "accept them one at a time" in result.stderr


@pytest.mark.parametrize("wrong", ["0", "0=c", "=a", "0=a,1"])
def test_a_side_that_is_none_is_refused(folder: Path, wrong: str) -> None:
    write_jsonl(folder / "x.jsonl", [compared(n) for n in range(40)])
    result = kellet("validate", "x.jsonl", "--map-values", wrong)
    assert result.exit_code == 2
    assert "it takes VALUE=a, VALUE=b or VALUE=tie" in result.stderr


def test_few_prompts_for_many_pairs_are_warned_about(folder: Path) -> None:
    """8 prompts for 240 pairs; one for each pair is no news."""
    write_jsonl(folder / "x.jsonl", [row(n, prompt=f"Translate the message, please {n % 8}.") for n in range(240)])
    result = kellet("validate", "x.jsonl", "--set", "data.split={validation: 0.4, test: 0.3}")
    assert "warn 8 distinct prompts for 240 pairs: is it the right column that was read as the prompt?" in result.stdout
    write_jsonl(folder / "x.jsonl", [row(n) for n in range(240)])
    assert "distinct prompts" not in kellet("validate", "x.jsonl").stdout
