"""The equations of PPO on examples small enough for pen and paper, and their laws."""

import pytest
import torch

from kellet.policy.ppo import explained_variance, gae, masked_mean, penalised_rewards, policy_loss, value_loss, whiten

ALL = torch.ones(1, 3, dtype=torch.bool)
REWARDS, VALUES = torch.tensor([[-0.1, -0.2, 2.0]]), torch.tensor([[0.5, 1.0, 1.5]])


def rows(*numbers):
    return torch.tensor([list(row) for row in numbers])


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_gae_by_hand():
    # δ: -0.1 + 1 - 0.5 = 0.4;  -0.2 + 1.5 - 1 = 0.3;  2 - 1.5 = 0.5
    # A: 0.5;  0.3 + 0.95·0.5 = 0.775;  0.4 + 0.95·0.775 = 1.13625
    advantages, returns = gae(REWARDS, VALUES, ALL, gamma=1.0, lam=0.95)
    assert advantages[0].tolist() == pytest.approx([1.13625, 0.775, 0.5])
    assert returns[0].tolist() == pytest.approx([1.63625, 1.775, 2.0])


def test_gae_with_discount_by_hand():
    # γ 0.5, λ 0.5; δ: -0.1 + 0.5 - 0.5 = -0.1;  -0.2 + 0.75 - 1 = -0.45;  0.5
    # A: 0.5;  -0.45 + 0.25·0.5 = -0.325;  -0.1 - 0.25·0.325 = -0.18125
    advantages, _ = gae(REWARDS, VALUES, ALL, gamma=0.5, lam=0.5)
    assert advantages[0].tolist() == pytest.approx([-0.18125, -0.325, 0.5])


def test_with_lambda_one_advantages_are_rewards_to_come_minus_values():
    # rewards to come: 1.7, 1.8, 2.0
    advantages, returns = gae(REWARDS, VALUES, ALL, gamma=1.0, lam=1.0)
    assert advantages[0].tolist() == pytest.approx([1.2, 0.8, 0.5])
    assert returns[0].tolist() == pytest.approx([1.7, 1.8, 2.0])


def test_with_lambda_zero_advantages_are_the_one_step_errors():
    advantages, _ = gae(REWARDS, VALUES, ALL, gamma=1.0, lam=0.0)
    assert advantages[0].tolist() == pytest.approx([0.4, 0.3, 0.5])


def test_what_stands_in_padding_does_not_matter_to_gae():
    mask = rows((True, True, True, False, False))
    garbage = torch.tensor([[7.0, -3.0]])
    advantages, returns = gae(
        torch.cat([REWARDS, garbage], 1), torch.cat([VALUES, garbage], 1), mask, gamma=1.0, lam=0.95
    )
    alone = gae(REWARDS, VALUES, ALL, gamma=1.0, lam=0.95)
    assert torch.equal(advantages[:, :3], alone[0])
    assert torch.equal(returns[:, :3], alone[1])
    assert advantages[0, 3:].tolist() == [0, 0]


def test_rows_of_a_batch_do_not_see_each_other():
    rewards, values = random(4, 6), random(4, 6, seed=1)
    mask = torch.arange(6) < torch.tensor([[1], [6], [3], [5]])
    together, _ = gae(rewards * mask, values, mask, 0.9, 0.8)
    for row in range(4):
        alone, _ = gae((rewards * mask)[row : row + 1], values[row : row + 1], mask[row : row + 1], 0.9, 0.8)
        assert torch.equal(together[row], alone[0])


def test_whitened_values_have_mean_zero_and_variance_one():
    values, mask = 3 + 5 * random(20, 8), random(20, 8, seed=1) > 0
    whitened = whiten(values, mask)
    assert float(whitened[mask].mean()) == pytest.approx(0, abs=1e-5)
    assert float(whitened[mask].var(unbiased=False)) == pytest.approx(1, abs=1e-4)
    assert (whitened[~mask] == 0).all()


def test_whitening_by_hand():
    # 1, 3, 5 and one that does not count: mean 3, variance 8/3, so ±2/1.63299 = ±1.22474
    whitened = whiten(rows((1.0, 3.0, 5.0, 99.0)), rows((True, True, True, False)))
    assert whitened[0].tolist() == pytest.approx([-1.22474, 0, 1.22474, 0], abs=1e-4)


def test_the_score_comes_at_the_last_token_that_counts():
    mask = rows((True, True, False, False), (True, True, True, True), (True, False, False, False))
    kl = rows((0.5, -1.0, 9.0, 9.0), (1.0, 2.0, 3.0, 4.0), (2.0, 9.0, 9.0, 9.0))
    rewards = penalised_rewards(torch.tensor([10.0, 20.0, 30.0]), kl, 0.1, mask)
    expected = rows((-0.05, 10.1, 0.0, 0.0), (-0.1, -0.2, -0.3, 19.6), (29.8, 0.0, 0.0, 0.0))
    assert torch.allclose(rewards, expected, atol=1e-6)
    assert kl[0, 1] == -1.0  # what came in is untouched


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.5, 2.0, -2.4, 1),  # min(3.0, 1.2·2)
        (0.5, 2.0, -1.0, 0),  # min(1.0, 0.8·2): getting worse is not clipped
        (1.5, -2.0, 3.0, 0),  # min(-3.0, -2.4)
        (0.5, -2.0, 1.6, 1),  # min(-1.0, -1.6)
        (1.1, 2.0, -2.2, 0),
        (1.0, -2.0, 2.0, 0),
    ],
)
def test_the_clipped_surrogate_by_hand(ratio, advantage, loss, clipped):
    new, old = torch.tensor([[ratio]]).log() - 1, torch.tensor([[-1.0]])
    surrogate = policy_loss(new, old, torch.tensor([[advantage]]), torch.tensor([[True]]), 0.2)
    assert float(surrogate.loss) == pytest.approx(loss, abs=1e-5)
    assert float(surrogate.clipfrac) == clipped


def test_no_gradient_where_the_clip_is_active():
    for ratio, advantage, moves in ((1.5, 1.0, False), (0.5, 1.0, True), (0.5, -1.0, False), (1.5, -1.0, True)):
        new = torch.tensor([[ratio]]).log().requires_grad_()
        policy_loss(new, torch.zeros(1, 1), torch.tensor([[advantage]]), torch.tensor([[True]]), 0.2).loss.backward()
        assert bool(new.grad.abs().sum() > 0) == moves


def test_approximate_kl_of_one_ratio_by_hand():
    surrogate = policy_loss(rows((2.0,)).log(), rows((0.0,)), rows((1.0,)), rows((True,)), 0.2)
    assert float(surrogate.approxkl) == pytest.approx(0.306853, abs=1e-6)  # 2 - 1 - log 2


def test_tokens_that_do_not_count_are_not_in_the_policy_loss():
    mask = rows((True, True, False))
    masked = policy_loss(rows((-1.0, -2.0, 0.0)), rows((-1.5, -2.0, -3.0)), rows((1.0, -1.0, 50.0)), mask, 0.2)
    alone = policy_loss(rows((-1.0, -2.0)), rows((-1.5, -2.0)), rows((1.0, -1.0)), mask[:, :2], 0.2)
    assert [float(x) for x in masked] == pytest.approx([float(x) for x in alone])
    assert float(masked.loss) == pytest.approx(-0.1)  # mean of -1.2 and 1


@pytest.mark.parametrize(
    ("value", "loss"),
    [
        (1.1, 0.405),  # inside the clip: (1.1 - 2)²/2
        (1.5, 0.32),  # clipped to 1.2, which is the worse: (1.2 - 2)²/2
        (0.0, 2.0),  # clipped to 0.8, but 0 is worse: 2²/2
        (2.0, 0.32),  # right, yet clipped to 1.2: (1.2 - 2)²/2
    ],
)
def test_the_clipped_value_loss_by_hand(value, loss):
    computed = value_loss(rows((value, 9.0)), rows((1.0, 9.0)), rows((2.0, -9.0)), rows((True, False)), 0.2)
    assert float(computed) == pytest.approx(loss)


def test_explained_variance():
    returns, mask = random(10, 5), torch.ones(10, 5, dtype=torch.bool)
    assert explained_variance(returns, returns, mask) == pytest.approx(1)
    assert explained_variance(returns + 7, returns, mask) == pytest.approx(
        1, abs=1e-5
    )  # a constant error is not counted, as in every PPO
    assert explained_variance(torch.full_like(returns, 3.0), returns, mask) == pytest.approx(0, abs=1e-6)
    assert explained_variance(-returns, returns, mask) == pytest.approx(-3, abs=1e-5)  # Var(2R)/Var(R) = 4
    mask[:, 2:] = False
    wrong_outside = torch.where(mask, returns, 50.0)
    assert explained_variance(wrong_outside, returns, mask) == pytest.approx(1)


def test_a_masked_mean_ignores_the_rest():
    assert float(masked_mean(rows((1.0, 2.0, 99.0)), rows((True, True, False)))) == 1.5
