"""The fused layer against peft's own, and where it must step aside."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear
from torch import nn

from kellet.models.fused_lora import FusedLinear, fuse
from tests.helpers.tensors import relative_error


def pair(**settings):
    """Peft's model and the same fused, with an adapter that is not the identity."""
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 4, bias=False))
    peft = get_peft_model(inner, LoraConfig(r=2, lora_alpha=6, target_modules=["0", "2"], **settings))
    with torch.no_grad():
        for name, weight in peft.named_parameters():
            if "lora_B" in name:
                weight.normal_()
    return peft, fuse(copy.deepcopy(peft))


def run(model, x):
    """Output, and gradients of the input and of all weights that have one."""
    x = x.clone().requires_grad_()
    y = model(x)
    (y * torch.arange(y.numel()).view(y.shape)).sum().backward()
    return [y, x.grad, *(weight.grad for weight in model.parameters() if weight.grad is not None)]


@pytest.mark.parametrize("shape", [(3, 6), (2, 3, 6)])
def test_outputs_and_gradients_are_pefts(shape, monkeypatch):
    peft, fused = pair()
    x = torch.randn(shape)
    expected = run(peft, x)
    monkeypatch.setattr(Linear, "forward", None)  # peft's own is not asked
    result = run(fused, x)
    assert len(result) == len(expected) == 2 + 4
    for left, right in zip(result, expected, strict=True):
        assert relative_error(left, right) < 2e-6
        assert float(right.detach().abs().max()) > 0.1


def test_half_precision_is_pefts_to_its_rounding_and_trains_in_float32(monkeypatch):
    models = pair()
    x = torch.randn(7, 6)
    for model in models:
        for name, weight in model.named_parameters():
            weight.data = weight.data.to(torch.float32 if "lora_" in name else torch.bfloat16)
    expected = run(models[0], x.bfloat16())
    monkeypatch.setattr(Linear, "forward", None)
    result = run(models[1], x.bfloat16())
    assert [each.dtype for each in result] == [torch.bfloat16] * 2 + [torch.float32] * 4
    for left, right in zip(result, expected, strict=True):
        assert float((left - right).detach().norm()) < 0.03 * float(right.detach().norm())  # bfloat16 keeps 8 bits


def test_a_transposed_input_is_the_same_numbers():
    peft, fused = pair()
    x = torch.randn(6, 3, 2).transpose(0, 2)
    assert relative_error(fused(x), peft(x)) < 1e-6


@pytest.mark.parametrize("way", ["off", "merged", "two", "dropout"])
def test_what_is_not_plain_is_left_to_peft(way):
    models = pair(lora_dropout=0.5 if way == "dropout" else 0.0)
    x, seen = torch.randn(3, 6), []
    for model in models:
        if way == "merged":
            model.merge_adapter()
        if way == "two":
            torch.manual_seed(1)
            model.add_adapter("other", LoraConfig(r=2, target_modules=["0"], init_lora_weights=False))
            model.base_model.set_adapter(["default", "other"])
        torch.manual_seed(2)
        if way == "off":
            with model.disable_adapter():
                seen.append(model(x))
        else:
            seen.append(model.train()(x))
    assert torch.equal(*seen)


def test_only_plain_layers_are_fused():
    peft, fused = pair(use_dora=True)
    assert any(isinstance(module, FusedLinear) for module in fused.modules())
    x = torch.randn(3, 6)
    assert torch.equal(fused(x), peft(x))  # an adapter of another kind


def test_a_base_that_is_trained_too_gets_its_gradient():
    models = pair()
    for model in models:
        for name, weight in model.named_parameters():
            if "base_layer" in name:
                weight.requires_grad_()
    expected, result = (run(model, torch.ones(3, 6)) for model in models)
    assert len(result) == len(expected) == 2 + 4 + 3  # two weights and a bias of the base
    for left, right in zip(result, expected, strict=True):
        assert relative_error(left, right) < 2e-6


def test_under_autocast_the_layer_is_pefts():
    peft, fused = pair()
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(3))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        expected, result = peft(x), fused(x)
    assert result.dtype is expected.dtype is torch.bfloat16
    assert torch.equal(result, expected)
