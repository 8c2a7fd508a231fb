"""Controllers of β, worked by hand and against the code of the papers' authors."""

import math

import numpy as np
import pytest

from kellet.config.file import load_config
from kellet.config.run import Config
from kellet.config.training import KL
from kellet.policy.controller import AdaptiveKLController, DualKLController, FixedKLController, reach
from kellet.policy.train import build_controller
from tests.helpers.project import ROOT


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


def test_whether_the_error_was_clipped_is_recorded():
    adaptive = AdaptiveKLController(0.1, target=5.5, horizon=320)
    flags = []
    for kl in (6.05, 55.0, 5.0, 0.0):
        adaptive.update(kl, 64)
        flags.append(adaptive.at_clip)
    assert flags == [False, True, False, True]
    assert FixedKLController(0.1).at_clip is None


def test_adaptive_agrees_with_the_code_of_the_papers_authors():
    """openai/lm-human-preferences, train_policy.py: np.clip(current / target - 1, -0.2, 0.2), value *= 1 + e·n/h."""
    generator = np.random.default_rng(0)
    ours, theirs = AdaptiveKLController(0.15, target=6.0, horizon=10_000), 0.15
    for kl in generator.gamma(2.0, 4.0, size=200):
        ours.update(kl, 64)
        theirs *= 1.0 + np.clip(kl / 6.0 - 1, -0.2, 0.2) * 64 / 10_000
        assert ours.value == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    ("current", "value", "clipped"),
    [
        (4.0, 0.1 * math.e**0.2, False),  # twice the target: e = 1, and n/horizon = 0.2
        (40.0, 0.1 * math.e**0.2, False),  # no more than that
        (3.0, 0.1 * math.e**0.1, False),
        (2.0, 0.1, False),
        (0.0, 0.1 * math.e**-0.2, False),
    ],
)
def test_dual_by_hand(current, value, clipped):
    controller = DualKLController(0.1, target=2.0, horizon=320, bounds=(0.01, 1.0))
    controller.update(current, 64)
    assert controller.value == pytest.approx(value)
    assert controller.at_clip == clipped


def test_dual_does_not_wind_up_at_its_bounds():
    controller = DualKLController(0.1, target=2.0, horizon=320, bounds=(0.05, 1.0))
    for _ in range(1000):
        controller.update(0.0, 64)
    assert (controller.value, controller.at_clip) == (0.05, True)
    controller.update(4.0, 64)  # the first error of the other sign moves it at once
    assert (controller.value, controller.at_clip) == (pytest.approx(0.05 * math.e**0.2), False)
    for _ in range(1000):
        controller.update(99.0, 64)
    assert controller.value == 1.0
    controller.update(0.0, 64)
    assert controller.value == pytest.approx(math.e**-0.2)


def test_dual_finds_the_multiplier_of_its_constraint():
    """For r = (2, 0) and a uniform reference the best policy at β is σ(2/β), whose KL has one β at which it is 0.2."""

    def drift(coef):
        p = 1 / (1 + math.exp(-2 / coef))
        return p * math.log(2 * p) + (1 - p) * math.log(2 * (1 - p))

    controller = DualKLController(5.0, target=0.2, horizon=300, bounds=(1e-3, 100.0))
    for _ in range(400):
        controller.update(drift(controller.value), 64)
    assert drift(controller.value) == pytest.approx(0.2, rel=1e-3)
    assert not controller.at_clip


@pytest.mark.parametrize(
    ("kl", "batch", "iterations", "wanted"),
    [
        ({"controller": "adaptive", "horizon": 2000}, 64, 100, 1.0064**100),  # 0.2 * 64/2000 an iteration: 1.9 in all
        ({"controller": "adaptive", "horizon": 512}, 64, 100, 1.025**100),
        ({"controller": "dual", "horizon": 640, "init_coef": 0.1}, 64, 20, math.e**2),
        ({"controller": "dual", "horizon": 64, "init_coef": 0.1, "max_coef": 10.0}, 64, 100, 100.0),
        ({"controller": "fixed"}, 64, 100, 1.0),
    ],
)
def test_reach_is_what_the_controller_does_when_it_is_always_too_high(kl, batch, iterations, wanted):
    settings = KL.model_validate(kl)
    assert reach(settings, batch, iterations) == pytest.approx(wanted)
    controller = build_controller(Config.model_validate({"policy": {"kl": kl}}))
    for _ in range(iterations):
        controller.update(1e6, batch)
    assert controller.value / settings.init_coef == pytest.approx(wanted)


def test_a_profile_for_gpus_lets_the_controller_move():
    for file in sorted((ROOT / "profiles").glob("*b*.yaml")):
        policy = load_config(file).policy
        if policy.kl.controller != "fixed" and ("qwen" in file.name or "llama" in file.name):
            assert reach(policy.kl, policy.batch_size, policy.iterations) > 10, file.name
