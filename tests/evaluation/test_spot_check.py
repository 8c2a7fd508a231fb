"""Spot checks: sheets are blind, verdicts become the scores of the right answers, and bad sheets are refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kellet.errors import DataError, InputError
from kellet.evaluation import reviewers, spot_check
from tests.helpers.command import kellet
from tests.helpers.unjudged import SYSTEMS, evaluation


def response(rows, system, entry):
    (text,) = rows[
        (rows["system"] == system) & (rows["prompt_id"] == entry["prompt_id"]) & (rows["sample"] == entry["sample"])
    ]["response"]
    return text


def test_the_key_says_who_is_who_and_the_sheet_does_not():
    rows = evaluation(equal=(3, 5))
    sheet, key = spot_check.draw(rows, "reference", 40, seed=0)
    assert len(sheet) == 38
    assert {tie["prompt_id"] for tie in key["ties"]} == {"p03", "p05"}
    assert len({entry["prompt_id"] for entry in key["items"]}) == 38  # a prompt is asked once
    assert {entry["sample"] for entry in key["items"]} == {0, 1}
    for row, entry in zip(sheet.to_dict("records"), key["items"], strict=True):
        other = {"a": "answer_b", "b": "answer_a"}[entry["candidate"]]
        assert row["item"] == entry["item"]
        assert row[f"answer_{entry['candidate']}"] == response(rows, "candidate", entry)
        assert row[other] == response(rows, "reference", entry)
    first = [entry["candidate"] for entry in key["items"]].count("a")
    assert 9 <= first <= 29  # of 38 fair coins: outside once in a thousand seeds
    assert not sheet.map(lambda text: "candidate" in text or "reference" in text).to_numpy().any()


def test_a_seed_repeats_the_draw_and_another_draws_other_prompts_and_orders():
    rows = evaluation()
    again = spot_check.draw(rows, "reference", 10, seed=1)
    assert spot_check.draw(rows, "reference", 10, seed=1)[1] == again[1]
    assert spot_check.draw(rows, "reference", 10, seed=2)[1]["items"] != again[1]["items"]
    assert len(again[0]) == 10


def filled(folder, name, better):
    """A sheet of three comparisons with these verdicts."""
    path = folder / f"{name}.csv"
    lines = [f"{item},Q?,x,y,{verdict}" for item, verdict in zip(("i1", "i2", "i3"), better, strict=False)]
    path.write_text("\n".join(["item,prompt,answer_a,answer_b,better", *lines]) + "\n")
    return path


KEY = {
    "against": "reference",
    "items": [
        {"item": "i1", "prompt_id": "p00", "sample": 0, "candidate": "a"},
        {"item": "i2", "prompt_id": "p01", "sample": 1, "candidate": "b"},
        {"item": "i3", "prompt_id": "p02", "sample": 0, "candidate": "b"},
    ],
    "ties": [{"prompt_id": "p03", "sample": 0}],
}


def test_verdicts_become_scores_of_both_answers(tmp_path):
    """Worked by hand: i1 won and tied (3/4), i2 won once (1), i3 won and lost (1/2), and a tie that nobody judged."""
    rows = evaluation()
    key = KEY | {"evaluation_rows_sha256": spot_check.evaluation_hash(rows)}
    verdicts = spot_check.read_verdicts([filled(tmp_path, "a", "abb"), filled(tmp_path, "b", ["tie", "", "A "])], key)
    scores = spot_check.add_verdicts(rows, key, verdicts).set_index(["system", "prompt_id", "sample"])["judge_human"]
    expected = {("p00", 0): 0.75, ("p01", 1): 1.0, ("p02", 0): 0.5, ("p03", 0): 0.5}
    assert scores["candidate"].dropna().to_dict() == expected
    assert scores["reference"].dropna().to_dict() == {answer: 1 - score for answer, score in expected.items()}
    with pytest.raises(DataError, match="not the evaluation that the sheet was drawn from"):
        spot_check.add_verdicts(rows.assign(reward=0.0), key, verdicts)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item,better\ni1,a\ni9,b\n", "line 3, row 2, column 'item': 'i9': no comparison of this key"),
        ("item,better\ni1,a\ni2,b\ni1,b\n", "row 3, column 'item': 'i1': given twice"),
        ("item,better\ni1,a\ni2,left\ni3,both\n", r"row 2, column 'better': 'left': wanted a, b, tie.*\(and 1 more"),
        ("item,better\ni1,\ni2, \n", "column 'better' is empty in every row"),
        ("item,best\ni1,a\n", "column 'better' is missing; found item, best"),
        ("", "ann.csv is empty"),
        ('item,better\ni1,"a\n', "the row that starts on line 2 cannot be read"),
        ("item,better\ni1,a,b\n", "line 2: 3 fields, the header has 2"),
    ],
)
def test_a_sheet_that_cannot_be_read_is_refused_with_row_and_column(tmp_path, text, message):
    (tmp_path / "ann.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        spot_check.read_verdicts([tmp_path / "ann.csv"], KEY)


def test_sheets_as_spreadsheet_programs_save_them(tmp_path):
    (tmp_path / "semicolons.csv").write_bytes('\ufeffitem;prompt;better\r\ni1;"a;b\nc";A\r\n'.encode())
    (tmp_path / "ansi.csv").write_bytes("item,prompt,better\ni1,é,a\n".encode("cp1252"))
    verdicts = spot_check.read_verdicts([tmp_path / "semicolons.csv"], KEY)
    assert verdicts[["reviewer", "item", "candidate"]].to_numpy().tolist() == [["semicolons", "i1", 1.0]]
    with pytest.raises(DataError, match="not UTF-8"):
        spot_check.read_verdicts([tmp_path / "ansi.csv"], KEY)
    with pytest.raises(DataError, match="two sheets are called 'semicolons'"):
        spot_check.read_verdicts([tmp_path / "semicolons.csv"] * 2, KEY)


def test_a_sheet_loses_nothing_on_its_way_through_a_spreadsheet_program(tmp_path):
    """Saved as 'Unicode text' (UTF-16, tabs); cells at a row's end left out; rows of empty cells; any separator.

    When Excel does so: https://www.stata.com/support/faqs/data-management/how-excel-writes-empty-cells/
    """
    text = 'item;prompt;better;comment\r\ni1;"a;\tb\u2028c\x85d";a\r\n;;;\r\ni2;x, y;b;"more\r\nhere"\r\n'
    (tmp_path / "semicolons.csv").write_bytes(text.encode("utf-8-sig"))
    (tmp_path / "unicode.txt").write_bytes(text.replace("\t", " ").replace(";", "\t").encode("utf-16"))
    verdicts = spot_check.read_verdicts([tmp_path / "semicolons.csv", tmp_path / "unicode.txt"], KEY)
    assert verdicts[["reviewer", "item", "candidate"]].to_numpy().tolist() == [
        *(["semicolons", "i1", 1.0], ["semicolons", "i2", 1.0]),
        *(["unicode", "i1", 1.0], ["unicode", "i2", 1.0]),
    ]
    (tmp_path / "two.csv").write_text("item;better,comment\ni1;a,b\n")
    with pytest.raises(DataError, match=r"comma \(2 columns\) or semicolon \(2 columns\)"):
        spot_check.read_verdicts([tmp_path / "two.csv"], KEY)


def test_an_answer_is_no_formula_and_no_key_is_overwritten(tmp_path):
    rows = evaluation().assign(response=lambda table: "=1+" + table["response"])
    drawn = spot_check.draw(rows, "reference", 2, seed=0)
    spot_check.write(*drawn, tmp_path / "s.csv", tmp_path / "k.json")
    with (tmp_path / "s.csv").open(encoding="utf-8-sig", newline="") as file:
        written = list(csv.DictReader(file))
    assert all(row["answer_a"].startswith("'=1+") for row in written)
    with pytest.raises(InputError, match=r"k\.json exists"):
        spot_check.write(*drawn, tmp_path / "s.csv", tmp_path / "k.json")


def test_agreement_and_what_chance_would_give():
    """Two reviewers, four comparisons, the same verdict on three; of eight, four better, three worse, one tie."""
    scores_of = {"ann": (1.0, 1.0, 0.0, 0.5), "ben": (1.0, 1.0, 0.0, 0.0)}
    rows = [(name, f"i{n}", score, "a") for name, scores in scores_of.items() for n, score in enumerate(scores)]
    rows.append(("ann", "alone", 1.0, "a"))
    verdicts = pd.DataFrame(rows, columns=["reviewer", "item", "candidate", "verdict"])
    share, chance = reviewers.agreement(verdicts, alpha=0.05)
    assert (share.value, share.clusters) == (0.75, 4)
    assert share.low < 0.75 < share.high
    assert chance == pytest.approx((4**2 + 3**2 + 1) / 64)
    assert reviewers.agreement(verdicts[verdicts["reviewer"] == "ann"], alpha=0.05) is None


def test_from_the_sheet_to_the_gate(tmp_path, monkeypatch):
    """Two reviewers like the longer answer, which is the candidate's; three equal answers are half wins: 58.5 of 60."""
    monkeypatch.chdir(tmp_path)
    evaluation(prompts=60, equal=range(3), systems=SYSTEMS).to_parquet("evaluation.parquet")
    names = ("--set", "name=week")
    result = kellet("spot-check", "export", "evaluation.parquet", "--pairs", "60", *names)
    assert result.exit_code == 0, result.output
    assert "57 comparisons in spot_checks/week/comparisons.csv, 3 more are ties" in result.output
    assert "about 38 where people prefer the candidate in 60%, 155 where in 50%" in result.output
    sheet = pd.read_csv("spot_checks/week/comparisons.csv", dtype=str, keep_default_na=False)
    longer = np.where(sheet["answer_a"].str.len() > sheet["answer_b"].str.len(), "a", "b")
    for reviewer in ("ann", "ben"):
        sheet.assign(better=longer).to_csv(f"{reviewer}.csv", index=False)
    result = kellet("spot-check", "import", "ann.csv", "ben.csv", *names)
    assert result.exit_code == 0, result.output
    assert "ann judged 57 of 57: candidate better in 57, reference in 0, tie in 0; chose A" in result.output
    assert "two reviewers said the same in 100.0%" in result.output
    assert "win rate of the candidate over the reference: 97.5%" in result.output
    decision = json.loads(kellet("gate", "spot_checks/week.parquet", "--json").stdout)
    (judge,) = [criterion for criterion in decision["criteria"] if criterion["name"] == "independent_judge"]
    assert (judge["passed"], judge["value"]) == (True, pytest.approx(58.5 / 60))
    again = ("--set", "name=second", "--against", "champion")
    result = kellet("spot-check", "export", "spot_checks/week.parquet", "--pairs", "99", *again)
    assert "57 comparisons" in result.output
    first, second = (json.loads(Path(f"spot_checks/{name}.key.json").read_text()) for name in ("week", "second"))
    asked = [{(entry["prompt_id"], entry["sample"]) for entry in key["items"]} for key in (first, second)]
    assert not asked[0] & asked[1]  # an answer has one score: it is not judged a second time


def test_the_verb_refuses_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluation(prompts=3).to_parquet("evaluation.parquet")
    assert (
        "has no answers of 'champion'"
        in kellet("spot-check", "export", "evaluation.parquet", "--against", "champion").output
    )
    assert kellet("spot-check", "export", "evaluation.parquet").exit_code == 0
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    for arguments, message in (
        (("export", "evaluation.parquet"), "default.key.json exists"),
        (("import", "spot_checks/default/comparisons.csv"), "column 'better' is empty"),
        (("import", "none.csv"), "none.csv does not exist"),
        (("import", "evaluation.parquet", "--key", "none.json"), "no key of 'kellet spot-check export'"),
        (("import", "evaluation.parquet", "--key", "spot_checks/default/comparisons.csv"), "no key of"),
    ):
        refused = kellet("spot-check", *arguments)
        assert refused.exit_code == 2, refused.output
        assert message in refused.output
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
