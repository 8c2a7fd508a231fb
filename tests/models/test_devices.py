"""A training on two processes is the training on one, and goes on after one of them died; only the first one writes."""

import ast
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from kellet.errors import ConfigError, InputError
from kellet.models.devices import Devices, dtype_for, on_cpu
from kellet.policy.train import train_policy
from kellet.reward.train import train_reward
from tests.helpers import killed, processes, tiny
from tests.helpers.project import ROOT

POLICY = {
    "iterations": 5,
    "checkpoint_every": 2,
    "micro_batch_size": 3,  # on two processes parts of 3 and 1 responses, on one of 3, 3 and 2
    "kl": {"controller": "adaptive", "target": 0.01, "horizon": 32},
    "score": {"shaping": "gain", "function": "tests.helpers.processes:words"},
}
CONFIG = tiny.config(policy=POLICY, reward_model={"micro_batch_size": 5, "batch_size": 9})
SETTINGS = CONFIG.model_dump(mode="json")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    out = tmp_path_factory.mktemp("reward") / "model"
    train_reward(CONFIG, tiny.folder() / "preferences.parquet", tiny.folder() / "base", out)
    return tiny.folder() / "preferences.parquet", tiny.folder() / "base", out


@pytest.fixture(scope="module")
def alone(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone") / "policy"
    train_policy(CONFIG, *inputs, out)
    return out


def history(out):
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    timeless = [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]
    return [{name: -1e9 if value is None else value for name, value in row.items()} for row in timeless]


def same(out, alone, steps):
    """Every metric within 1e-4 (within 1e-5 of itself where it is larger than 10); the weights of the last step too."""
    result, expected = history(out), history(alone)
    assert len(result) == len(expected) == steps
    for one, other in zip(result, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4, rel=1e-5)
    weights, others = (load_file(folder / "adapter/adapter_model.safetensors") for folder in (out, alone))
    assert all(torch.allclose(weights[name], others[name], atol=1e-4) for name in others)


def test_launched_on_two_processes_it_is_the_training_on_one_and_one_process_reports(inputs, alone, tmp_path):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(SETTINGS))
    paths = dict(zip(("--preferences", "--base", "--reward-model"), inputs, strict=True)) | {"--out": tmp_path / "out"}
    options = [str(part) for pair in paths.items() for part in pair]
    launch = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", "0"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    verb = ["-m", "kellet", "train-policy", "--params", str(tmp_path / "params.yaml"), *options]
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *launch, *verb],
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"policy in {tmp_path / 'out'}"]
    assert done.stderr.count("policy: 5/5") == 1
    assert {path.name for path in tmp_path.iterdir()} == {"params.yaml", "out"}  # nothing of the second process
    same(tmp_path / "out", alone, 5)


def test_when_one_process_dies_the_other_reports_it_and_both_resume_from_the_checkpoint(inputs, alone, tmp_path):
    out, said = tmp_path / "policy", tmp_path / "stderr"
    # a score of the policy's answers and one of the reference's in each iteration: the seventh is in the fourth
    ended = processes.run(killed.train, SETTINGS, *inputs, out, DIES_IN_CALL="7", STDERR_IN=str(said))
    assert ended == [1, -9]
    assert "KelletError: another process of this training is gone" in said.read_text()
    assert [path.name for path in sorted(out.with_name("policy.checkpoints").glob("0*"))] == ["00000002"]
    assert not out.exists()
    assert processes.run(killed.train, SETTINGS, *inputs, out) == [0, 0]
    same(out, alone, 5)
    assert {path.name for path in tmp_path.iterdir()} == {"policy", "stderr"}


def test_a_reward_model_of_two_processes_is_that_of_one(inputs, tmp_path):
    out = tmp_path / "reward"
    # 64 pairs in batches of 9: one process has 5 and the other 4, and of the last pair one has none
    assert processes.run(processes.reward, SETTINGS, *inputs[:2], out) == [0, 0]
    same(out, inputs[2], 16)
    cards = [json.loads((folder / "card.json").read_text()) for folder in (out, inputs[2])]
    assert cards[0]["accuracy"] == cards[1]["accuracy"]
    assert cards[0]["gamma"] == pytest.approx(cards[1]["gamma"], abs=1e-4)


def test_an_evaluation_of_two_processes_is_that_of_one(inputs, alone, tmp_path):
    processes.evaluation(SETTINGS, *inputs, alone, tmp_path / "one")
    assert processes.run(processes.evaluation, SETTINGS, *inputs, alone, tmp_path / "two") == [0, 0]
    one, two = (pd.read_parquet(tmp_path / name / "evaluation.parquet") for name in ("one", "two"))
    assert len(one) == 2 * 2 * 12
    pd.testing.assert_frame_equal(one, two, rtol=1e-5, atol=1e-5)
    kl = [json.loads((tmp_path / name / "token_kl.json").read_text()) for name in ("one", "two")]
    assert kl[0].keys() == kl[1].keys()


def test_every_model_is_loaded_for_the_device_that_computes():
    """Where load_base is told no device it stays on the CPU: export alone may, whose folder is of the CPU's numbers."""
    calls = {}
    for file in (ROOT / "kellet").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_base":
                given = len(node.args) >= 3 or any(word.arg == "device" for word in node.keywords)
                calls.setdefault(file.name, []).append(given)
    assert calls.pop("export.py") == [False]
    assert {"evaluate.py", "rescore.py", "sampling.py", "own_base.py"} <= calls.keys()
    assert all(all(given) for given in calls.values()), calls


@pytest.mark.parametrize(
    ("found", "wanted", "cpu"),
    [(None, "", True), ("cuda", "", False), ("cuda", "cpu", True), ("mps", "", True), ("mps", "mps", False)],
)
def test_the_gpu_of_a_mac_is_taken_when_it_is_named(found, wanted, cpu, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: found is not None)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device(found))
    monkeypatch.setenv("KELLET_DEVICE", wanted)
    assert on_cpu() is cpu
    monkeypatch.setenv("KELLET_DEVICE", "gpu0")
    if found:
        with pytest.raises(ConfigError, match="KELLET_DEVICE is 'gpu0'"):
            on_cpu()


def test_a_model_in_shards_is_not_evaluated():
    devices = Devices()
    devices.accelerator = SimpleNamespace(distributed_type=SimpleNamespace(value="FSDP"))
    with pytest.raises(InputError, match="evaluate on one process, or with a config of DDP"):
        devices.place()


def of_three(rank):
    devices = Devices()
    devices.count, devices.rank = 3, rank
    return devices


def test_rows_are_spread_by_hand():
    rows = torch.tensor([5, 7, 9, 11, 13, 15])
    assert [of_three(rank).spread(rows)[0].tolist() for rank in range(3)] == [[5, 7], [9, 11], [13, 15]]
    assert [of_three(rank).share(6, "x") for rank in range(3)] == [slice(0, 2), slice(2, 4), slice(4, 6)]
    # four rows in parts of two: nothing is left for the third, which repeats one that does not count
    spread = [of_three(rank).spread(rows[:4]) for rank in range(3)]
    assert [(part.tolist(), counts) for part, counts in spread] == [([5, 7], True), ([9, 11], True), ([5], False)]


def test_a_batch_that_processes_cannot_share_is_refused():
    with pytest.raises(InputError, match=r"policy\.batch_size is 64, which 3 processes cannot share"):
        of_three(0).share(64, "policy.batch_size")


@pytest.mark.parametrize("name", ["ddp", "ddp-2-nodes", "fsdp"])
def test_accelerate_reads_the_example(name):
    result = load_config_from_file(str(ROOT / f"profiles/accelerate/{name}.yaml"))
    assert result.distributed_type.value == ("FSDP" if name == "fsdp" else "MULTI_GPU")
    assert result.num_processes == 8 * result.num_machines


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16"])
def test_a_cpu_computes_in_bfloat16_only_where_that_is_asked_for_and_it_can(name, monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, name: True})
    assert dtype_for(cpu) is dtype_for(cpu, "float32") is torch.float32
    assert dtype_for(cpu, "bfloat16") is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, name: False})
    with pytest.raises(ConfigError, match=r"base_model\.dtype is bfloat16, .* set it to float32"):
        dtype_for(cpu, "bfloat16")
