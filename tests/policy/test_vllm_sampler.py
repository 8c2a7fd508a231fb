"""Sampling by a vLLM server: what is asked of it, what is believed, and that training is the same kind of training.

The stand-in (tests/helpers/vllm_server.py) speaks the protocol. With KELLET_TEST_VLLM=PYTHON, the python of an
environment in which vLLM is installed, the last test starts the real server.
"""

import json
import os
import socket
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest
import torch

from kellet.config.training import VLLM
from kellet.errors import InputError, KelletError
from kellet.files import content_hash
from kellet.models.base_model import train_base
from kellet.models.devices import Devices
from kellet.models.kl import k1
from kellet.models.sampling import draw_uniforms
from kellet.models.trunk import add_adapter, load_base, logits_of, next_states
from kellet.policy import vllm_sampler
from kellet.policy.rollout import Sampled, score_rollout
from kellet.policy.train import train_policy
from kellet.policy.vllm_sampler import VLLMSampler, require_same_distribution
from kellet.reward.train import train_reward
from tests.helpers import tiny
from tests.helpers.policy import Likes
from tests.helpers.tiny import perturb
from tests.helpers.vllm_server import VLLMServer

BASE = tiny.folder() / "base"


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory):
    out = tmp_path_factory.mktemp("reward") / "model"
    train_reward(tiny.config(), tiny.folder() / "preferences.parquet", BASE, out)
    return out


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(vllm_sampler.time, "sleep", lambda _: None)


def train(reward_model, out, server, temperature=1.0, **policy):
    asked = {"sampler": "vllm", "vllm": {"endpoint": server.endpoint}, **policy}
    config = tiny.config(text={"temperature": temperature}, policy=asked)
    train_policy(config, tiny.folder() / "preferences.parquet", BASE, reward_model, out)
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


def sampler(server, tmp_path, temperature=1.0):
    return VLLMSampler(VLLM(endpoint=server.endpoint), temperature, tmp_path / "adapters", Devices())


def policy(seed=0):
    model, tokenizer = tiny.base()
    model = add_adapter(model, tiny.config().policy.lora, 0)
    perturb(model, seed=seed)
    return model, tokenizer


def test_a_policy_is_trained_on_the_answers_of_the_server(reward_model, tmp_path):
    with VLLMServer(BASE, temperature=0.5) as server:
        history = train(reward_model, tmp_path / "out", server, temperature=0.5, iterations=3)
    assert [row["sampler/logprob_gap"] < 1e-5 for row in history] == [True] * 3  # the same weights and arithmetic
    assert history[-1]["objective/kl"] > 1e-4
    paths = [path for path, _, _ in server.asked]
    assert paths.count("/v1/completions") == 3 * 16
    assert paths.count("/v1/load_lora_adapter") == 3
    assert paths.count("/v1/unload_lora_adapter") == 3
    assert server.adapters == {}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["out"]  # no adapter is left behind
    bodies = [body for path, _, body in server.asked if path == "/v1/completions"]
    assert {body["temperature"] for body in bodies} == {0.5}
    assert len({body["seed"] for body in bodies}) == 48  # no two answers share their noise


def test_the_same_seed_gives_the_same_bytes(reward_model, tmp_path):
    with VLLMServer(BASE) as server:
        for name in ("one", "two"):
            train(reward_model, tmp_path / name, server)
    assert content_hash(tmp_path / "one" / "adapter") == content_hash(tmp_path / "two" / "adapter")


def test_another_server_may_go_on_with_a_killed_training(reward_model, tmp_path):
    def dies(path, body, told):
        return (400, "out of memory") if len(dead.asked) > 30 else (200, told)

    with VLLMServer(BASE) as server:
        train(reward_model, tmp_path / "whole", server, checkpoint_every=1)
    with VLLMServer(BASE, dies) as dead, pytest.raises(InputError, match="answers 400: out of memory"):
        train(reward_model, tmp_path / "out", dead, checkpoint_every=1)
    with VLLMServer(BASE) as server:
        train(reward_model, tmp_path / "out", server, checkpoint_every=1)
        assert sum(path == "/v1/completions" for path, _, _ in server.asked) == 16  # the second iteration alone
    assert content_hash(tmp_path / "out" / "adapter") == content_hash(tmp_path / "whole" / "adapter")


def test_a_server_that_keeps_an_old_adapter_is_found_out(reward_model, tmp_path):
    def stale(path, body, told):
        first = next(iter(server.kept), None)
        server.kept.update(server.adapters)
        if path == "/v1/completions" and first:
            server.adapters[body["model"]] = server.kept[first]
        return 200, told

    with VLLMServer(BASE, stale) as server:
        server.kept = {}
        fast = {"iterations": 6, "learning_rate": 0.3, "stop_kl": 100.0}
        with pytest.raises(InputError, match=r"over policy\.vllm\.max_gap \(0\.1\)"):
            train(reward_model, tmp_path / "out", server, **fast)
    assert not (tmp_path / "out").exists()


def test_log_probabilities_before_the_temperature_are_found_out(reward_model, tmp_path):
    # vLLM's default: --logprobs-mode raw_logprobs
    with VLLMServer(BASE, temperature=1.0) as server, pytest.raises(InputError, match="processed_logprobs"):
        train(reward_model, tmp_path / "out", server, temperature=0.3)


@pytest.mark.parametrize(
    ("status", "told", "error", "match"),
    [
        (200, {"choices": []}, InputError, "without token_ids and logprobs"),
        (200, "<html>", InputError, "without token_ids and logprobs"),
        (200, {"choices": [{"text": "yes", "finish_reason": "stop"}]}, InputError, "return_token_ids"),
        (401, "no", InputError, "401: no; set VLLM_API_KEY"),
        (503, "busy", InputError, "503: busy"),
        (200, ([5, 6], [-1.0], "length"), InputError, "2 tokens with 1 log-probabilities"),
        (200, ([5] * 11, [-1.0] * 11, "length"), InputError, "11 tokens with 11 log-probabilities, wanted 1 to 10"),
        (200, ([], [], "stop"), InputError, "0 tokens"),
        (200, ([5, 9], [-1.0, -1.0], "stop"), InputError, "ends a response at token 9 .* ends it at 2"),
        (200, ([5, 2, 6], [-1.0, -1.0, -1.0], "length"), InputError, "ends a response at token 6"),
    ],
)
def test_an_answer_that_is_none_is_refused(status, told, error, match, tmp_path):
    def answers(path, body, honest):
        if path != "/v1/completions":
            return 200, honest
        if isinstance(told, tuple):
            ids, logprobs, reason = told
            return status, {
                "choices": [{"token_ids": ids, "logprobs": {"token_logprobs": logprobs}, "finish_reason": reason}]
            }
        return status, told

    with VLLMServer(BASE, answers) as server, pytest.raises(error, match=match):
        sampler(server, tmp_path)(*policy(), [[1, 40]], 10, torch.zeros(1, 10, dtype=torch.float64))


def test_an_overloaded_server_is_asked_again(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLM_API_KEY", "secret")

    def busy(path, body, told):
        return (503, "busy") if len(server.asked) in (1, 3, 4) else (200, told)

    with VLLMServer(BASE, busy) as server:
        drawn = sampler(server, tmp_path)(*policy(), [[1, 40]], 10, torch.zeros(1, 10, dtype=torch.float64))
    assert isinstance(drawn, Sampled)
    assert [path.rsplit("/")[-1] for path, _, _ in server.asked] == ["load_lora_adapter"] * 2 + ["completions"] * 3
    assert {headers["Authorization"] for _, headers, _ in server.asked} == {"Bearer secret"}


def test_a_server_without_loading_at_run_time_is_named(tmp_path):
    hint = "404: Not Found; start the server with VLLM_ALLOW_RUNTIME_LORA_UPDATING"
    with VLLMServer(BASE, lambda *_: (404, "Not Found")) as server, pytest.raises(InputError, match=hint):
        sampler(server, tmp_path).load(policy()[0])


def test_a_server_that_is_not_there_is_named(tmp_path):
    with VLLMServer(BASE) as server:
        pass
    with pytest.raises(KelletError, match=r"does not answer .*policy\.vllm\.endpoint"):
        sampler(server, tmp_path).load(policy()[0])


@pytest.mark.parametrize(
    "endpoint", ["127.0.0.1:8000", "file:///etc/passwd", "http://user:word@host", "http://h/?key=1"]
)
def test_an_endpoint_is_an_address_without_a_secret(endpoint):
    with pytest.raises(ValueError, match="endpoint"):
        VLLM(endpoint=endpoint)


@pytest.mark.parametrize("value", [float("nan"), 0.3])
def test_the_gap_is_a_mean_over_the_tokens_that_count(value):
    mask = torch.tensor([[True, True, False]])
    ours, theirs = torch.tensor([[-1.0, -2.0, 0.0]]), torch.tensor([[-1.1, -2.1, 9.0]])
    assert require_same_distribution(theirs, ours, mask, VLLM()) == pytest.approx(0.1)
    with pytest.raises(InputError, match="max_gap"):
        require_same_distribution(theirs + value, ours, mask, VLLM())


@pytest.fixture
def real_server(tmp_path):
    """A vLLM server with a base whose heads are as wide as vLLM needs; (folder of the base, endpoint)."""
    python = os.environ.get("KELLET_TEST_VLLM")
    if not python:
        pytest.skip("KELLET_TEST_VLLM does not name the python of an environment with vLLM")
    config = tiny.config(base_model={"width": 64}, text={"max_prompt_tokens": 24, "max_response_tokens": 40})
    train_base(config, tiny.folder() / "preferences.parquet", tmp_path / "base")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(tmp_path / "base"), "--enable-lora"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--max-lora-rank", "8", "--max-model-len", "64"]
    command += ["--dtype", "float32", "--logprobs-mode", "processed_logprobs", "--enforce-eager"]
    settings = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1"}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | settings
    environment |= {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1"}
    endpoint = f"http://127.0.0.1:{port}"
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            for _ in range(300):
                if server.poll() is not None or _healthy(endpoint):
                    break
                threading.Event().wait(1)  # the tests' time.sleep does not wait
            assert server.poll() is None, (tmp_path / "server.log").read_text()[-3000:]
            yield tmp_path / "base", endpoint
        finally:
            server.terminate()
            server.wait(60)


def _healthy(endpoint):
    try:
        with urllib.request.urlopen(f"{endpoint}/health", timeout=5) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_real_server_samples_the_policy_of_now(real_server, tmp_path):
    base, endpoint = real_server
    model, tokenizer = load_base(base, temperature=0.7)
    model = add_adapter(model, tiny.config().policy.lora, 0)
    ask = VLLMSampler(VLLM(endpoint=endpoint), 0.7, tmp_path / "adapters", Devices())
    queries, rows = [[1, 40, 41, 42], [1, 50], [1, 60, 61]], 300
    head = torch.nn.Linear(64, 1)
    for seed in range(3):  # each a policy of its own: the adapter is loaded anew
        perturb(model, seed=seed)
        uniforms = draw_uniforms(3, 40, torch.Generator().manual_seed(seed))
        drawn = ask(model, tokenizer, queries, 40, uniforms)
        rollout = score_rollout(model, Likes(70), head, drawn)
        mask = rollout.batch.response_mask
        assert float(rollout.kl_k1.sum()) != 0  # not the base
        assert require_same_distribution(rollout.sampled_logprobs, rollout.logprobs, mask, VLLM()) < 1e-4
        assert float(k1(rollout.sampled_logprobs, rollout.logprobs)[mask].abs().max()) < 1e-3
    # the first tokens of many answers follow softmax(logits/T): Pearson's χ² over tokens expected five times or more
    uniforms = draw_uniforms(rows, 1, torch.Generator().manual_seed(9))
    first = ask(model, tokenizer, [queries[0]] * rows, 1, uniforms).batch.responses[:, 0]
    ids = torch.tensor([queries[0]])
    states, _ = next_states(model, ids, torch.ones_like(ids), torch.arange(4)[None], None)
    expected = rows * logits_of(model, states).softmax(-1)[0].detach().double()
    counts = torch.bincount(first, minlength=len(expected)).double()
    often = expected >= 5
    groups = [*zip(counts[often], expected[often], strict=True), (counts[~often].sum(), expected[~often].sum())]
    statistic = sum(float((seen - hoped) ** 2 / hoped) for seen, hoped in groups if hoped > 0)
    freedom = len(groups) - 1
    assert statistic < freedom + 5 * (2 * freedom) ** 0.5, (statistic, freedom)  # five standard deviations
    ask.unload()
    assert list(Path(tmp_path / "adapters").iterdir()) == []
