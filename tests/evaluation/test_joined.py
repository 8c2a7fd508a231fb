"""A candidate that is judged again: no answer is dropped, none counts twice, and each file keeps its own scale."""

import numpy as np
import pandas as pd
import pytest

from kellet.errors import DataError
from kellet.evaluation.file import check_evaluation
from kellet.evaluation.joined import join
from tests.helpers.evaluations import evaluation


def drawn(seed=0, prompts=12, **settings):
    """A checked evaluation whose texts are those of this seed."""
    rows = evaluation(prompts, seed=seed, **settings)
    return check_evaluation(rows.assign(response=rows["response"] + f" ({seed})"))


def joined(*evaluations):
    return check_evaluation(join(evaluations))


def assert_same(both, rows):
    """No answer is added or lost; all are of the first draw."""
    pd.testing.assert_frame_equal(both.drop(columns="draw"), rows)
    assert set(both["draw"]) == {1}


def test_one_evaluation_stays_as_it_is():
    rows = drawn()
    pd.testing.assert_frame_equal(joined(rows), rows)


def test_answers_drawn_anew_stand_beside_the_earlier_ones():
    first, second = drawn(0), drawn(1)
    both = joined(first, second)
    assert len(both) == len(first) + len(second)
    assert set(both["prompt_id"]) == {*first["prompt_id"], *(first["prompt_id"] + "#2")}
    for ids, rows in ((first["prompt_id"], first), (first["prompt_id"] + "#2", second)):
        part = both[both["prompt_id"].isin(ids)].reset_index(drop=True)
        assert part["reward"].tolist() == rows["reward"].tolist()
        assert part["prompt"].tolist() == rows["prompt"].tolist()
    third = joined(first, second, drawn(2))
    assert len(third) == 3 * len(first)
    assert third["prompt_id"].str.endswith("#3").sum() == len(first)


def test_the_same_answers_count_once_and_prompts_of_either_file_are_kept():
    whole = drawn(prompts=12)
    ids = sorted(set(whole["prompt_id"]))
    early, late = (whole[whole["prompt_id"].isin(part)] for part in (ids[:8], ids[4:]))
    assert_same(joined(early, late), whole)


def test_dropping_bad_answers_from_the_second_file_does_not_help():
    """The better of two samples of each prompt is given again; the worse one still counts."""
    whole = drawn()
    candidate = whole["system"] == "candidate"
    best = whole[candidate].groupby("prompt_id")["reward"].transform("max")
    kept = whole[~candidate | (whole["reward"] == best.reindex(whole.index))]
    assert_same(joined(whole, kept), whole)


def test_more_samples_of_the_same_answers_continue_them():
    more = drawn(samples=4)
    assert_same(joined(more[more["sample"] < 2], more), more)


def test_verdicts_of_people_are_added_to_the_answers_they_belong_to():
    judged = drawn(judged=12)
    human = judged["judge_human"]
    half = judged["prompt_id"] < "p000006"
    first, second = judged.assign(judge_human=human.where(half)), judged.assign(judge_human=human.where(~half))
    assert_same(joined(judged.drop(columns="judge_human"), first, second), judged)


def test_other_reference_answers_to_the_same_candidate_answers_are_kept():
    first, second = drawn(0), drawn(1)
    same = pd.concat([first[first["system"] == "candidate"], second[second["system"] == "reference"]])
    both = joined(first, same)
    reference = both[both["system"] == "reference"]
    assert set(reference["response"]) == {
        *first.loc[first["system"] == "reference", "response"],
        *second.loc[second["system"] == "reference", "response"],
    }


def test_a_reward_on_another_scale_is_not_mixed_with_the_first():
    """The second reward is 100 higher for all, and one reference answer fewer has it: no gain comes of that."""
    first, second = drawn(0, gain=0.0), drawn(1, gain=0.0).assign(reward=lambda rows: rows["reward"] + 100)
    fewer = second[(second["system"] == "candidate") | (second["sample"] == 0)]
    means = joined(first, fewer).groupby(["prompt_id", "system"])["reward"].mean().unstack()
    gain = (means["candidate"] - means["reference"]).to_numpy()
    assert np.abs(gain).max() < 10


def test_the_same_answers_scored_by_another_reward_model_take_its_rewards():
    rows = drawn()
    again = rows.assign(reward=rows["reward"] * 10 + 5)
    assert_same(joined(rows, again), again)
    part = again[again["sample"] == 0]  # only half of them: the two scales are kept apart
    both = joined(rows, part)
    assert len(both) == len(rows) + len(part)
    assert both.loc[~both["prompt_id"].str.endswith("#2"), "reward"].tolist() == rows["reward"].tolist()


def test_rewards_written_with_fewer_digits_are_the_same():
    rows = drawn()
    written = rows.assign(reward=rows["reward"].map(lambda value: float(f"{value:.7g}")))
    assert len(joined(rows, written[written["sample"] == 0])) == len(rows)


def test_a_champion_of_some_evaluations_only():
    """The second comparison was made against another champion: the first one's rows were left out by the caller."""
    first, second = drawn(0, champion_gain=0.2), drawn(1, champion_gain=0.2)
    both = joined(first[first["system"] != "champion"], second)
    champion = both[both["system"] == "champion"]
    assert champion["prompt_id"].str.endswith("#2").all()
    assert sorted(champion["reward"]) == sorted(second.loc[second["system"] == "champion", "reward"])


@pytest.mark.parametrize("swapped", [False, True])
def test_a_cluster_that_one_file_lacks_is_taken_from_the_other(swapped):
    rows = drawn()
    labelled = rows.assign(cluster=rows["prompt_id"].str[-1])
    pair = [labelled, rows] if swapped else [rows, labelled]
    both = joined(*pair)
    assert (both["cluster"] == both["prompt_id"].str[-1]).all()
    assert len(both) == len(rows)
    assert (joined(rows, labelled, drawn(1))["cluster"] != "").all()


def test_joined_evaluations_can_be_joined_again():
    first, second, third = drawn(0), drawn(1), drawn(2)
    both = joined(first, second)
    pd.testing.assert_frame_equal(joined(both, third), joined(first, second, third))
    pd.testing.assert_frame_equal(joined(third, both), joined(third, first, second))
    pd.testing.assert_frame_equal(joined(first, both), both)


def test_only_a_joined_file_may_lack_answers_of_the_champion():
    rows = drawn(champion_gain=0.0)
    some = rows[(rows["system"] != "champion") | (rows["prompt_id"] < "p000006")]
    with pytest.raises(DataError, match="a prompt that 'champion' has not answered"):
        check_evaluation(some)
    assert len(check_evaluation(some.assign(draw=1))) == len(some)
    with pytest.raises(DataError, match="a prompt that 'reference' has not answered"):
        check_evaluation(rows[(rows["system"] != "reference") | (rows["prompt_id"] < "p000006")].assign(draw=1))
