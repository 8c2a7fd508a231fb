"""What the tests of the policy share."""

import pytest

from kellet.config.training import Lora
from kellet.models.trunk import REWARD, add_adapter, load_adapter, save_adapter
from tests.helpers import tiny
from tests.helpers.tiny import perturb


@pytest.fixture
def trunk(tmp_path):
    """A trunk with a fresh policy and an adapter ``reward`` that is not the identity, and its tokenizer."""
    model, tokenizer = tiny.base()
    model = add_adapter(model, Lora(rank=2), 0)
    save_adapter(model, tmp_path / "reward")
    return perturb(load_adapter(model, tmp_path / "reward", REWARD), REWARD).eval(), tokenizer
