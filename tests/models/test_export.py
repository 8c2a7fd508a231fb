"""Export: what peft and Kellet are needed for is gone, and the model says the same."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from kellet.config.training import Lora
from kellet.errors import DataError, KelletError
from kellet.models import export as stage
from kellet.models.export import export
from kellet.models.trunk import add_adapter, save_adapter
from tests.helpers import tiny
from tests.helpers.tensors import relative_error
from tests.helpers.tiny import perturb


@pytest.fixture
def policy(tmp_path):
    """(folder, model): a policy that is far from its base."""
    model = perturb(add_adapter(tiny.base()[0], Lora(rank=2), 0)).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight *= 0.3 if "lora_" in name else 1.0
    save_adapter(model, tmp_path / "policy" / "adapter")
    return tmp_path / "policy", model


@torch.no_grad()
def test_plain_transformers_gives_the_same_logits_and_text(policy, tmp_path):
    folder, model = policy
    export(tiny.folder() / "base", folder, tmp_path / "out")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out", use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    tokens = tokenizer("Hello, where is my parcel?", return_tensors="pt", return_token_type_ids=False)
    here, base = plain(**tokens).logits, tiny.base()[0](**tokens).logits
    assert relative_error(here, model(**tokens).logits) < 1e-5
    assert float((here - base).abs().max()) > 0.1
    assert not list((tmp_path / "out").glob("adapter*"))
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "llama"


def test_an_adapter_folder_itself_will_do(policy, tmp_path):
    folder, _ = policy
    assert export(tiny.folder() / "base", folder / "adapter", tmp_path / "out") < 1e-4


def test_a_folder_without_an_adapter_is_refused(tmp_path):
    with pytest.raises(DataError, match="kellet train-policy"):
        export(tiny.folder() / "base", tmp_path, tmp_path / "out")


def test_a_merge_that_changes_the_model_is_not_written(policy, tmp_path, monkeypatch):
    monkeypatch.setattr(stage, "TOLERANCE", -1.0)
    with pytest.raises(KelletError, match="moved a logit"):
        export(tiny.folder() / "base", policy[0], tmp_path / "out")
    assert not (tmp_path / "out").exists()
