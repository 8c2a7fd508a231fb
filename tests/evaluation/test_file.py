"""The evaluation file: what it may look like, and that a bad one is refused with its row and column."""

import pandas as pd
import pytest

from kellet.errors import DataError
from kellet.evaluation.file import check_evaluation, evaluation_hash, read_evaluation
from tests.helpers.evaluations import evaluation


@pytest.fixture
def table():
    return evaluation(12, judged=4)


def test_csv_and_parquet_and_any_order_of_rows_say_the_same(table, tmp_path):
    table.to_parquet(tmp_path / "e.parquet")
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "e.csv", index=False)
    one, two = read_evaluation(tmp_path / "e.parquet"), read_evaluation(tmp_path / "e.csv")
    pd.testing.assert_frame_equal(one, two, rtol=1e-12)
    assert evaluation_hash(one) == evaluation_hash(two)
    two.loc[0, "reward"] += 1e-9
    assert evaluation_hash(one) != evaluation_hash(two)


def test_words_that_look_like_null_stay_words(table, tmp_path):
    table["response"] = ["NA", "None", "", 'a "quoted", line\nand another'] * 12
    table.to_csv(tmp_path / "e.csv", index=False)
    assert set(read_evaluation(tmp_path / "e.csv")["response"]) == {"NA", "None", "", 'a "quoted", line\nand another'}


def test_columns_that_may_be_missing_are_null(table):
    read = check_evaluation(table.drop(columns=["kl_nats", "truncated", "judge_human"]))
    assert read["kl_nats"].isna().all()
    assert read["truncated"].isna().all()


def test_other_columns_are_left_out(table):
    assert "temperature" not in check_evaluation(table.assign(temperature=1.0)).columns


def spoil(column, row, value):
    def change(table):
        table = table.astype({column: object})
        table.loc[row, column] = value
        return table

    return change


BAD = {
    "NaN reward": (spoil("reward", 4, float("nan")), r"row 5, column 'reward': .*finite"),
    "infinite reward": (spoil("reward", 4, float("-inf")), r"row 5, column 'reward': .*infinite"),
    "reward in words": (spoil("reward", 4, "high"), r"row 5, column 'reward': 'high': not a number"),
    "negative length": (spoil("length_tokens", 7, -1), r"row 8, column 'length_tokens': .*negative"),
    "infinite KL": (spoil("kl_nats", 2, float("inf")), r"row 3, column 'kl_nats': .*infinite"),
    "negative disagreement": (
        lambda t: spoil("reward_std", 2, -0.1)(t.assign(reward_std=0.1)),
        r"row 3, column 'reward_std': .*negative",
    ),
    "negative KL": (spoil("kl_nats", 2, -0.5), r"row 3, column 'kl_nats': .*not the k1 sum"),
    "infinite judge": (spoil("judge_human", 0, float("inf")), r"row 1, column 'judge_human'"),
    "a reward too large to be squared": (spoil("reward", 4, 1e101), r"row 5, column 'reward': .*at most 1e\+100"),
    "samples that never meet": (
        lambda t: t.assign(sample=t["sample"] + 2 * (t["system"] == "candidate")),
        r"row 1, column 'sample': .*no answer of 'reference'",
    ),
    "half a sample": (spoil("sample", 1, 0.5), r"row 2, column 'sample'"),
    "truncated in words": (spoil("truncated", 1, "maybe"), r"row 2, column 'truncated': 'maybe': wanted true or false"),
    "unknown system": (spoil("system", 3, "baseline"), r"row 4, column 'system': 'baseline': wanted one of"),
    "no prompt id": (spoil("prompt_id", 3, None), r"row 4, column 'prompt_id'"),
    "null response": (spoil("response", 3, None), r"row 4, column 'response'"),
    "another text": (spoil("prompt", 3, "something else"), r"row 4, column 'prompt': .*another text"),
    "duplicate key": (spoil("sample", 1, 0), r"row 2, column 'sample': 'p000000/candidate': the same"),
    "missing column": (lambda t: t.drop(columns="reward"), r"column 'reward' is missing; found"),
    "no rows": (lambda t: t.iloc[:0], "no rows"),
    "one system": (lambda t: t[t["system"] == "candidate"], r"column 'system' has no row for 'reference'"),
    "prompts differ": (
        lambda t: t.drop(index=[46, 47]),
        r"row 23, column 'prompt_id': 'p000011': .*'reference'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_table_is_refused_with_row_and_column(table, name):
    change, message = BAD[name]
    with pytest.raises(DataError, match=message):
        check_evaluation(change(table))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("e.csv", b"", "is empty"),
        ("e.csv", b"prompt_id,prompt\n1,\xff\xfe\n", "not UTF-8: byte 0xff on line 2"),
        ("e.csv", b'prompt_id,prompt\n1,"never closed\n2,x\n', "cannot be read"),
        ("e.parquet", b"PAR1 but not really", "not a sound Parquet file"),
        ("e.txt", b"", r"\.txt: .*\.csv.*\.parquet"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_evaluation(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="nowhere"):
        read_evaluation(tmp_path / "nowhere.parquet")
