"""A model judges all pairs and people some: the win rate by people decides, and the model makes it more exact."""

import numpy as np
import pandas as pd
import pytest

from kellet.config.judgement import Gate
from kellet.errors import InputError
from kellet.evaluation.answers import answers_of, win_rate_by
from kellet.evaluation.file import check_evaluation
from kellet.gate.judge import human_win_rate
from kellet.gate.verdict import decide
from tests.helpers.evaluations import evaluation

GATE = Gate(resamples=300, model_judge="judge_model")


def judged(people: int, rate: float, bias: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """An honest gain; people score ``people`` prompts, the model all answers, and both see much of the same.

    People prefer the candidate in ``rate``; the model's score for it is ``bias`` higher than theirs.
    """
    rng = np.random.default_rng(seed)
    rows = evaluation(prompts=256, seed=seed)
    better = {0.35: -0.545, 0.5: 0.0, 0.6: 0.358}[rate] * (
        rows["system"] == "candidate"
    )  # √2 times the normal quantile
    seen = better + rng.normal(size=len(rows))
    prompt = rows["prompt_id"].str[1:].astype(int)
    own = rng.normal(size=len(rows))
    return rows.assign(
        judge_human=np.where((prompt < people) & (rows["sample"] == 0), seen, np.nan),
        judge_model=seen + bias * (rows["system"] == "candidate") + 0.3 * own,
    )


def rates(rows: pd.DataFrame):
    answers = answers_of(check_evaluation(rows))
    sides = answers["reference"], answers["candidate"]
    return human_win_rate(*sides, GATE), win_rate_by(*sides, "judge_human", GATE)["win_rate"]


def test_the_interval_is_shorter_than_that_of_people_alone_and_the_verdict_says_so():
    rows = judged(60, 0.6)
    (rate, _, note), alone = rates(rows)
    assert rate.high - rate.low < 0.8 * (alone.high - alone.low)
    assert rate.clusters == 60
    assert "judge_human judged 60 of 256 prompts" in note
    decision = decide(rows, GATE)
    assert decision.promote
    assert "60 prompts judged by judge_human" in decision.criterion("independent_judge").why


def test_a_model_that_prefers_the_candidate_does_not_hide_what_people_say():
    for bias in (0.0, 3.0):
        decision = decide(judged(120, 0.35, bias), GATE)
        assert decision.verdict == "block"
        estimate = decision.criterion("independent_judge").checks[0].estimate
        assert estimate.low < 0.35 < estimate.high


def test_a_model_alone_decides_nothing():
    decision = decide(judged(0, 0.6), GATE)
    assert decision.verdict == "inconclusive"
    assert "judge_model alone decides nothing" in decision.criterion("independent_judge").why
    assert decide(judged(0, 0.6).drop(columns="judge_human"), GATE).verdict == "inconclusive"


def test_a_model_judge_that_is_named_is_accounted_for_and_must_be_there():
    rows = judged(60, 0.6)
    unaccounted = decide(rows, Gate(resamples=300))
    assert unaccounted.verdict == "inconclusive"
    assert "judge_model" in unaccounted.criterion("independent_judge").why
    with pytest.raises(InputError, match=r"gate.model_judge names the column 'judge_modle'.*judge_model"):
        decide(rows, Gate(model_judge="judge_modle"))


def test_the_labels_that_would_decide_are_told():
    rows = judged(12, 0.5)
    (rate, needed, _), _ = rates(rows)
    check = decide(rows, GATE).criterion("independent_judge").checks[0]
    assert check.passed is None
    assert 12 < needed < 256
    assert f"about {needed:,} prompts judged by judge_human would show which" in check.why
    # As many as that decide, where the estimate is the truth: (1.645 + 0.842)²·p(1 - p)/(p - 0.4)², less what the model
    # makes up for; all of it is left where the model is of no use.
    p = rate.value
    assert needed < 2.487**2 * p * (1 - p) / (p - 0.4) ** 2
