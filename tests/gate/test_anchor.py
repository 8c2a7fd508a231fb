"""The anchor: who falls behind it is not promoted, and only who is shown better replaces it."""

import numpy as np
import pytest

from kellet.config.judgement import Gate
from kellet.evaluation.answers import answers_of
from kellet.evaluation.file import check_evaluation
from kellet.gate.anchor import against_anchor
from kellet.gate.verdict import decide
from tests.helpers.evaluations import evaluation

SD = (1 + (0.02 * 6) ** 2) ** 0.5
"""Of the reward of the simulated answers to one prompt: noise of one, and 0.02 a token of lengths with sd 6."""


def compared(rows, **gate):
    return against_anchor(answers_of(check_evaluation(rows)), Gate(**gate))


def test_without_anchor_and_champion_there_is_nothing_to_fall_behind():
    decision = decide(evaluation(), Gate())
    assert decision.comparison_with_anchor is None
    assert decision.to_dict()["comparison_with_anchor"] is None
    assert (decision.verdict, decision.becomes_anchor) == ("promote", True)


def test_the_margin_is_in_standard_deviations_of_the_anchors_answers_to_one_prompt():
    rows = evaluation(2000, champion_gain=0.5, anchor_gain=0.5)
    comparison = compared(rows)
    assert comparison.system == "anchor"
    assert comparison.not_behind.threshold == pytest.approx(-0.2 * SD, rel=0.03)
    assert compared(rows, anchor_margin=0.4).not_behind.threshold == 2 * comparison.not_behind.threshold
    wider = rows.assign(reward=np.where(rows["system"] == "candidate", 5 * rows["reward"], rows["reward"]))
    assert compared(wider).not_behind.threshold == comparison.not_behind.threshold  # the candidate cannot widen it


def test_with_one_answer_a_prompt_the_margin_is_about_the_same():
    rows = evaluation(2000, 1, champion_gain=0.5, anchor_gain=0.5)
    assert compared(rows).not_behind.threshold == pytest.approx(-0.2 * SD, rel=0.06)


@pytest.mark.parametrize(
    ("gain", "verdict", "names"),
    [(0.5, "promote", None), (0.3, "inconclusive", "comparison_with_anchor"), (0.0, "block", "comparison_with_anchor")],
)
def test_a_candidate_behind_the_anchor_is_not_promoted_though_it_is_as_good_as_the_champion(gain, verdict, names):
    rows = evaluation(1000, gain=0.3 + gain, champion_gain=0.3 + gain, anchor_gain=0.8, seed=3)
    decision = decide(rows, Gate())
    assert not decision.comparison_with_champion.shown_worse
    assert decision.verdict == verdict
    assert all(item.passed for item in decision.criteria if item.counted)
    if names:
        assert names in decision.headline
    told = decision.to_dict()["comparison_with_anchor"]
    assert told["not_behind"]["passed"] is {"promote": True, "inconclusive": None, "block": False}[verdict]
    assert told["not_behind"]["value"] == pytest.approx(gain - 0.5, abs=0.12)


def test_without_rows_of_the_anchor_the_champion_is_taken_for_it():
    rows = evaluation(1000, gain=0.6, champion_gain=1.0)
    assert compared(rows).system == "champion"
    assert compared(rows).not_behind.passed is False
    assert "(the champion)" in compared(rows).not_behind.why


@pytest.mark.parametrize(
    ("gain", "champion", "anchor", "becomes"),
    [
        (1.0, 0.5, None, True),
        (0.5, 0.5, None, False),  # promoted, and not shown better than the champion, which is the anchor
        (1.0, 0.9, 0.5, True),
        (0.75, 0.5, 0.75, False),  # better than the champion, but not than the anchor
    ],
)
def test_only_who_is_shown_better_than_the_anchor_becomes_it(gain, champion, anchor, becomes):
    rows = evaluation(1500, gain=gain, champion_gain=champion, anchor_gain=anchor, seed=1)
    decision = decide(rows, Gate())
    assert decision.promote
    assert decision.becomes_anchor is decision.to_dict()["becomes_anchor"] is becomes


def test_who_is_not_promoted_does_not_become_the_anchor():
    decision = decide(evaluation(gain=1.0, longer=15, champion_gain=0.0), Gate())
    assert decision.comparison_with_anchor.shown_better.passed
    assert not decision.promote
    assert not decision.becomes_anchor


def test_a_champion_that_answered_some_prompts_is_compared_on_these():
    rows = evaluation(200, gain=1.0, champion_gain=0.5)
    first = rows["prompt_id"] < "p000100"
    some = rows[first | (rows["system"] != "champion")]
    answers = answers_of(check_evaluation(some.assign(draw=1)))
    half = answers_of(check_evaluation(rows[first]))
    expected, comparison = against_anchor(half, Gate()), against_anchor(answers, Gate())
    assert comparison.shown_better.estimate.value == pytest.approx(expected.shown_better.estimate.value)
    assert comparison.shown_better.estimate.clusters == 100


def test_creep_is_bounded_by_one_margin():
    """Twenty candidates, each 0.05 worse than the champion: without the anchor most are promoted, one after another."""
    floors = {}
    for margin in (0.2, 1e6):
        champion = anchor = 1.0
        for week in range(20):
            gain = champion - 0.05
            rows = evaluation(128, gain=gain, champion_gain=champion, anchor_gain=anchor, seed=week)
            decision = decide(rows, Gate(anchor_margin=margin, resamples=400))
            if decision.promote:
                champion, anchor = gain, gain if decision.becomes_anchor else anchor
        floors[margin] = champion
    assert floors[0.2] >= 1.0 - 0.2 * SD - 0.05
    assert floors[1e6] < 0.6
