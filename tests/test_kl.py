"""KL estimators on distributions of three words, worked by hand, and the controllers against Ziegler's rule."""

import math

import pytest
import torch

from kellet.kl import AdaptiveKLController, FixedKLController, full, k1, k3, per_response

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


def test_fixed_stays():
    controller = FixedKLController(0.2)
    controller.update(100.0, 64)
    assert controller.value == 0.2


@pytest.mark.parametrize(
    ("current", "value"),
    [
        (6.05, 0.102),  # 10% above the target: 0.1·(1 + 0.1·64/320)
        (4.95, 0.098),  # 10% below
        (5.5, 0.1),
        (55.0, 0.104),  # the error is clipped at 0.2
        (0.0, 0.096),  # and at -0.2
        (6.6, 0.104),  # 20% above: just at the clip
    ],
)
def test_adaptive_by_hand(current, value):
    controller = AdaptiveKLController(0.1, target=5.5, horizon=320)
    controller.update(current, 64)
    assert controller.value == pytest.approx(value, abs=1e-9)


def test_adaptive_multiplies_from_step_to_step():
    controller = AdaptiveKLController(1.0, target=1.0, horizon=10)
    for _ in range(3):
        controller.update(1.1, 10)  # each time 1 + 0.1
    assert controller.value == pytest.approx(1.331)


def test_adaptive_holds_a_kl_that_falls_as_the_coefficient_rises():
    controller = AdaptiveKLController(0.05, target=3.0, horizon=300)
    for _ in range(200):
        controller.update(1 / controller.value, 64)
    assert 1 / controller.value == pytest.approx(3.0, rel=0.01)
