"""Each alarm on a history that must set it off, and on one just short of that."""

import logging

import pytest

from kellet.errors import TrainingStopped
from kellet.models.checkpoint import Checkpoints
from kellet.models.heads import scalar_head
from kellet.policy.alarms import alarms
from kellet.policy.train import PPOModels, ppo
from tests.helpers import tiny
from tests.helpers.policy import Likes, play

CALM = {
    "objective/kl": 3.0,
    "objective/kl_p95": 6.0,
    "objective/kl_target": 3.0,
    "objective/kl_coef_at_clip": 0.0,
    "objective/entropy": 2.0,
    "objective/reward": 1.0,
    "ppo/value/explained_variance": 0.5,
    "tokens/truncated_share": 0.0,
    "tokens/response_mean": 20.0,
}
CONFIG = tiny.config(policy={"alarm_patience": 4})


def history(**last):
    """Four calm iterations, then four in which the metrics of ``last`` have the values given."""
    changed = {name.replace("__", "/"): values for name, values in last.items()}
    return [CALM] * 4 + [{**CALM, **{name: values[n] for name, values in changed.items()}} for n in range(4)]


def test_a_calm_history_has_none():
    assert alarms([], CONFIG) == {}
    assert alarms([CALM], CONFIG) == {}
    assert alarms(history(), CONFIG) == {}


@pytest.mark.parametrize(
    ("name", "setting_off", "just_not"),
    [
        ("kl_tail", {"objective__kl_p95": [6, 6, 6, 20.1]}, {"objective__kl_p95": [25, 25, 25, 20]}),
        ("controller_at_clip", {"objective__kl_coef_at_clip": [1] * 4}, {"objective__kl_coef_at_clip": [0, 1, 1, 1]}),
        ("entropy_collapse", {"objective__entropy": [2, 2, 2, 0.49]}, {"objective__entropy": [2, 2, 2, 0.5]}),
        (
            "value_blind",
            {"ppo__value__explained_variance": [0, -1, 0, -0.1]},
            {"ppo__value__explained_variance": [0.01, -1, 0, -0.1]},
        ),
        ("all_truncated", {"tokens__truncated_share": [0, 0, 0, 0.9]}, {"tokens__truncated_share": [0, 0, 0, 0.89]}),
        (
            "reward_with_length",
            {"tokens__response_mean": [21, 22, 23, 25], "objective__reward": [1, 2, 3, 5]},
            {"tokens__response_mean": [21, 22, 23, 24], "objective__reward": [1, 2, 3, 5]},  # no more than 1.2 times
        ),
        (
            "reward_with_length",
            {"tokens__response_mean": [21, 22, 23, 25], "objective__reward": [1, 2, 3, 5]},
            {"tokens__response_mean": [21, 22, 23, 25], "objective__reward": [5, 3, 2, 1]},
        ),
    ],
)
def test_each_is_set_off_by_what_it_names_and_by_nothing_less(name, setting_off, just_not):
    ringing = alarms(history(**setting_off), CONFIG)
    assert list(ringing) == [name]
    assert len(ringing[name].split()) > 4  # words, not a code
    assert alarms(history(**just_not), CONFIG) == {}


def test_a_fixed_coefficient_is_never_at_its_clip():
    fixed = [{**CALM, "objective/kl_coef_at_clip": None, "objective/kl_target": None}] * 8
    assert alarms(fixed, CONFIG) == {}


def test_an_alarm_is_logged_once_while_it_lasts(trunk, caplog):
    with caplog.at_level(logging.WARNING):
        play(trunk, Likes(70), iterations=6, alarm_patience=3, kl={"controller": "adaptive", "target": 1000.0})
    messages = [record.getMessage() for record in caplog.records if "controller_at_clip" in record.getMessage()]
    assert len(messages) == 1
    assert messages[0].startswith("iteration 3, controller_at_clip: β moves as fast as it may")


def test_stop_on_ends_with_a_checkpoint_from_which_it_can_go_on(trunk, tmp_path):
    settings = {
        "iterations": 5,
        "checkpoint_every": 100,
        "alarm_patience": 3,
        "kl": {"controller": "adaptive", "target": 1000.0},
    }
    prompts, head = list(tiny.pairs()["prompt"][:32]), scalar_head(16, 0)
    store = Checkpoints(tmp_path / "policy", {})
    config = tiny.config(policy={**settings, "stop_on": ["controller_at_clip"]})
    for _ in range(2):  # the second time at once
        with pytest.raises(TrainingStopped, match=r"policy\.stop_on after iteration 3: controller_at_clip: β moves"):
            ppo(config, PPOModels(*trunk, Likes(70), head), prompts, checkpoints=store)
        assert store.newest().step == 3
    history = ppo(tiny.config(policy=settings), PPOModels(*trunk, Likes(70), head), prompts, checkpoints=store)
    assert [row["iteration"] for row in history] == [1, 2, 3, 4, 5]
