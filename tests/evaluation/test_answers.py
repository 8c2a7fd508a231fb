"""Which prompts are one cluster."""

import pandas as pd
import pytest

from kellet.config.judgement import Gate
from kellet.errors import DataError
from kellet.evaluation.answers import answers_of, clusters_of
from kellet.evaluation.file import check_evaluation
from kellet.gate.verdict import decide
from tests.helpers.evaluations import evaluation


def rows(texts, clusters=None):
    table = pd.DataFrame({"prompt_id": [f"p{i}" for i in range(len(texts))], "prompt": texts})
    return table if clusters is None else table.assign(cluster=clusters)


def partition(table):
    groups = clusters_of(table)
    return None if groups is None else pd.factorize(groups)[0].tolist()


@pytest.mark.parametrize(
    ("texts", "clusters", "expected"),
    [
        (["a", "b", "c"], None, None),
        (["a", "b", "a"], None, [0, 1, 0]),
        (["a", "b", "c"], ["x", "x", "y"], [0, 0, 1]),
        (["a", "b", "c"], ["", "", ""], None),  # blank: of no cluster
        (["a", "b", "c", "d"], ["x", "", "x", ""], [0, 1, 0, 2]),
        (["a", "b", "b", "c"], ["x", "x", "y", "y"], [0, 0, 0, 0]),  # a text in two topics joins them
    ],
)
def test_what_shares_a_label_or_a_text_is_one_cluster(texts, clusters, expected):
    assert partition(rows(texts, clusters)) == expected


def test_answers_carry_their_cluster_and_the_gate_counts_clusters():
    table = evaluation(prompts=128)
    topic = (table["prompt_id"].str[1:].astype(int) % 16).map("topic {}".format)
    checked = check_evaluation(table.assign(cluster=topic))
    answers = answers_of(checked)
    assert len(set(answers["candidate"].group)) == 16
    decision = decide(table.assign(cluster=topic), Gate())
    check = decision.criterion("reward_gain").checks[0]
    assert (check.estimate.clusters, check.estimate.of) == (16, "clusters")
    assert "over 16 clusters" in check.why


def test_the_same_text_under_its_own_ids_is_no_second_piece_of_evidence():
    """Eight texts, 16 times each: fewer than ten clusters show nothing, however many rows."""
    table = evaluation(prompts=128, gain=2.0)
    table["prompt"] = (table["prompt_id"].str[1:].astype(int) % 8).map("Question {}?".format)
    decision = decide(table, Gate())
    assert decision.verdict == "inconclusive"
    assert decision.criterion("reward_gain").checks[0].estimate.clusters == 8


def test_a_prompt_in_two_clusters_is_refused():
    table = evaluation(prompts=12)
    table["cluster"] = [f"c{i % 5}" for i in range(len(table))]
    with pytest.raises(DataError, match=r"column 'cluster'.*a prompt belongs to one"):
        check_evaluation(table)


def test_sixteen_topics_without_a_degenerate_answer_are_shown_to_have_none():
    table = evaluation(prompts=256, gain=1.0)
    topic = (table["prompt_id"].str[1:].astype(int) % 16).map("topic {}".format)
    assert decide(table.assign(cluster=topic), Gate()).criterion("degeneration").passed is True
    few_texts = table.assign(prompt=topic)  # sixteen texts, sixteen times each: one in sixteen may well be degenerate
    assert decide(few_texts, Gate()).criterion("degeneration").passed is None
