"""Recommended changes: patches that the parameters accept, and never a weaker penalty than the run's."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from kellet.config.file import load_config
from kellet.config.run import Config
from kellet.diagnosis.diagnose import diagnose
from tests.helpers.simulated_runs import PRESENT, Causes, diagnosed, planted, simulate


def accepted(patch):
    """Raises where ``--set`` would refuse the patch."""
    assert patch
    load_config(Path(os.devnull), tuple(f"{key}={json.dumps(value)}" for key, value in patch.items()))


def test_every_recommendation_is_a_patch_that_set_accepts():
    for id_ in PRESENT:
        first, second = diagnose(simulate(planted(id_, 5), 5)).recommendations
        assert first.change != second.change
        accepted(first.patch)
        accepted(second.patch)


def hold_kl(kl, *, steered=None):
    """The change that holds the KL of a drift, of a run with these settings of ``policy.kl`` and a budget of 8 nats."""
    config = Config.model_validate({"policy": {"kl": kl, "batch_size": 64, "minibatch_size": 64}})
    evidence = simulate(Causes(kl=20.0, beta=kl["init_coef"], step=0.3, target=steered), 0)
    recommendations = diagnose(replace(evidence, config=config)).recommendations
    (change,) = [item for item in recommendations if "policy.kl.init_coef" in item.patch]
    accepted(change.patch)
    return change


@pytest.mark.parametrize(
    ("kl", "steered", "target", "horizon"),
    [
        ({"controller": "fixed", "target": 1.0, "horizon": 300.0}, None, 1.0, 300.0),  # below a quarter: as it is
        ({"controller": "fixed", "target": 3.0, "horizon": 900.0}, None, 2.0, 512.0),  # a quarter of 8, 8 batches of 64
        ({"controller": "adaptive", "target": 6.0, "horizon": 300.0}, 6.0, 2.0, 300.0),
        ({"controller": "adaptive", "target": 1.0, "horizon": 300.0}, 1.0, 0.5, 300.0),  # missed: half of it
        ({"controller": "adaptive", "target": 3.0, "horizon": 300.0}, 1.0, 0.5, 300.0),  # what the history says counts
        ({"controller": "dual", "target": 1.0, "horizon": 64.0}, 1.0, 0.5, 64.0),
    ],
)
def test_a_recommended_controller_is_never_looser_than_the_run_s(kl, steered, target, horizon):
    patch = hold_kl({**kl, "init_coef": 0.002}, steered=steered).patch
    assert patch["policy.kl.target"] == target
    assert patch["policy.kl.horizon"] == horizon
    assert patch["policy.kl.init_coef"] >= 0.002
    assert patch["policy.kl.controller"] == ("dual" if kl["controller"] == "dual" else "adaptive")


def test_a_recommended_controller_starts_no_lower_than_the_run_did():
    # the gain of 0.5 at 20 nats asks for 0.5/(2·√20) = 0.056 at 1 nat, the run began at 3
    assert hold_kl({"controller": "fixed", "target": 1.0, "init_coef": 3.0}).patch["policy.kl.init_coef"] >= 3.0


def test_a_target_that_was_missed_is_halved_with_the_reason():
    change = hold_kl({"controller": "adaptive", "target": 1.0, "init_coef": 0.002}, steered=1.0)
    assert "half of the 1 nat that the run was steered to and missed" in change.tradeoff


def test_room_is_used_only_where_nothing_is_wrong_and_the_target_is_in_the_way():
    biased = diagnosed(Causes(label_taste=1.2, length_price=0.08))
    assert not any("room" in item.change for item in biased.recommendations)
    # KL 1 nat under a target of 3: 1.5 nats would be no raise
    assert not any("room" in item.change for item in diagnosed(Causes(kl=1.0, target=3.0)).recommendations)
