"""KL estimators on distributions of three words, worked by hand, and the controllers against Ziegler's rule."""

import math

import pytest
import torch

from kellet.models.kl import full, k1, k2, k3, per_response

P, Q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.25, 0.5])


def test_k1_by_hand():
    # log(0.5/0.25) = 0.6931, log 1 = 0, log(0.25/0.5) = -0.6931
    assert k1(P.log(), Q.log()).tolist() == pytest.approx([0.693147, 0, -0.693147], abs=1e-6)


def test_k3_by_hand():
    # ρ = q/p: 1/2, 1, 2; ρ - 1 - log ρ: -0.5 + 0.6931, 0, 1 - 0.6931
    assert k3(P.log(), Q.log()).tolist() == pytest.approx([0.193147, 0, 0.306853], abs=1e-6)


def test_full_by_hand():
    # 0.5·log 2 + 0.25·0 + 0.25·(-log 2) = 0.25·0.6931
    assert float(full(P.log(), Q.log())) == pytest.approx(0.173287, abs=1e-6)
    # and the other way round it is the same here, but not with these: 0.9·log(0.9/0.5) + 0.1·log(0.1/0.5)
    left, right = torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log()
    assert float(full(left, right)) == pytest.approx(0.368064, abs=1e-6)
    assert float(full(right, left)) == pytest.approx(0.510826, abs=1e-6)


def test_full_and_k3_are_never_negative():
    generator = torch.Generator().manual_seed(0)
    log_p, log_q = (torch.randn(50, 20, 30, generator=generator).log_softmax(-1) for _ in range(2))
    assert (full(log_p, log_q) > 0).all()
    assert (k3(log_p, log_q) >= 0).all()
    nearly = (log_p + 1e-6 * torch.randn(log_p.shape, generator=generator)).log_softmax(-1)
    assert (full(log_p, nearly) >= 0).all()
    assert (full(log_p, log_p) == 0).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_k1_and_k3_agree_with_full_on_average(seed):
    generator = torch.Generator().manual_seed(seed)
    log_p, log_q = (torch.randn(6, generator=generator).log_softmax(-1) for _ in range(2))
    token = torch.multinomial(log_p.exp(), 200_000, replacement=True, generator=generator)
    exact = float(full(log_p, log_q))
    assert exact > 0.1
    for estimator in (k1, k3):
        drawn = estimator(log_p[token], log_q[token])
        assert abs(float(drawn.mean()) - exact) < 4 * float(drawn.std()) / math.sqrt(len(drawn))


def test_a_response_sums_the_tokens_that_count():
    kl = torch.tensor([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert per_response(kl, mask).tolist() == [3, 8]


# Gradients in the logits θ of one softmax π, all expectations exact sums over its words.
# Closed forms: ∇KL(π||q) = π (log π/q - KL), ∇KL(q||π) = π - q.
THETA, LOG_Q = torch.tensor([0.3, -1.0, 0.8, 0.0, -0.4]), torch.tensor([-0.5, 0.4, 0.1, -1.2, 0.9]).log_softmax(0)
PI, LOG_RATIO = THETA.softmax(0), THETA.log_softmax(0) - LOG_Q
REVERSE = PI * (LOG_RATIO - (PI * LOG_RATIO).sum())
FORWARD = PI - LOG_Q.exp()


def as_loss(estimator):
    """E_π[ ∇k(y) ]: samples are from π, whose drawing has no gradient."""
    theta = THETA.clone().requires_grad_()
    (PI * estimator(theta.log_softmax(0), LOG_Q)).sum().backward()
    return theta.grad


def as_reward(estimator):
    """E_π[ k(y) ∇log π(y) ]: the estimator is a number."""
    theta = THETA.clone().requires_grad_()
    log_p = theta.log_softmax(0)
    (PI * estimator(log_p, LOG_Q).detach() * log_p).sum().backward()
    return theta.grad


def exactly(left, right):
    return torch.allclose(left, right, atol=1e-6)


def test_k1_is_right_as_a_reward_and_nothing_as_a_loss():
    assert exactly(as_reward(k1), REVERSE)
    assert exactly(as_loss(k1), torch.zeros(5))


def test_k2_is_right_as_a_loss_and_biased_as_a_reward():
    assert exactly(as_loss(k2), REVERSE)
    assert not torch.allclose(as_reward(k2), REVERSE, atol=0.05)


def test_k3_pulls_in_the_other_direction_as_a_loss_and_is_biased_as_a_reward():
    assert exactly(as_loss(k3), FORWARD)
    assert exactly(as_reward(k3), REVERSE - FORWARD)
    assert not torch.allclose(FORWARD, REVERSE, atol=0.05)


def test_full_is_right_as_a_loss_and_nothing_at_its_own_token_as_a_reward():
    theta = THETA.clone().requires_grad_()
    full(theta.log_softmax(0), LOG_Q).backward()
    assert exactly(theta.grad, REVERSE)
    assert exactly(as_reward(lambda log_p, log_q: full(log_p, log_q).expand(5)), torch.zeros(5))


def two_words(theta):
    """Log-probabilities (3,), (3, 3) of the first word, and of the second after each first."""
    return theta[0].log_softmax(-1), theta[1:].log_softmax(-1)


def test_on_sequences_only_k1_in_the_reward_has_the_whole_gradient():
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(4, 3, generator=generator, requires_grad=True)
    first_q, second_q = two_words(torch.randn(4, 3, generator=generator))
    first, second = two_words(theta)
    joint = (first[:, None] + second).exp()
    sequence = first[:, None] + second - first_q[:, None] - second_q
    (exact,) = torch.autograd.grad((joint * sequence).sum(), theta, retain_graph=True)
    weights = joint.detach()
    # the score function with rewards to come: Σ_t ∇log π(y_t) Σ_{s>=t} k1_s
    later = (second - second_q).detach()
    paid = weights * (first[:, None] * sequence.detach() + second * later)
    (reward,) = torch.autograd.grad(paid.sum(), theta, retain_graph=True)
    assert exactly(reward, exact)
    at_prefix = full(first, first_q) + (first.exp().detach() * full(second, second_q)).sum()
    (loss,) = torch.autograd.grad(at_prefix, theta)
    assert exactly(loss[1:], exact[1:])  # the last word has nothing after it
    assert not torch.allclose(loss[0], exact[0], atol=0.05)
