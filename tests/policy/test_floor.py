"""Half precision: float32 logits, the KL that rounding shows, and what is said of it."""

import json
import logging

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from kellet.config.training import BaseLM, Lora
from kellet.models import kl
from kellet.models.next_token import log_probabilities, policy_vs_reference
from kellet.models.sampling import draw_uniforms, sample
from kellet.models.trunk import POLICY, add_adapter, all_response_states, load_base, use_adapter
from kellet.policy import floor as module
from kellet.policy.floor import SMALL, kl_floor, warn_of_floor
from kellet.policy.train import train_policy
from kellet.reward.train import train_reward
from tests.helpers import tiny
from tests.helpers.tiny import perturb

BASE = tiny.folder() / "base"
PROMPTS = list(tiny.pairs()["prompt"][:16])


@pytest.fixture(autouse=True)
def bfloat16(monkeypatch):
    """A CPU that computes in bfloat16, by instructions or not."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A base of random weights, wide enough that rounding reaches every token."""
    folder, tokenizer = tmp_path_factory.mktemp("wide"), tiny.base()[1]
    torch.manual_seed(0)
    size = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    settings = LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.1, max_position_embeddings=64, **size, **ends)
    AutoModelForCausalLM.from_config(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trunk(base=BASE, **settings):
    model, tokenizer = load_base(base, BaseLM(**settings))
    return add_adapter(model, Lora(rank=2), 0).eval(), tokenizer


def test_logits_of_half_precision_states_are_the_float32_product():
    model, _ = trunk(dtype="bfloat16")
    states = torch.randn(50, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    weight = model.get_output_embeddings().weight.detach()
    assert weight.dtype is torch.bfloat16  # the embeddings, which share it, are as they were
    expected = (states.double() @ weight.double().T).log_softmax(-1)
    with torch.no_grad():
        exact = log_probabilities(model, states).double()
        rounded = log_probabilities(trunk(dtype="bfloat16", full_precision_output=False)[0], states).double()
    assert float((exact - expected).abs().max()) < 1e-5
    assert float((rounded - expected).abs().max()) > 1e-3  # what bfloat16 logits would give


def test_a_float32_base_is_left_alone():
    output = load_base(BASE)[0].get_output_embeddings()
    assert type(output) is torch.nn.Linear
    assert not dict(output.named_buffers())


def test_the_copy_is_not_saved(tmp_path):
    model, _ = load_base(BASE, BaseLM(dtype="bfloat16"))
    model.save_pretrained(tmp_path)
    tiny.base()[1].save_pretrained(tmp_path)
    assert {name for name in model.state_dict() if "float32" in name} == set()
    assert type(load_base(tmp_path)[0].get_output_embeddings()) is torch.nn.Linear


def test_the_floor_is_rounding_and_not_the_adapter(wide, monkeypatch):
    def measured(dtype):
        model, tokenizer = trunk(wide, dtype=dtype)
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        floor = kl_floor(model, tokenizer, PROMPTS, tiny.config())
        assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())
        return floor

    assert measured("float32") is None
    half = measured("bfloat16")
    monkeypatch.setattr(module, "_computes_in_half", lambda _: True)
    exact = measured("float32")  # the same adapter's own KL
    assert half > 100 * exact


def test_the_adapter_moves_each_layer_by_as_much_as_is_said():
    model, _ = trunk(dtype="float32")
    x = torch.randn(4000, 16, generator=torch.Generator().manual_seed(0))
    layer = model.get_decoder().layers[0].self_attn.q_proj
    with torch.no_grad(), use_adapter(model, None):
        plain = layer(x)
    with torch.no_grad(), module._hardly_an_adapter(model, torch.Generator().manual_seed(1)):
        moved = layer(x)
    share = float((moved - plain).norm() / plain.norm())
    assert SMALL / 4 < share < 4 * SMALL  # rank 2: two random directions


def test_the_floor_is_what_an_untrained_policy_would_show(wide):
    """A policy that has hardly moved shows the floor: by an adapter of another size and seed, on other prompts."""
    model, tokenizer = trunk(wide, dtype="bfloat16")
    floor = kl_floor(model, tokenizer, PROMPTS, tiny.config())
    perturb(model, seed=5)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight *= 1e-4
        queries = [[1, 40 + number] for number in range(16)]
        uniforms = draw_uniforms(16, 10, torch.Generator().manual_seed(3))
        with use_adapter(model, None):
            batch = sample(model, tokenizer, queries, 10, uniforms)
            reference = all_response_states(model, batch)
        shown = policy_vs_reference(model, all_response_states(model, batch), reference, batch).kl_full
    nats = float(kl.per_response(shown, batch.response_mask).mean())
    assert floor / 3 < nats < 3 * floor


@pytest.mark.parametrize(
    ("floor", "names"),
    [(None, set()), (0.1, set()), (0.6, {"policy.stop_kl"}), (1.1, {"policy.kl.target", "policy.stop_kl"})],
)
def test_limits_near_the_floor_are_named(floor, names, caplog):
    config = tiny.config(policy={"kl": {"target": 3.0}}, gate={"kl_budget": 8.0})  # stop_kl: half the target
    warn_of_floor(floor, config)
    assert {message.split()[0] for message in caplog.messages} == names


def test_history_tells_the_floor_and_the_first_ratios_and_a_resumed_training_the_same(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    inputs = tiny.folder() / "preferences.parquet", BASE
    half = {"base_model": {"dtype": "bfloat16"}, "policy": {"kl": {"target": 1e-6}}}
    train_reward(tiny.config(**half), *inputs, tmp_path / "reward")
    train_policy(tiny.config(**half), *inputs, tmp_path / "reward", tmp_path / "policy")
    rows = [json.loads(line) for line in (tmp_path / "policy/history.jsonl").read_text().splitlines()]
    assert rows[0]["objective/kl_floor"] == rows[1]["objective/kl_floor"] > 0
    assert rows[0]["objective/kl"] == 0  # the identity shows none of it
    assert all(row["ppo/policy/approxkl_first"] >= 0 for row in rows)
    assert any(
        "policy.kl.target is 1e-06 nats a response, and half precision" in message for message in caplog.messages
    )


def test_in_float32_the_first_ratios_are_one(tmp_path):
    inputs = tiny.folder() / "preferences.parquet", BASE
    train_reward(tiny.config(), *inputs, tmp_path / "reward")
    train_policy(tiny.config(policy={"iterations": 3}), *inputs, tmp_path / "reward", tmp_path / "policy")
    rows = [json.loads(line) for line in (tmp_path / "policy/history.jsonl").read_text().splitlines()]
    assert rows[-1]["objective/kl"] > 1e-3
    assert all(row["ppo/policy/approxkl_first"] < 1e-9 for row in rows)
    assert all(row["objective/kl_floor"] is None for row in rows)


def test_the_name_of_the_policys_adapter_is_what_is_perturbed():
    model, _ = trunk(dtype="float32")
    with module._hardly_an_adapter(model, torch.Generator().manual_seed(1)), torch.no_grad():
        moved = {name for name, weight in model.named_parameters() if "lora_B" in name and weight.any()}
    assert moved
    assert all(f".{POLICY}." in name for name in moved)
