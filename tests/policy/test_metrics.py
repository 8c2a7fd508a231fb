"""Every metric of an iteration on a batch of three responses, worked by hand."""

import pytest
import torch

from kellet.policy.metrics import describe_lengths, describe_objective, describe_stopping

MASK = torch.tensor([[True, True, False, False], [True, True, True, True], [True, False, False, False]])
ENDED = torch.tensor([True, False, True])


def objective(scores, kl_k1, kl_full, kl_coef=0.5):
    entropy = torch.where(MASK, 2.0, 99.0)
    return describe_objective(torch.tensor(scores), kl_k1 * MASK, kl_full * MASK, entropy, MASK, kl_coef)


def test_objective_by_hand():
    k1 = torch.tensor([[0.5, -0.5, 9, 9], [1.0, 1.0, 0.0, 0.0], [0.0, 9, 9, 9]])
    full = torch.tensor([[1.0, 2.0, 9, 9], [0.0, 0.0, 6.0, 1.0], [0.0, 9, 9, 9]])
    metrics = objective([1.0, 2.0, 6.0], k1, full)
    assert metrics["objective/score"] == pytest.approx(3)
    assert metrics["objective/kl"] == pytest.approx(10 / 3)  # responses have 3, 7, 0
    assert metrics["objective/kl_p95"] == pytest.approx(6.6)  # between 3 and 7: rank 1.9 of 0, 1, 2
    assert metrics["objective/kl_per_token"] == pytest.approx(10 / 7)
    assert metrics["objective/kl_k1"] == pytest.approx(2 / 3)
    # k3(x) = e^-x - 1 + x: 0.106531 at 0.5, 0.148721 at -0.5, 0.367879 at 1
    assert metrics["objective/kl_k3"] == pytest.approx((0.106531 + 0.148721 + 2 * 0.367879) / 3, abs=1e-6)
    assert metrics["objective/kl_top_decile_share"] == pytest.approx(0.6)  # 6 of 10; a tenth of 7 tokens is one
    # penalties 0, 1, 0: standard deviation √(2/9)
    assert metrics["objective/kl_penalty_share"] == pytest.approx((2 / 9) ** 0.5 / (14 / 3) ** 0.5)
    assert metrics["objective/score_with_kl"] == pytest.approx(3 - 1 / 3)
    assert metrics["objective/entropy"] == pytest.approx(2)
    assert metrics["objective/kl_coef"] == 0.5


def test_equal_scores_and_no_kl_have_no_shares():
    metrics = objective([1.0, 1.0, 1.0], torch.zeros(3, 4), torch.zeros(3, 4))
    assert metrics["objective/kl_penalty_share"] is None
    assert metrics["objective/kl_top_decile_share"] is None


def test_kl_that_is_evenly_spread_has_a_tenth_in_its_top_tenth():
    mask = torch.ones(5, 20, dtype=torch.bool)
    flat = torch.full((5, 20), 0.3)
    metrics = describe_objective(torch.arange(5.0), flat, flat, flat, mask, 0.1)
    assert metrics["objective/kl_top_decile_share"] == pytest.approx(0.1)


def test_stopping_hazard_by_hand():
    # thirds of 6: tokens 1-2, 3-4, 5-6. All three run at first and two end; the third is cut at 4 without an end
    metrics = describe_lengths(MASK, ENDED, 6)
    assert metrics["tokens/stop_hazard/early"] == pytest.approx(2 / 3)
    assert metrics["tokens/stop_hazard/middle"] == 0
    assert metrics["tokens/stop_hazard/late"] is None
    assert metrics["tokens/response_mean"] == pytest.approx(7 / 3)
    assert metrics["tokens/truncated_share"] == pytest.approx(1 / 3)


def test_a_response_that_ends_on_a_third_ends_in_it():
    mask = torch.arange(9) < torch.tensor([[3], [4], [6], [9]])
    metrics = describe_lengths(mask, torch.tensor([True] * 4), 9)
    assert [metrics[f"tokens/stop_hazard/{third}"] for third in ("early", "middle", "late")] == [
        pytest.approx(1 / 4),
        pytest.approx(2 / 3),
        pytest.approx(1),
    ]


def test_advantage_of_stopping_and_of_going_on_by_hand():
    advantages = torch.tensor([[1.0, -2.0, 9, 9], [3.0, 4.0, 5.0, 6.0], [-4.0, 9, 9, 9]])
    metrics = describe_stopping(advantages, MASK, ENDED)
    # ends at position 2 (-2) and at position 1 (-4); going on there: 4, and the mean of 1 and 3
    assert metrics == {"ppo/advantage/eos": pytest.approx(-3), "ppo/advantage/other": pytest.approx(3)}


def test_each_position_weighs_as_often_as_a_response_ends_there():
    mask = torch.tensor([[True, False], [True, False], [True, True], [True, True], [True, True]])
    advantages = torch.tensor([[1.0, 0], [2.0, 0], [10.0, 5.0], [10.0, 7.0], [10.0, 100.0]])
    metrics = describe_stopping(advantages, mask, torch.tensor([True, True, True, True, False]))
    # ends: 1, 2 at the first, 5, 7 at the second; going on: 10 (twice), 100 (twice)
    assert metrics == {"ppo/advantage/eos": pytest.approx(15 / 4), "ppo/advantage/other": pytest.approx(55)}


def test_positions_at_which_all_end_are_not_compared():
    mask = torch.tensor([[True, True], [True, True]])
    metrics = describe_stopping(torch.ones(2, 2), mask, torch.tensor([True, True]))
    assert metrics == {"ppo/advantage/eos": None, "ppo/advantage/other": None}
