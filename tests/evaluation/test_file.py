"""The evaluation file: what it may look like, and that a bad one is refused with its row and column."""

import json
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kellet.config.judgement import Gate
from kellet.errors import DataError
from kellet.evaluation.columns import left_out
from kellet.evaluation.file import check_evaluation, evaluation_hash, read_accounted, read_evaluation
from kellet.gate.verdict import decide
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
    "a sample beyond 64 bits": (spoil("sample", 1, 10**30), r"row 2, column 'sample': '1e\+30': wanted 0, 1, 2"),
    "a reward beyond a float": (spoil("reward", 1, 10**400), r"row 2, column 'reward': .*infinite"),
    "a reward that is a date": (
        lambda t: t.assign(reward=pd.Timestamp("2026-01-01")),
        r"row 1, column 'reward': '2026-01-01 00:00:00': .*not a number",
    ),
    "a length that is true": (spoil("length_tokens", 1, True), r"row 2, column 'length_tokens': 'True': true or false"),
    "a reward of true among numbers": (spoil("reward", 1, True), r"row 1, column 'reward': .* among true and false"),
    "a list of texts": (
        lambda t: t.assign(response=[["a", "b"]] * len(t)),
        r"row 1, column 'response': \"\['a', 'b'\]\": a list that holds no messages",
    ),
    "numbers for answers": (
        lambda t: t.assign(response=0.5),
        r"row 1, column 'response': '0\.5': a number with decimals",
    ),
    "half a character": (spoil("response", 2, "x\ud83d"), r"row 3, column 'response': .*lone surrogate"),
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


# ---- columns


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("JUDGE_HUMAN", "judge_human"),
        (" Judge_human ", "judge_human"),
        ("judge_GPT", "judge_GPT"),
        ("\ufeffjudge_a", "judge_a"),
    ],
)
def test_case_and_blanks_around_a_name_do_not_matter(table, tmp_path, name, ours):
    table.rename(columns={"judge_human": name, "reward": " Reward", "kl_nats": "KL_nats"}).to_csv(
        tmp_path / "e.csv", index=False
    )
    rows, account = read_accounted(tmp_path / "e.csv")
    assert rows[ours].notna().sum() == 8
    assert rows["kl_nats"].notna().sum() == 24
    assert {entry.name: entry.taken_for for entry in account}[" Reward"] == "reward"


def test_every_column_is_accounted_for(table, tmp_path):
    table.assign(temperature=1.0, gpt4_score=0.5).to_parquet(tmp_path / "e.parquet")
    account = {entry.name: entry for entry in read_accounted(tmp_path / "e.parquet")[1]}
    assert list(account) == [*table.columns, "temperature", "gpt4_score"]
    assert (account["temperature"].taken_for, account["temperature"].why) == ("", "no column of an evaluation")
    assert "judge_NAME" in account["gpt4_score"].why
    assert "judge_NAME" in left_out("gpt4_judgement", {})
    assert "judge_NAME" not in left_out("note", {})
    assert account["kl_nats"].share == 0.5
    assert account["judge_human"].share == 8 / 48


@pytest.mark.parametrize(
    "name",
    ["judge-human", "judgehuman", "Judge human", "judge", "judges", "llm_judge", "winrate_judge", "LLM-judge-score"],
)
def test_a_judge_under_a_name_that_is_nearly_right_is_not_dropped(table, name):
    with pytest.raises(DataError, match=f"column '{name}' looks like a judge's scores"):
        check_evaluation(table.rename(columns={"judge_human": name}))


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        *(("kl_nat", "kl_nats"), ("kl-nats", "kl_nats"), ("KL", "kl_nats"), ("trucated", "truncated")),
        *(
            ("cluster_id", "cluster"),
            ("clusters", "cluster"),
            ("reward_stdev", "reward_std"),
            ("rewardstd", "reward_std"),
        ),
    ],
)
def test_an_optional_column_that_is_nearly_right_is_refused(table, name, ours):
    lacking = table.drop(columns=[ours], errors="ignore")
    with pytest.raises(DataError, match=f"column '{name}' looks like '{ours}', which is not in the file"):
        check_evaluation(lacking.assign(**{name: 0.0}))
    check_evaluation(table.assign(**{ours: 0.0, name: "x"}))  # where ours is there, theirs is something else


@pytest.mark.parametrize(
    "name", ["kl_k1", "topic", "raw", "row", "reward_model", "prompt_tokens", "judged_by", "comment", "llm_judge_model"]
)
def test_ordinary_other_columns_are_left_out(table, name):
    assert name not in check_evaluation(table.assign(**{name: "x"}))


def test_a_needed_column_that_is_nearly_right_is_named(table):
    with pytest.raises(DataError, match=r"'length_tokens' is missing; .*did you mean 'length_token'"):
        check_evaluation(table.rename(columns={"length_tokens": "length_token"}))


def test_a_column_twice_is_refused(table, tmp_path):
    for name in ("Reward ", "reward.1"):
        with pytest.raises(DataError, match=f"'reward' and '{name}'"):
            check_evaluation(table.assign(**{name: 0.0}))
    twice = pd.concat([table, table[["reward"]]], axis=1)
    with pytest.raises(DataError, match="'reward' and 'reward' are both 'reward'"):
        check_evaluation(twice)
    twice.to_csv(tmp_path / "e.csv", index=False)
    with pytest.raises(DataError, match="'reward' appears twice"):
        read_evaluation(tmp_path / "e.csv")


def test_a_judge_whose_name_cannot_be_printed_is_refused(table):
    with pytest.raises(DataError, match="cannot be printed"):
        check_evaluation(table.assign(**{"judge_a\n::error::b": 1.0}))


# ---- cells


def test_decimal_commas_are_decided_by_all_columns_together(table, tmp_path):
    table = table.round(3)
    table.to_csv(tmp_path / "e.csv", index=False, sep=";", decimal=",")
    table.to_csv(tmp_path / "f.csv", index=False)
    assert evaluation_hash(read_evaluation(tmp_path / "e.csv")) == evaluation_hash(read_evaluation(tmp_path / "f.csv"))


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        ("1,234", "it may be 1.234 or 1234"),
        ("0,5", "other cells of the file have a decimal point"),
        ("1.234,5", "not a number"),
        ("1_000", "not a number"),
        ("45%", "not a number"),
    ],
)
def test_a_comma_that_can_be_read_in_two_ways_is_refused(table, reward, message):
    texts = table.astype({"reward": object, "kl_nats": object, "judge_human": object})
    texts[["kl_nats", "judge_human"]] = None if reward == "1,234" else "2.5"
    texts["reward"] = reward
    with pytest.raises(DataError, match=f"row 1, column 'reward': '{reward}': .*{message}"):
        check_evaluation(texts)


@pytest.mark.parametrize("word", ["", "nan", "NaN", "None", "null", "<NA>", "NA", "n/a", "#N/A"])
def test_words_for_no_value_in_a_number_cell_are_unknown(table, word):
    rows = check_evaluation(table.astype({"kl_nats": object}).assign(kl_nats=word, truncated=word))
    assert rows["kl_nats"].isna().all()
    assert rows["truncated"].isna().all()
    with pytest.raises(DataError, match=r"row 1, column 'reward': .*finite number"):
        check_evaluation(table.astype({"reward": object}).assign(reward=word))


def test_true_and_false_in_many_words(table):
    words = ["TRUE", "False", "yes", "NO", "1", "0", "t", "f", "Y", "n", "1.0", "0.0"]
    rows = check_evaluation(table.assign(truncated=words * 4))
    assert sorted(rows["truncated"]) == [0.0] * 24 + [1.0] * 24
    graded = check_evaluation(table.assign(reward=["true", "false"] * 24))
    assert sorted(graded["reward"]) == [0.0] * 24 + [1.0] * 24


def test_an_error_names_the_line_of_the_users_own_file(table, tmp_path):
    table = table.astype({"reward": object}).assign(response="two\nlines")
    table.loc[5, "reward"] = "high"  # 1 header + 5 rows of two lines before it
    table.to_csv(tmp_path / "e.csv", index=False)
    with pytest.raises(DataError, match=r"e\.csv: line 12, column 'reward': 'high': not a number"):
        read_evaluation(tmp_path / "e.csv")
    table.to_json(tmp_path / "e.jsonl", orient="records", lines=True)
    with pytest.raises(DataError, match=r"e\.jsonl: line 6, column 'reward': 'high'"):
        read_evaluation(tmp_path / "e.jsonl")


def test_kinds_of_parquet_columns(table, tmp_path):
    plain = check_evaluation(table.round(3))
    odd = table.round(3).astype({"system": "category", "response": "category", "sample": "uint8"})
    odd["reward"] = [Decimal(str(value)) for value in odd["reward"]]
    odd["kl_nats"] = odd["kl_nats"].astype("Float64")
    odd["created"] = pd.Timestamp("2026-01-01")
    odd.set_index("prompt_id").to_parquet(tmp_path / "e.parquet")
    pd.testing.assert_frame_equal(read_evaluation(tmp_path / "e.parquet"), plain)


def test_lengths_that_are_characters_are_told(table, tmp_path):
    table["response"] = ["ab " * (n + 1) for n in range(48)]
    table["length_tokens"] = table["response"].map(len)
    table.to_csv(tmp_path / "e.csv", index=False)
    notes = []
    read_accounted(tmp_path / "e.csv", notes)
    assert notes == [
        f"the lengths of the {system} are the number of characters of each response"
        for system in ("candidate", "reference")
    ]


# ---- messages


def message(text, role="assistant", **more):
    return [{"role": role, "content": text, **more}]


def as_lists(table):
    return table.assign(response=[message(text) for text in table["response"]])


def test_answers_in_messages_have_the_verdict_of_their_texts(tmp_path):
    texts = evaluation(64, gain=1.0).round(6)
    texts.loc[(texts["system"] == "candidate") & (texts.index % 8 == 0), "response"] = ""
    lists = as_lists(texts)
    lists.to_parquet(tmp_path / "lists.parquet")
    lists.to_json(tmp_path / "lists.jsonl", orient="records", lines=True, double_precision=15)
    lists.to_csv(tmp_path / "python.csv", index=False)  # pandas writes lists as Python does
    lists.assign(response=lists["response"].map(json.dumps)).to_csv(tmp_path / "json.csv", index=False)
    asked = texts.assign(prompt=[message(text, "user") for text in texts["prompt"]])
    asked.to_parquet(tmp_path / "asked.parquet")
    wanted = decide(texts, Gate(resamples=200))
    assert wanted.criterion("degeneration").passed is False
    for file in sorted(tmp_path.iterdir()):
        found = decide(read_evaluation(file), Gate(resamples=200))
        assert (found.headline, found.criteria) == (wanted.headline, wanted.criteria), file.name


@pytest.mark.parametrize(
    ("response", "why"),
    [
        (message("a", "user") + message("b"), "2 messages, wanted the answer alone"),
        (message("a", "user"), "role 'user', wanted the assistant's answer"),
        (message("", tool_calls=[{"function": {"name": "find", "arguments": "{}"}}]), "calls a tool"),
        (message(None), "no text"),
        ([], "no messages"),
    ],
)
@pytest.mark.parametrize("write", [lambda cell: cell, json.dumps, str])
def test_messages_that_are_no_single_answer_are_refused(table, response, why, write):
    if response == [] and write is not message and write([]) == "[]":
        return  # the text [] may be an answer
    cells = as_lists(table)["response"].map(write)
    cells[3] = write(response)
    with pytest.raises(DataError, match=f"row 4, column 'response': .*{why}"):
        check_evaluation(table.assign(response=cells))


def test_an_answer_about_messages_is_a_text(table):
    texts = table.assign(response=[json.dumps(message("hi")), *table["response"][1:]])
    rows = check_evaluation(texts)
    assert json.dumps(message("hi")) in set(rows["response"])


# ---- laws

CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.sampled_from(["role", "content", "x"]), st.text(max_size=3), max_size=2),
    st.sampled_from(
        ["0,5", "1,234", "nan", "true", '[{"role": "user", "content": "x"}]', "[{'role': 'a'", "-inf", "１"]
    ),
    st.sampled_from([Decimal("NaN"), Decimal("sNaN"), pd.NaT, pd.NA, np.float32(1), np.array([1]), {1}, object()]),
)
COLUMNS = ["prompt_id", "prompt", "system", "sample", "response", "reward", "length_tokens", "kl_nats", "truncated"]
MORE = ["judge_human", "cluster", "reward_std", "draw"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*COLUMNS, *MORE]), st.integers(0, 47), CELLS, st.booleans())
def test_nothing_but_a_clear_error_comes_from_any_cell(table, column, row, cell, everywhere):
    spoilt = table.assign(cluster="a", reward_std=0.1, draw=1).astype({column: object})
    spoilt[column] = pd.Series(
        [cell if everywhere or n == row else old for n, old in enumerate(spoilt[column])], dtype=object
    )
    try:
        rows = check_evaluation(spoilt)
    except DataError as error:
        assert column in str(error) or "system" in str(error)  # noqa: PT017
    else:
        assert evaluation_hash(check_evaluation(rows)) == evaluation_hash(rows)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.sampled_from(["csv", "tsv", "jsonl", "json", "parquet", "csv.gz"]))
def test_nothing_but_a_clear_error_comes_from_any_bytes(tmp_path, data, suffix):
    path = tmp_path / f"e.{suffix}"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"e\."):
        read_evaluation(path)


TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n ,;\"'\t01.-"), max_size=10)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(TEXT, TEXT, st.floats(-1e9, 1e9), st.none() | st.floats(0, 50)), min_size=1, max_size=6))
def test_every_kind_of_file_gives_the_same_rows(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("evaluation")
    rows = [
        {"prompt_id": f"p{n}", "prompt": prompt, "system": system, "sample": 0, "response": response + system}
        | {"reward": reward, "length_tokens": n, "kl_nats": kl, "truncated": bool(n % 2), "cluster": "a b"}
        for n, (prompt, response, reward, kl) in enumerate(drawn)
        for system in ("candidate", "reference")
    ]
    table = pd.DataFrame(rows)
    table.to_parquet(folder / "e.parquet")
    for name, separator in (("e.csv", ","), ("e.tsv", "\t"), ("e.csv.gz", ","), ("semicolon.csv", ";")):
        table.to_csv(folder / name, index=False, sep=separator, lineterminator="\r\n" if separator == ";" else "\n")
    lines = [json.dumps(row) for row in rows]
    (folder / "e.jsonl").write_text("\n".join(lines))
    (folder / "e.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
    table.sample(frac=1, random_state=0)[list(reversed(table.columns))].to_csv(folder / "shuffled.csv", index=False)
    hashes = {file.name: evaluation_hash(read_evaluation(file)) for file in folder.iterdir()}
    assert len(set(hashes.values())) == 1, hashes
