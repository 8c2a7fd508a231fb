"""Figures of an evaluation that are none: codes, a KL that was not measured, judges that say nothing."""

import numpy as np
import pytest

from kellet.errors import DataError
from kellet.evaluation.file import check_evaluation, read_accounted
from tests.helpers.evaluations import evaluation


@pytest.fixture
def table():
    return evaluation(15, judged=15)


def told(table, tmp_path):
    table.to_csv(tmp_path / "e.csv", index=False)
    notes = []
    rows = read_accounted(tmp_path / "e.csv", notes)[0]
    return rows, " | ".join(notes)


@pytest.mark.parametrize(
    ("name", "code"), [("reward", -999), ("reward", 9999), ("judge_human", -99), ("kl_nats", 9999)]
)
def test_a_code_for_no_value_is_no_score(table, name, code):
    row = int(np.flatnonzero(table[name].notna())[3])
    table.loc[row, name] = code
    with pytest.raises(DataError, match=rf"row {row + 1}, column '{name}': '{code}\.0': far from every other value"):
        check_evaluation(table)


def test_such_a_figure_among_others_of_its_size_is_one(table):
    table["reward"] = 400 * table["reward"]  # spread over some 2,000
    table.loc[0, "reward"] = 999
    assert 999 in set(check_evaluation(table)["reward"])
    assert set(check_evaluation(table.assign(reward=99.0))["reward"]) == {99.0}


def test_a_kl_of_exactly_zero_was_not_measured(table, tmp_path):
    rows, notes = told(table.assign(kl_nats=0.0), tmp_path)
    assert rows["kl_nats"].isna().all()
    assert "was not measured" in notes
    rows, notes = told(table.assign(kl_nats=table["kl_nats"].where(table.index > 0, 0.0)), tmp_path)
    assert (rows["kl_nats"] == 0).sum() == 1
    assert "measured" not in notes
    # the same answers are of the same policy, of which it is zero
    rows, notes = told(table.assign(kl_nats=0.0, response=table["prompt"]), tmp_path)
    assert (rows["kl_nats"] == 0).all()
    assert "measured" not in told(table.drop(columns="kl_nats"), tmp_path)[1]


def test_a_judge_that_says_nothing_is_told(table, tmp_path):
    assert told(table, tmp_path)[1] == ""
    assert "'judge_human' has no figure in any row" in told(table.assign(judge_human=np.nan), tmp_path)[1]
    assert "every score in column 'judge_human' is -1" in told(table.assign(judge_human=-1), tmp_path)[1]
    assert "of ranks the lowest is best" in told(table.assign(judge_rank=table["judge_human"]), tmp_path)[1]


def test_answers_that_are_missing_are_told_or_refused(table, tmp_path):
    reference = table["system"] == "reference"
    lost = table.assign(response=table["response"].mask(reference, ""))
    with pytest.raises(DataError, match="row 31, column 'response': '': empty, as every answer of the reference"):
        check_evaluation(lost)
    collapsed = lost.assign(length_tokens=table["length_tokens"].mask(reference, 1))  # a policy that answers nothing
    assert "all 30 answers of the reference are empty" in told(collapsed, tmp_path)[1]
    assert (
        "all 30 answers of the candidate are empty" in told(table.assign(response=""), tmp_path)[1]
    )  # texts left away
    _, notes = told(table.assign(response="None"), tmp_path)
    assert "all 30 answers of the candidate are 'None'" in notes
    assert "most lengths of the candidate cannot be numbers of tokens" in notes  # 30 tokens in four bytes


def test_answers_that_hold_more_than_the_answer_are_told(table, tmp_path):
    assert (
        "answers of the candidate begin with their prompts"
        in told(table.assign(response=table["prompt"] + table["response"]), tmp_path)[1]
    )
    ended = told(table.assign(response=table["response"] + "</s><pad> "), tmp_path)[1]
    assert "answers of the reference end with special tokens ('<pad> ')" in ended


def test_one_length_for_answers_of_every_length_is_padding(table, tmp_path):
    table["response"] = [("word " * (1 + n % 20)).strip() for n in range(len(table))]
    table["length_tokens"] = 20
    with pytest.raises(DataError, match=r"'length_tokens': .*although the answers have 1 to 20 words: the width of a"):
        check_evaluation(table)
    assert "padding" not in told(table.assign(truncated=True), tmp_path)[1]  # all were cut at 20 tokens
    table["response"] = "word " * 16 + table["response"].str[:20]  # 17 to 20 words: 20 tokens each, perhaps
    assert "padding" not in told(table, tmp_path)[1]


def test_a_longer_policy_does_not_pass_by_the_width_of_its_batches(table, tmp_path):
    """Within a system words differ little, between the systems by half: one width for both hides it."""
    longer = table["system"].eq("candidate")
    words = [(30 if candidate else 20) + n % 4 for n, candidate in enumerate(longer)]
    table["response"] = ["word " * count for count in words]
    with pytest.raises(DataError, match="although the answers have 20 to 33 words"):
        check_evaluation(table.assign(length_tokens=60))
    widths = table.assign(length_tokens=[60 + n % 3 for n in range(len(table))])  # padded batch by batch
    assert "by their words the candidate's answers are 4" in told(widths, tmp_path)[1]
    honest = table.assign(length_tokens=words)
    assert "by their words" not in told(honest, tmp_path)[1]


def test_systems_under_other_names_and_prompts_apart_by_white_space_say_what_to_do(table):
    with pytest.raises(DataError, match=r"'model': wanted one of .*rename the trained policy to candidate"):
        check_evaluation(table.replace({"system": {"candidate": "model", "reference": "base"}}))
    table.loc[table["system"] == "candidate", "prompt"] += " "
    with pytest.raises(DataError, match="they differ in white space only"):
        check_evaluation(table)
    table.loc[0, "prompt"] = "Another one?"
    with pytest.raises(DataError, match=r"another text than this prompt_id had \("):
        check_evaluation(table)
