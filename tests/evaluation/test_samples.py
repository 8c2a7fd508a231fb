"""Two files of samples become one evaluation: by name, by line, in one unit, and the same from every kind of file."""

import csv
import gzip
import io
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kellet.errors import DataError
from kellet.evaluation.file import check_evaluation, evaluation_hash
from kellet.evaluation.samples import import_samples, join_samples

COMMON = settings(max_examples=25, deadline=None)


def write(path, rows):
    """The rows as the file's ending says; a list of messages in CSV is JSON, and null is empty."""
    kind = path.name.removesuffix(".gz")
    if kind.endswith(".jsonl"):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif kind.endswith(".json"):
        text = json.dumps(rows, indent=1)
    elif kind.endswith((".csv", ".tsv")):
        out = io.StringIO()
        writer = csv.writer(out, delimiter="\t" if kind.endswith(".tsv") else ",")
        writer.writerow(rows[0])
        for row in rows:
            writer.writerow([json.dumps(row[name]) if isinstance(row[name], list) else row[name] for name in rows[0]])
        text = out.getvalue()
    else:
        pd.DataFrame(rows).to_parquet(path, index=False)
        return path
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.name.endswith(".gz") else data)
    return path


def samples(tmp_path, name, prompts, **more):
    rows = [{"input": f"q{n}", "output": f"a b {n}", "score": n / 10, **more} for n in prompts for _ in range(2)]
    return write(tmp_path / name, rows)


def pair(tmp_path, candidate, reference, suffix="jsonl"):
    return write(tmp_path / f"c.{suffix}", candidate), write(tmp_path / f"r.{suffix}", reference)


def some(n=3, **more):
    return [{"prompt": f"Why {k}?", "response": f"Because of {k}.", "reward": k / 2, **more} for k in range(n)]


def test_samples_of_both_systems_become_an_evaluation(tmp_path):
    candidate = samples(tmp_path, "c.jsonl", range(12))
    reference = samples(tmp_path, "r.jsonl", range(2, 14))
    table, notes = import_samples(candidate, reference)
    rows = check_evaluation(table)
    assert rows["prompt_id"].nunique() == 10
    assert sorted(rows["sample"].unique()) == [0, 1]
    assert "words are counted" in notes[0]
    assert "8 answers to prompts of only one side" in notes[1]


def test_samples_that_do_not_fit_are_refused(tmp_path):
    candidate = samples(tmp_path, "c.jsonl", range(3))
    with pytest.raises(DataError, match="share no prompt"):
        import_samples(candidate, samples(tmp_path, "r.jsonl", range(5, 8)))
    with pytest.raises(DataError, match=r"x\.jsonl: has no reward; .*'prompt', 'response'; .*--map reward=COLUMN"):
        import_samples(candidate, write(tmp_path / "x.jsonl", [{"prompt": "q1", "response": "a"}]))


def test_a_reward_named_after_its_function_is_offered(tmp_path):
    rows = [{"prompt": "q", "completion": "a", "advantage": 0.1, "format_reward_func": 1.0}]  # as TRL logs completions
    files = pair(tmp_path, rows, rows)
    with pytest.raises(DataError, match=r"has no reward; .*--map reward=format_reward_func$"):
        import_samples(*files)
    assert set(import_samples(*files, {"reward": "format_reward_func"})[0]["reward"]) == {1.0}


def test_answers_keep_their_line_breaks_in_csv(tmp_path):
    answer = "one two\n\nthree four\r\nfive\u2028six"  # 6 words in 4 lines and a separator that is no line's end
    files = pair(
        tmp_path, [{"prompt": "q", "response": answer, "reward": 1}], [*some(1), {**some(1)[0], "prompt": "q"}]
    )
    table, _ = import_samples(write(tmp_path / "c.csv", [{"prompt": "q", "response": answer, "reward": 1}]), files[1])
    row = table[table["system"] == "candidate"].iloc[0]
    assert row["response"] == answer
    assert row["length_tokens"] == 6


@pytest.mark.parametrize("text", ["2", "007", "1e5", "2.50", "NA", "None", "nan", "null", "true", "-", ""])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "tsv", "csv.gz", "parquet", "json"])
def test_an_answer_stays_the_text_that_it_was(tmp_path, text, suffix):
    rows = [{"prompt": text or "empty", "response": text, "reward": 1.0}, *some(4)]
    table, _ = import_samples(*pair(tmp_path, rows, rows, suffix))
    assert set(table.loc[table["prompt"] == (text or "empty"), "response"]) == {text}


def test_an_unknown_kl_is_an_empty_text_or_null(tmp_path):
    for blank in ("", None, "nan"):
        table, _ = import_samples(*pair(tmp_path, some(kl_nats=2.5), some(kl_nats=blank)))
        assert set(table.loc[table["system"] == "candidate", "kl_nats"]) == {2.5}
        assert table.loc[table["system"] == "reference", "kl_nats"].isna().all()


@pytest.mark.parametrize(("value", "wanted"), [("false", 0.0), ("FALSE", 0.0), (False, 0.0), ("yes", 1.0), (1, 1.0)])
def test_truncated_in_words(tmp_path, value, wanted):
    table, _ = import_samples(*pair(tmp_path, some(truncated=value), some(truncated=value)))
    assert set(table["truncated"]) == {wanted}


def test_lists_of_messages_are_the_texts_in_them(tmp_path):
    chat = [
        {
            **row,
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "response": [{"role": "assistant", "content": row["response"]}],
        }
        for row in some()
    ]
    for suffix in ("jsonl", "csv", "parquet"):
        table, _ = import_samples(*pair(tmp_path, chat, chat, suffix))
        assert set(table["response"]) == {"Because of 0.", "Because of 1.", "Because of 2."}
        assert set(table["prompt"]) == {json.dumps([{"role": "user", "content": f"Why {k}?"}]) for k in range(3)}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"reward": "high"}, r"r\.csv, line 5, column 'reward': 'high': not a number"),
        ({"reward": ""}, r"r\.csv, line 5, column 'reward': .*finite number"),
        ({"kl_nats": "-1.5"}, r"r\.csv, line 5, column 'kl_nats': '-1\.5': negative, .* rename the column"),
        ({"truncated": "maybe"}, r"r\.csv, line 5, column 'truncated': 'maybe': wanted true or false"),
    ],
)
def test_an_error_names_file_line_and_column(tmp_path, change, place):
    rows = some(3, kl_nats="1.0", truncated="no")
    rows[0]["response"] = "two\nlines"  # so that the third row begins on line 5
    files = pair(tmp_path, rows, [*rows[:2], {**rows[2], **change}], "csv")
    with pytest.raises(DataError, match=place):
        import_samples(*files)


def test_two_columns_that_fit_are_refused_unless_they_agree(tmp_path):
    files = pair(tmp_path, some(score=1.0), some(score=1.0))
    with pytest.raises(DataError, match=r"'reward' and 'score' both look like the reward; .*--map reward=reward"):
        import_samples(*files)
    table, _ = import_samples(*files, {"reward": "score"})
    assert set(table["reward"]) == {1.0}
    alike = [{**row, "score": row["reward"]} for row in some()]
    samples = join_samples(*pair(tmp_path, alike, alike))
    (score,) = [entry for entry in samples.account if entry.name == "score"]
    assert (score.taken_for, score.why) == ("", "the same as 'reward' in every row")


def test_answers_wrapped_in_json_are_not_judged_as_json(tmp_path):
    for wrap in (lambda text: [{"generated_text": text}], lambda text: {"text": text}):
        rows = [{**row, "response": json.dumps(wrap(row["response"]))} for row in some()]
        with pytest.raises(DataError, match="every answer is JSON around a text"):
            import_samples(*pair(tmp_path, rows, some()))
    rows = [{**row, "response": json.dumps({"text": "a", "score": 1})} for row in some()]
    import_samples(*pair(tmp_path, rows, rows))  # a model that answers in JSON


def test_a_map_names_a_column_of_ours_and_one_of_theirs(tmp_path):
    files = pair(tmp_path, some(points=3), some(points=4))
    assert set(import_samples(*files, {"judge_model": "points"})[0]["judge_model"]) == {3.0, 4.0}
    with pytest.raises(DataError, match=r"'rewards' is none of .*did you mean 'reward'"):
        import_samples(*files, {"rewards": "points"})
    with pytest.raises(
        DataError, match="neither file has such a column; found 'prompt', 'response', 'reward', 'points'"
    ):
        import_samples(*files, {"reward": "point"})


def test_every_column_is_accounted_for(tmp_path):
    more = {"gts": "42", "step": 400, "kl": 0.2, "judge_model": 0.5, "system": "Be brief."}
    samples = join_samples(*pair(tmp_path, some(**more), some(**more)))
    told = {entry.name: entry.taken_for for entry in samples.account}
    assert told == {
        **dict.fromkeys(("gts", "step", "kl", "system"), ""),
        **{name: name for name in ("prompt", "response", "reward", "judge_model")},
    }
    assert any("'kl' is left out" in note and "--map kl_nats=kl" in note for note in samples.notes)


@pytest.mark.parametrize("name", ["judgehuman", "judge", "kl_nat", "kl_nats_sum", "cluster_id"])
def test_a_column_that_is_nearly_ours_is_not_dropped(tmp_path, name):
    with pytest.raises(DataError, match=f"{name!r} looks like"):
        import_samples(*pair(tmp_path, some(**{name: 1.0}), some()))


def test_answers_of_many_steps_are_of_many_policies(tmp_path):
    rows = [{**row, "step": 10 * n} for n, row in enumerate(some())]
    with pytest.raises(DataError, match=r"r\.jsonl: column 'step' has 3 values"):
        import_samples(*pair(tmp_path, some(step=5), rows))


def test_prompts_may_differ_in_line_ends_and_outer_blanks(tmp_path):
    theirs = [{**row, "prompt": f" {row['prompt']}\r\n"} for row in some()]
    table, _ = import_samples(*pair(tmp_path, some(), theirs))
    assert len(table) == 6
    assert table["prompt_id"].nunique() == 3


def test_which_answers_are_paired_does_not_depend_on_their_order(tmp_path):
    rows = [{"prompt": "q", "response": text, "reward": n} for n, text in enumerate("abcdef")]
    one = import_samples(*pair(tmp_path, rows, some(1) + rows))[0]
    other = import_samples(*pair(tmp_path, rows[::-1], rows[3:] + rows[:3]))[0]
    assert evaluation_hash(one) == evaluation_hash(other)


VARIED = ["a", "a b", "a b c d", "a bb ccc dddd eeeee", "one two three four five six seven", "x y z"]


def varied(**more):
    return [{"prompt": f"q{n}", "response": text, "reward": 1.0, **more} for n, text in enumerate(VARIED)]


def measured(count, name="length"):
    return [{**row, name: count(row["response"])} for row in varied()]


def words(text):
    return len(text.split())


def tokens(text):
    return 1 + len(text) // 2


def test_one_file_without_lengths_has_words_counted_in_both(tmp_path):
    table, (note, _) = import_samples(*pair(tmp_path, varied(), measured(tokens)))
    assert note.startswith("c.jsonl has no length column: words are counted in both files, not tokens")
    for _, rows in table.groupby("system"):
        assert sorted(rows["length_tokens"]) == sorted(map(words, VARIED))


def test_files_of_one_name_are_told_by_their_paths(tmp_path):
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
    files = write(tmp_path / "new/s.jsonl", some(kl=0.1)), write(tmp_path / "old/s.jsonl", some())
    samples = join_samples(*files)
    assert f"{files[0]} and {files[1]} have no length column: words are counted, not tokens" in samples.notes
    assert "both files hold the same answers; is one of them given twice?" in samples.notes
    (kl,) = [entry for entry in samples.account if entry.name == "kl"]
    assert kl.why.endswith(f"({files[0]})")


def test_lengths_in_characters_are_no_tokens(tmp_path):
    with pytest.raises(DataError, match=r"r\.jsonl: the lengths are the number of characters"):
        import_samples(*pair(tmp_path, measured(tokens), measured(len)))
    assert "characters" not in str(import_samples(*pair(tmp_path, measured(tokens), measured(tokens)))[1])
    files = pair(tmp_path, measured(len), measured(len))  # a model of characters, whose user says so
    assert "number of characters" in import_samples(*files, {"length_tokens": "length"})[1][0]


def test_lengths_in_two_units_are_not_compared(tmp_path):
    with pytest.raises(DataError, match=r"different units: c\.jsonl in words and r\.jsonl in tokens"):
        import_samples(*pair(tmp_path, measured(words), measured(tokens)))
    said = [measured(count, "num_tokens") for count in (words, tokens)]  # simple words may be a token each
    assert "number of words" in import_samples(*pair(tmp_path, *said))[1][0]
    with pytest.raises(DataError, match="more than the bytes of their response"):
        import_samples(*pair(tmp_path, measured(lambda _: 512), measured(lambda _: 512)))


# ---- laws: the kind of file, the order of rows and columns, and the names of the files change nothing

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n ,;\"'\t01.-"), max_size=12)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "prompt": st.sampled_from(["1", "q 2", "Was, oder?", "NA"]),
            "response": TEXT,
            "reward": st.floats(-50, 50, width=32),  # 99, 999 and so on are read as codes for no value
            "kl_nats": st.none() | st.floats(0, 100),
            "truncated": st.booleans(),
        }
    ),
    min_size=1,
    max_size=8,
)


def both_or_neither(*files):
    """The hash of the evaluation, or None when the files are refused (they share no prompt)."""
    try:
        return evaluation_hash(join_samples(*files).table)
    except DataError as error:
        assert "share no prompt" in str(error)  # noqa: PT017
        return None


@COMMON
@given(ROWS, ROWS)
def test_every_kind_of_file_gives_the_same_evaluation(tmp_path_factory, ours, theirs):
    folder = tmp_path_factory.mktemp("samples")
    kinds = ("jsonl", "csv", "tsv", "json", "csv.gz", "jsonl.gz")
    hashes = {kind: both_or_neither(*pair(folder, ours, theirs, kind)) for kind in kinds}
    assert len(set(hashes.values())) == 1, hashes


@COMMON
@given(ROWS, ROWS, st.randoms())
def test_the_order_of_rows_and_columns_changes_nothing(tmp_path_factory, ours, theirs, random):
    folder = tmp_path_factory.mktemp("samples")
    before = both_or_neither(*pair(folder, ours, theirs))
    columns = random.sample(list(ours[0]), 5)
    shuffled = [{name: row[name] for name in columns} for row in random.sample(ours, len(ours))]
    assert both_or_neither(*pair(folder, shuffled, theirs, "csv")) == before


@COMMON
@given(ROWS, ROWS)
def test_swapping_the_files_swaps_the_systems_and_no_more(tmp_path_factory, ours, theirs):
    files = pair(tmp_path_factory.mktemp("samples"), ours, theirs)
    if both_or_neither(*files) is None:
        return
    swapped = {"candidate": "reference", "reference": "candidate"}
    one, other = join_samples(*files).table, join_samples(*files[::-1]).table
    other = check_evaluation(other.assign(system=other["system"].map(swapped)))
    assert evaluation_hash(one) == evaluation_hash(other)


@COMMON
@given(st.binary(max_size=200), st.sampled_from(["csv", "jsonl", "json", "parquet", "tsv", "jsonl.gz"]))
def test_nothing_but_a_clear_error_comes_from_any_bytes(tmp_path_factory, data, suffix):
    folder = tmp_path_factory.mktemp("samples")
    path = folder / f"c.{suffix}"
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"c\."):
        join_samples(path, write(folder / "r.jsonl", some()))


@pytest.mark.parametrize("turned", [False, True])
def test_a_prompt_as_a_message_and_as_its_text_is_one(tmp_path, turned):
    """TRL's conversational and standard formats hold the same prompt in two ways."""
    texts = some(6)
    messages = [{**row, "prompt": [{"role": "user", "content": row["prompt"]}]} for row in texts]
    joined = join_samples(*pair(tmp_path, *((messages, texts) if turned else (texts, messages))))
    assert set(joined.table["prompt"]) == {row["prompt"] for row in texts}
    assert any("6 prompts are one message of the user, and a text in" in note for note in joined.notes)
    system = [{**row, "prompt": [{"role": "system", "content": "Be brief."}, *row["prompt"]]} for row in messages]
    with pytest.raises(DataError, match="share no prompt"):
        join_samples(*pair(tmp_path, texts, system))


def test_one_length_for_all_samples_is_padding(tmp_path):
    rows = [{**row, "response": "word " * (n + 1), "length": 16} for n, row in enumerate(some(16))]
    for mapped in ({}, {"length_tokens": "length"}):
        with pytest.raises(DataError, match="every length is 16, although the answers differ in length"):
            join_samples(*pair(tmp_path, rows, rows), mapped)


def test_answers_with_their_prompts_before_them_are_refused(tmp_path):
    """As transformers' text-generation pipeline returns them without return_full_text=False."""
    rows = some(8)
    full = [{**row, "response": f"{row['prompt']} {row['response']}"} for row in rows]
    with pytest.raises(DataError, match=r"c\.jsonl, column 'response': the answers begin with their prompts"):
        join_samples(*pair(tmp_path, full, rows))
    meant = join_samples(*pair(tmp_path, full, rows), {"response": "response"})
    assert any("c.jsonl: the answers begin with their prompts" in note for note in meant.notes)
    assert not any("begin with" in note for note in join_samples(*pair(tmp_path, rows, rows)).notes)


def test_special_tokens_at_the_end_of_answers_are_told(tmp_path):
    rows = some(8)
    ended = [{**row, "response": f"{row['response']}<|im_end|>"} for row in rows]
    notes = join_samples(*pair(tmp_path, ended, rows)).notes
    assert (
        "c.jsonl: the answers end with special tokens ('<|im_end|>'); decode them with skip_special_tokens=True"
        in notes
    )
    assert not any("r.jsonl: the answers" in note for note in notes)


def test_prompts_of_which_none_is_shared_are_shown(tmp_path):
    with pytest.raises(DataError, match=r"share no prompt \(the first are 'Why 0\?' and 'WHY 0\?'\)"):
        join_samples(*pair(tmp_path, some(3), [{**row, "prompt": row["prompt"].upper()} for row in some(3)]))
