"""Losses worked by hand, and laws that they obey."""

import math

import pytest
import torch

from kellet.reward.loss import centring_loss, correlation, length_loss, orthogonality_loss, preference_loss

LOG3 = math.log(3)  # σ(log 3) = 3/4


def test_bradley_terry_by_hand():
    assert float(preference_loss(torch.tensor([0.0]))) == pytest.approx(0.693147, abs=1e-6)
    # -log 3/4 and -log 1/4
    assert float(preference_loss(torch.tensor([LOG3, -LOG3]))) == pytest.approx((0.287682 + 1.386294) / 2, abs=1e-6)


def test_a_margin_is_taken_off_the_gap():
    gap, margin = torch.tensor([LOG3 + 2, 5.0]), torch.tensor([2.0, 5.0])
    assert float(preference_loss(gap, margin)) == pytest.approx((0.287682 + 0.693147) / 2, abs=1e-6)
    assert torch.equal(preference_loss(gap, torch.zeros(2)), preference_loss(gap))


def test_smoothing_expects_a_share_of_wrong_labels():
    # 0.9 · -log 3/4 + 0.1 · -log 1/4
    assert float(preference_loss(torch.tensor([LOG3]), smoothing=0.1)) == pytest.approx(0.397544, abs=1e-6)
    gaps = torch.linspace(-6, 6, 2401)
    losses = torch.tensor([float(preference_loss(gap[None], smoothing=0.25)) for gap in gaps])
    assert float(gaps[losses.argmin()]) == pytest.approx(LOG3, abs=0.01)  # best where σ(gap) = 1 - ε


def test_swapping_the_sides_of_every_pair_mirrors_the_gradient():
    gap = torch.tensor([0.3, -1.2, 2.0], requires_grad=True)
    (forward,) = torch.autograd.grad(preference_loss(gap), gap)
    (swapped,) = torch.autograd.grad(preference_loss(-gap), gap)
    # -log σ(x) + log σ(-x) = -x: together the two gradients are -1/P and +1/P apart
    assert torch.allclose(forward - swapped, torch.full((3,), -1 / 3), atol=1e-6)
    assert bool((forward < 0).all())
    assert bool((swapped > 0).all())


def test_centring_by_hand():
    assert float(centring_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, -2.0]))) == 2.0


def test_correlation_by_hand_and_where_nothing_varies():
    x = torch.tensor([1.0, 2.0, 3.0])
    assert float(correlation(x, 5 - 2 * x)) == pytest.approx(-1, abs=1e-6)
    # deviations (-1, 0, 1) and (-1, 1, 0): 1 / sqrt(2 · 2)
    assert float(correlation(x, torch.tensor([1.0, 3.0, 2.0]))) == pytest.approx(0.5, abs=1e-6)
    constant = torch.ones(3, requires_grad=True)
    value = correlation(constant, x)
    value.backward()
    assert float(value.detach()) == 0
    assert bool(torch.isfinite(constant.grad).all())


def test_the_length_loss_is_least_when_only_the_length_head_knows_length():
    length = torch.tensor([3.0, 5.0, 8.0, 4.0])
    away = torch.tensor([2.0, -1.0, 0.2, 0.3])
    away = away - (away - away.mean()) @ (length - length.mean()) / ((length - length.mean()) ** 2).sum() * length
    assert float(length_loss(away, 2 * length, length)) == pytest.approx(-1, abs=1e-5)
    assert float(length_loss(-length, away, length)) == pytest.approx(1, abs=1e-5)  # a negative correlation counts too


def test_orthogonality_is_the_absolute_cosine_whatever_the_scale():
    a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[-4.0, 3.0]])
    assert float(orthogonality_loss(a, b)) == pytest.approx(0, abs=1e-6)
    assert float(orthogonality_loss(a, torch.tensor([[-10.0, 0.0]]))) == pytest.approx(0.6, abs=1e-6)


def test_weights_count_a_pair_as_often_as_they_say():
    """A law: weights 2 and 1, scaled to mean 1, give the mean over the first pair twice and the second once."""
    gap = torch.tensor([0.3, -1.2])
    weight = torch.tensor([2.0, 1.0]) / 1.5
    assert torch.allclose(preference_loss(gap, weight=weight), preference_loss(gap[[0, 0, 1]]))
