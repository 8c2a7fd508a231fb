"""Two files of samples become one evaluation."""

import json

import pytest

from kellet.errors import DataError
from kellet.evaluation.file import check_evaluation
from kellet.evaluation.samples import import_samples


def log(tmp_path, rows, name):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def samples(tmp_path, name, prompts, **more):
    rows = [{"input": f"q{n}", "output": f"a b {n}", "score": n / 10, **more} for n in prompts for _ in range(2)]
    return log(tmp_path, rows, name)


def test_samples_of_both_systems_become_an_evaluation(tmp_path):
    candidate = samples(tmp_path, "c.jsonl", range(12))
    reference = samples(tmp_path, "r.jsonl", range(2, 14), response_length=9)
    table, notes = import_samples(candidate, reference)
    rows = check_evaluation(table)
    assert rows["prompt_id"].nunique() == 10
    assert sorted(rows["sample"].unique()) == [0, 1]
    assert set(rows.loc[rows["system"] == "candidate", "length_tokens"]) == {3.0}
    assert set(rows.loc[rows["system"] == "reference", "length_tokens"]) == {9.0}
    assert "words are counted" in notes[0]
    assert "8 answers to prompts of only one side" in notes[1]


def test_samples_that_do_not_fit_are_refused(tmp_path):
    candidate = samples(tmp_path, "c.jsonl", range(3))
    with pytest.raises(DataError, match="share no prompt"):
        import_samples(candidate, samples(tmp_path, "r.jsonl", range(5, 8)))
    with pytest.raises(DataError, match="has no reward"):
        import_samples(candidate, log(tmp_path, [{"prompt": "q1", "response": "a"}], "x.jsonl"))
