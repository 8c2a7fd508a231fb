"""A policy whose training is killed and started again ends in the same bytes as one whose training was left alone."""

import json
import os
import random
import shutil
import signal
import time

import pytest

from kellet.errors import InputError
from kellet.files import content_hash
from kellet.policy.train import train_policy
from kellet.reward.train import train_reward
from tests.helpers import killed, tiny

POLICY = {
    "iterations": 5,
    "checkpoint_every": 2,
    "stop_kl": 1e9,  # beside a target of 0.01 the default would skip most steps
    "kl": {"controller": "adaptive", "target": 0.01, "horizon": 32},
    "score": {"shaping": "standardised"},
}
SETTINGS = tiny.config(policy=POLICY).model_dump(mode="json")
PARTS = ("adapter", "value_head.safetensors", "samples.jsonl")
KILLS = [
    ("kellet.policy.rollout", "sample_states", 1),  # before the first checkpoint
    ("kellet.policy.rollout", "sample_states", 4),
    ("kellet.policy.update", "policy_loss", 2 * 4 * 2 + 3),  # in the fifth of 2 epochs of 2 minibatches
    ("kellet.files", "_flush", 5),  # in the second checkpoint: one file is flushed, the folder not yet renamed
    ("kellet.models.checkpoint", "_older", 2),  # between writing a checkpoint and dropping those before it
    ("kellet.policy.train", "save_head", 1),  # while the result is written
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    out = tmp_path_factory.mktemp("reward") / "model"
    train_reward(tiny.config(), tiny.folder() / "preferences.parquet", tiny.folder() / "base", out)
    return tiny.folder() / "preferences.parquet", tiny.folder() / "base", out


@pytest.fixture(scope="module")
def alone(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "policy"
    assert killed.run(killed.train, SETTINGS, *inputs, out) == 0
    return out


def same(left, right):
    assert [content_hash(left / part) for part in PARTS] == [content_hash(right / part) for part in PARTS]
    histories = [
        [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()] for out in (left, right)
    ]
    untimed = [[{k: v for k, v in row.items() if not k.startswith("time/")} for row in rows] for rows in histories]
    assert untimed[0] == untimed[1]


def leftovers(out):
    return sorted(path.name for path in out.parent.iterdir() if path != out)


@pytest.mark.parametrize(("module", "function", "call"), KILLS)
def test_killed_in_a_function_and_continued_it_ends_in_the_same_bytes(inputs, alone, tmp_path, module, function, call):
    out = tmp_path / "policy"
    end = killed.run(killed.kill_in, module, function, call, killed.train, SETTINGS, *inputs, out)
    assert end == -signal.SIGKILL
    assert not out.exists()
    assert killed.run(killed.train, SETTINGS, *inputs, out) == 0
    same(out, alone)
    assert [name for name in leftovers(out) if not name.startswith(".policy.")] == []


def test_it_goes_on_and_does_not_begin_again(inputs, tmp_path):
    out, iterations = tmp_path / "policy", []
    killed.run(killed.kill_in, "kellet.policy.rollout", "sample_states", 4, killed.train, SETTINGS, *inputs, out)
    train_policy(tiny.config(policy=POLICY), *inputs, out, lambda *step: iterations.append(step[0]))
    assert iterations == [3, 4, 5]


def test_killed_at_random_moments_it_ends_in_the_same_bytes(inputs, alone, tmp_path, pytestconfig):
    out, generator = tmp_path / "policy", random.Random(0)  # noqa: S311
    for _ in range(pytestconfig.getoption("--kills")):
        process = killed.start(killed.train, SETTINGS, *inputs, out)
        process.join(generator.uniform(0, 2.5))
        process.kill()
        process.join()
        if out.exists():  # it had ended before the kill
            same(out, alone)
            shutil.rmtree(out)
    assert killed.run(killed.train, SETTINGS, *inputs, out) == 0
    same(out, alone)


def test_on_sigterm_it_saves_and_the_next_start_goes_on_from_there(inputs, alone, tmp_path):
    out = tmp_path / "policy"
    process = killed.start(killed.train, SETTINGS, *inputs, out)
    while not out.with_name("policy.checkpoints").exists():
        time.sleep(0.01)
        assert process.is_alive()
    os.kill(process.pid, signal.SIGTERM)
    process.join(60)
    assert process.exitcode == -signal.SIGTERM
    assert not out.exists()
    assert killed.run(killed.train, SETTINGS, *inputs, out) == 0
    same(out, alone)


def test_checkpoints_of_other_parameters_or_data_are_refused(inputs, tmp_path):
    out = tmp_path / "policy"
    killed.run(killed.kill_in, "kellet.policy.rollout", "sample_states", 4, killed.train, SETTINGS, *inputs, out)
    with pytest.raises(InputError, match=r"policy\.learning_rate: checkpoint 0\.003, now 0\.5"):
        train_policy(tiny.config(policy={**POLICY, "learning_rate": 0.5}), *inputs, out)
    preferences = tmp_path / "preferences.parquet"
    table = tiny.pairs()
    table.loc[table.index[0], "prompt"] += "!"
    table.to_parquet(preferences, index=False)
    with pytest.raises(InputError, match=r"content\.prompts: checkpoint"):
        train_policy(tiny.config(policy=POLICY), preferences, *inputs[1:], out)
    other = shutil.copytree(inputs[2], tmp_path / "reward")
    (other / "head.safetensors").write_bytes((other / "adapter/adapter_model.safetensors").read_bytes())
    with pytest.raises(InputError, match=r"content\.reward_model\.head\.safetensors: checkpoint"):
        train_policy(tiny.config(policy=POLICY), *inputs[:2], other, out)
    assert not out.exists()
    train_policy(tiny.config(policy={**POLICY, "checkpoint_every": 1}), *inputs, out)  # checkpoint_every may change
