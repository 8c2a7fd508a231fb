"""The page 'Coming from TRL's PPOTrainer': its example runs, and its names and defaults are those of the code."""

import ast
import dataclasses
import json
import math
import re
import shutil
import warnings

import pytest

from kellet.config.file import known_keys, load_config
from tests.helpers import tiny
from tests.helpers.command import kellet
from tests.helpers.project import ROOT

PAGE = (ROOT / "docs/use/from-trl.md").read_text()


def block(kind):
    (found,) = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


def rows():
    """(field of PPOConfig, its default, Kellet's parameter or '—') of the table."""
    found = re.findall(r"^\| `(\w+)` \| `([^`]+)` \| (?:`([\w.]+)`|—) \|", PAGE, re.MULTILINE)
    assert len(found) == len(re.findall(r"^\| `\w+` \|", PAGE, re.MULTILINE)), "a row has another form"
    return found


def theirs():
    """The arguments of PPOConfig in the page's script."""
    (call,) = [
        node
        for node in ast.walk(ast.parse(block("python")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "PPOConfig"
    ]
    return {argument.arg: ast.literal_eval(argument.value) for argument in call.keywords}


@pytest.fixture
def params(tmp_path):
    """The page's parameter file."""
    path = tmp_path / "mine.yaml"
    path.write_text(block("yaml"))
    return path


def test_both_jobs_are_the_same(params):
    config, args = load_config(params), theirs()
    policy, batch = config.policy, args["per_device_train_batch_size"] * args["gradient_accumulation_steps"]
    assert policy.iterations == math.ceil(args["total_episodes"] / batch)
    assert (policy.batch_size, policy.minibatch_size) == (batch, batch // args["num_mini_batches"])
    assert policy.micro_batch_size == args["per_device_train_batch_size"]
    assert (policy.kl.controller, policy.kl.penalty) == ("fixed", "reward")
    assert args["temperature"] == 1  # the only one that is to be had here
    mapped = {field: ours for field, _, ours in rows() if ours and field in args}
    own = {"total_episodes", "num_mini_batches", "reward_model_path"}
    for field in mapped.keys() - own:
        value = config
        for part in mapped[field].split("."):
            value = getattr(value, part)
        assert value == args[field], field
    assert config.seed == args["seed"]


def test_every_parameter_of_the_page_exists():
    known = set(known_keys())
    assert [ours for _, _, ours in rows() if ours and ours not in known] == []
    named = set(re.findall(r"`((?:policy|text|base_model|reward_model|gate)\.[\w.]+)", PAGE))
    assert named - known == set()


def test_the_commands_of_the_page_run_on_a_small_base(params, tmp_path, monkeypatch):
    """From the prepared table as far as a policy, on a base of two layers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data/prepared/mine").mkdir(parents=True)
    shutil.copy(tiny.folder() / "preferences.parquet", tmp_path / "data/prepared/mine")
    small = {
        "base_model.path": tiny.folder() / "base",
        "text.max_response_tokens": 8,
        "policy.iterations": 1,
        "policy.epochs": 1,
        "policy.batch_size": 16,
        "policy.minibatch_size": 16,
        "reward_model.epochs": 1,
        "reward_model.require_lift": "false",
    }
    changes = [part for key, value in small.items() for part in ("--set", f"{key}={value}")]
    commands = [line.split() for line in PAGE.splitlines() if line.startswith("kellet train-")]
    assert [words[1] for words in commands] == ["train-reward", "train-policy"]
    for words in commands:
        named = [str(params) if word == "profiles/mine.yaml" else word for word in words[1:]]
        done = kellet(*named, *changes)
        assert done.exit_code == 0, done.output
    (row,) = [json.loads(line) for line in (tmp_path / "runs/mine/policy/history.jsonl").read_text().splitlines()]
    assert row["objective/kl_coef"] == 0.05
    assert kellet("estimate", "--params", str(params), "--memory", "8", *changes).exit_code == 0


@pytest.mark.trl
def test_the_table_is_that_of_trl():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ppo = pytest.importorskip("trl.experimental.ppo", reason="needs the extra 'bench'", exc_type=ImportError)
    fields = {field.name: field for field in dataclasses.fields(ppo.PPOConfig)}
    own = set(ppo.PPOConfig.__annotations__)
    assert {field for field, _, _ in rows()} == own
    assert [(field, repr(fields[field].default)) for field, _, _ in rows()] == [
        (f, default) for f, default, _ in rows()
    ]
    assert set(theirs()) <= set(fields)
