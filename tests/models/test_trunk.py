"""One trunk, four parts: what is off is off bit for bit, padding is nothing, and what is saved others can load."""

import json

import pytest
import torch
from safetensors.torch import load_file

from kellet.config.training import Lora
from kellet.errors import ConfigError, DataError
from kellet.files import content_hash
from kellet.models import trunk
from kellet.models.heads import load_head, save_head, scalar_head
from kellet.models.tokens import pad
from kellet.models.trunk import (
    POLICY,
    REWARD,
    add_adapter,
    all_response_states,
    last_hidden,
    load_adapter,
    load_base,
    response_states,
    save_adapter,
    use_adapter,
)
from tests.helpers import tiny
from tests.helpers.tensors import relative_error, response_outputs
from tests.helpers.tiny import QUERIES, RESPONSES, perturb


@pytest.fixture
def base():
    return tiny.base()[0]


@pytest.fixture
def model(base, tmp_path):
    """A trunk with a perturbed policy and a perturbed reward adapter."""
    trunk = perturb(add_adapter(base, Lora(rank=2), seed=0).eval())
    save_adapter(trunk, tmp_path / "reward")
    return perturb(load_adapter(trunk, tmp_path / "reward", REWARD), REWARD, seed=1)


@pytest.fixture
def batch():
    return pad(QUERIES, RESPONSES, 0)


@torch.no_grad()
def logits(model, batch):
    return response_outputs(model, batch)[0]


def test_adapters_off_is_the_base_bit_for_bit(base, batch, tmp_path):
    expected = logits(base, batch)
    trunk = add_adapter(base, Lora(rank=2), seed=0).eval()
    assert torch.equal(logits(trunk, batch), expected)  # a fresh adapter is the identity
    perturb(trunk)
    assert not torch.allclose(logits(trunk, batch), expected, atol=1e-2)
    with use_adapter(trunk, None):
        assert torch.equal(logits(trunk, batch), expected)


def test_a_part_that_was_played_leaves_the_policy_as_it_was(model, batch):
    policy = logits(model, batch)
    seen = {}
    for part in (None, REWARD, POLICY):
        with use_adapter(model, part):
            seen[part] = logits(model, batch)
        assert torch.equal(logits(model, batch), policy)
    assert torch.equal(seen[POLICY], policy)
    assert not torch.allclose(seen[REWARD], policy, atol=1e-3)
    assert not torch.allclose(seen[None], seen[REWARD], atol=1e-3)


@pytest.mark.parametrize("part", [None, REWARD])
def test_an_exception_ends_the_part_too(model, batch, part):
    policy = logits(model, batch)
    with pytest.raises(KeyError), use_adapter(model, part):
        raise KeyError
    assert torch.equal(logits(model, batch), policy)


def test_after_every_part_only_the_policy_is_trained(model):
    for part in (None, REWARD):
        with use_adapter(model, part):
            pass
        trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
        assert trained
        assert all(f".{POLICY}." in name for name in trained)


def test_padding_changes_nothing(model, batch):
    together, hidden = response_outputs(model, batch)
    last = last_hidden(model, batch)
    for row in range(3):
        alone = pad([QUERIES[row]], [RESPONSES[row]], 0)
        width = len(RESPONSES[row])
        one_logits, one_hidden = response_outputs(model, alone)
        assert relative_error(together[row, :width], one_logits[0]) < 1e-5
        assert relative_error(hidden[row, :width], one_hidden[0]) < 1e-5
        assert relative_error(last[row], last_hidden(model, alone)[0]) < 1e-5


@torch.no_grad()
def test_parts_of_like_length_give_what_the_whole_batch_gives(model, batch, monkeypatch):
    whole = last_hidden(model, batch), all_response_states(model, batch)
    assert relative_error(whole[1], response_states(model, batch) * batch.response_mask[..., None]) < 1e-5
    assert [part.tolist() for part in batch.length_groups(14)] == [[1, 0], [2]]  # of 7, 4 and 8 tokens
    monkeypatch.setattr(trunk, "CPU_TOKENS", 14)
    for result, expected in zip((last_hidden(model, batch), all_response_states(model, batch)), whole, strict=True):
        assert relative_error(result, expected) < 1e-5


def test_outputs_predict_the_response_and_not_what_follows(model):
    # transformers' own forward over one unpadded text: position t predicts token t + 1
    query, response = QUERIES[0], RESPONSES[0]
    with torch.no_grad():
        plain = model(input_ids=torch.tensor([query + response])).logits[0]
    result = logits(model, pad([query], [response], 0))
    assert relative_error(result[0], plain[len(query) - 1 : -1]) < 1e-5


def test_the_last_hidden_state_sees_the_last_token_and_nothing_after_it(model):
    ended, other = (last_hidden(model, pad([[1, 40]], [[70, last]], 0)) for last in (2, 71))
    assert not torch.allclose(ended, other, atol=1e-3)


def test_an_adapter_is_the_same_for_the_same_seed():
    states = []
    for seed in (0, 0, 1):
        trunk = add_adapter(tiny.base()[0], Lora(rank=2), seed=seed)
        states.append(torch.cat([w.flatten() for name, w in trunk.named_parameters() if "lora_A" in name]))
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


# peft asks transformers for a property under its old name
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_a_saved_adapter_is_the_same_bytes_and_loads_with_peft(model, batch, tmp_path):
    from peft import AutoPeftModelForCausalLM

    for name in ("one", "two"):
        save_adapter(model, tmp_path / name)
    assert content_hash(tmp_path / "one") == content_hash(tmp_path / "two")
    modules = json.loads((tmp_path / "one" / "adapter_config.json").read_text())["target_modules"]
    assert len(modules) >= 7
    assert modules == sorted(modules)
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {file.name for file in (tmp_path / "one").iterdir()}
    loaded = AutoPeftModelForCausalLM.from_pretrained(tmp_path / "one").eval()
    assert relative_error(logits(loaded, batch), logits(model, batch)) < 1e-5


def test_the_base_loads_with_transformers(base, batch):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoModelForCausalLM.from_pretrained(tiny.folder() / "base").eval()
    assert torch.equal(logits(loaded, batch), logits(base, batch))
    saved = AutoTokenizer.from_pretrained(tiny.folder() / "base")
    assert (saved.pad_token_id, saved.bos_token_id, saved.eos_token_id) == (0, 1, 2)


def test_a_base_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(ConfigError, match="absent"):
        load_base(tmp_path / "absent")


def test_a_head_survives_the_way_to_disk(tmp_path):
    head = scalar_head(16, seed=3)
    save_head(head, tmp_path / "head.safetensors", length_slope=0.25)
    loaded, more = load_head(tmp_path / "head.safetensors")
    assert torch.equal(loaded.weight, head.weight)
    assert torch.equal(loaded.bias, head.bias)
    assert more == {"length_slope": 0.25}
    assert set(load_file(tmp_path / "head.safetensors")) == {"weight", "bias", "length_slope"}
    with pytest.raises(DataError, match="train the reward model"):
        load_head(tmp_path / "absent.safetensors")


def test_a_head_starts_near_zero_and_by_its_seed():
    hidden = torch.randn(100, 64, generator=torch.Generator().manual_seed(7))
    assert float(scalar_head(64, 0)(hidden).detach().abs().max()) < 0.5
    assert torch.equal(scalar_head(64, 0).weight, scalar_head(64, 0).weight)
    assert not torch.equal(scalar_head(64, 0).weight, scalar_head(64, 1).weight)
