"""What length alone would give: worked by hand."""

import numpy as np
import pandas as pd
import pytest

from kellet.config.judgement import Gate
from kellet.evaluation.answers import answers_of
from kellet.evaluation.file import check_evaluation
from kellet.gate.criteria import equal_length
from kellet.gate.length_evidence import length_evidence

GATE = Gate(resamples=300)


def table(rewards, lengths, judge=None):
    """One answer of each system to each prompt: rows (reference, candidate) of rewards and lengths."""
    parts = []
    for system, reward, length in zip(
        ("reference", "candidate"), np.transpose(rewards), np.transpose(lengths), strict=True
    ):
        ids = [f"p{i:03d}" for i in range(len(reward))]
        part = {"prompt_id": ids, "prompt": ids, "system": system, "sample": 0, "response": "x"}
        parts.append(pd.DataFrame(part | {"reward": reward, "length_tokens": length}))
    rows = pd.concat(parts, ignore_index=True)
    return rows if judge is None else rows.assign(judge_human=np.transpose(judge).ravel())


def evidence(*arguments):
    answers = answers_of(check_evaluation(table(*arguments)))
    a, b = answers["reference"], answers["candidate"]
    return length_evidence(a, b, equal_length(a, b, a, GATE), GATE)


def test_length_beside_the_reward_by_hand():
    # longer and higher, longer and lower, shorter and lower, equally long and higher
    result = evidence([(0, 1), (1, 0), (1, 0), (0, 1)] * 5, [(10, 20), (10, 20), (20, 10), (15, 15)] * 5)
    reward = result.alone[0]
    assert reward.win_rate.value == 0.5
    assert reward.longer.value == pytest.approx(2.5 / 4)
    assert reward.agreement.value == pytest.approx((1 + 0 + 1 + 0.5) / 4)
    assert result.decomposition is None  # one answer a prompt has no slope


def test_a_judge_who_only_measures_length_agrees_always():
    lengths = np.random.default_rng(0).integers(10, 40, (30, 2))
    lengths[:, 1] += lengths[:, 0] == lengths[:, 1]
    result = evidence(np.random.default_rng(1).normal(size=(30, 2)), lengths, lengths)
    assert [item.by for item in result.alone] == ["reward", "judge_human"]
    assert result.alone[1].agreement.value == 1
    assert result.alone[1].win_rate.value == result.alone[1].longer.value


def test_pairs_of_matched_length_by_hand():
    # 30 pairs within a tenth of their mean length (gain 1), 30 of which the candidate is twice as long (gain 5)
    close = [(20 + i, 21 + i) for i in range(30)]
    result = evidence([(0, 1)] * 30 + [(0, 5)] * 30, close + [(20, 40)] * 30)
    assert result.matched.pairs == 30
    assert result.matched.gain.value == 1
    assert (result.matched.shortest, result.matched.longest) == (20.5, 49.5)
    assert [item.pairs for item in result.strata] == [10, 10, 10]
    assert "30 pairs of matched length" in result.sentence


def test_too_few_matched_pairs_say_nothing():
    result = evidence([(0, 1)] * 20, [(20, 40)] * 11 + [(20, 20)] * 9)
    assert result.matched is None
    assert result.strata == ()
