"""PPO ends at the optimal policy, which is known: π*(y) ∝ π_ref(y) exp(r(y)/β) (Ziegler et al. 2019, section 2).

The language model is small enough to write down: a query, then none, one or two of three words, whose logits depend on
the token before by a table. It can represent every distribution over its 13 answers of at most two tokens.
"""

import contextlib
import itertools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kellet.policy.train import PPOModels, ppo
from tests.helpers import tiny

PAD, QUERY, EOS, WORDS = 0, 1, 2, (3, 4, 5)
VOCABULARY = 6
ANSWERS = [(EOS,), *((word, EOS) for word in WORDS), *itertools.product(WORDS, WORDS)]
REWARDS = torch.tensor([0.0, 1.5, -1.0, 0.5, -0.5, 2.0, 0.0, 1.0, -2.0, 0.5, 1.0, -1.0, 2.5])
TOLERANCE = 0.03
"""Total variation from π*; that of the reference is at least eight times as large for every β here."""


class Decoder(nn.Module):
    """Its final states are the logits, followed by the last token as one-hot vector, for the value head."""

    def __init__(self, owner):
        super().__init__()
        self.owner = (owner,)  # in a tuple, so that it does not become a submodule

    def forward(self, input_ids, **_):
        (owner,) = self.owner
        logits = owner.table[input_ids] + (owner.adapter[input_ids] if owner.on else 0.0)
        states = torch.cat([logits, nn.functional.one_hot(input_ids, VOCABULARY)], dim=-1)
        cache = SimpleNamespace(reorder_cache=lambda _: None)  # a token depends on the one before only
        return SimpleNamespace(last_hidden_state=states, past_key_values=cache)


class ValueHead(nn.Linear):
    """Reads the token and not the logits, so that learning values does not change the policy."""

    def forward(self, states):
        return super().forward(states[..., VOCABULARY:])


class TableLM(nn.Module):
    """As much of a trunk as the trainer uses: ``table`` is the reference, ``adapter`` the difference from it."""

    def __init__(self):
        super().__init__()
        table = torch.randn(VOCABULARY, VOCABULARY, generator=torch.Generator().manual_seed(1))
        table[:, [PAD, QUERY]] = -30.0
        self.register_buffer("table", table)
        self.adapter = nn.Parameter(torch.zeros(VOCABULARY, VOCABULARY))
        self.active_adapter, self.on = "default", True
        self.decoder = Decoder(self)

    def get_decoder(self):
        return self.decoder

    def get_output_embeddings(self):
        return SimpleNamespace(weight=self.table)

    def forward(self, **inputs):
        return SimpleNamespace(logits=self.decoder(**inputs).last_hidden_state[..., :VOCABULARY])

    def set_adapter(self, name):
        self.active_adapter = name

    @contextlib.contextmanager
    def disable_adapter(self):
        self.on = False
        yield
        self.on = True

    @torch.no_grad()
    def probabilities(self):
        """(13,) of the answers."""
        log_p = (self.table + (self.adapter if self.on else 0.0)).log_softmax(-1)
        steps = [itertools.pairwise((QUERY, *answer)) for answer in ANSWERS]
        return torch.tensor([sum(float(log_p[before, token]) for before, token in step) for step in steps]).exp()


class Tokenizer:
    pad_token_id, bos_token_id, eos_token_id = PAD, QUERY, EOS

    def __call__(self, *_, add_special_tokens=True, **__):
        return {"input_ids": [QUERY] if add_special_tokens else []}


def rewards_of(batch):
    answers = [tuple(ids[mask].tolist()) for ids, mask in zip(batch.responses, batch.response_mask, strict=True)]
    return torch.stack([REWARDS[ANSWERS.index(answer)] for answer in answers])


def distance(left, right):
    """Total variation."""
    return float((left - right).abs().sum() / 2)


def trained(coefficient, **policy):
    model = TableLM()
    settings = {
        "iterations": 120,
        "batch_size": 256,
        "minibatch_size": 256,
        "learning_rate": 0.03,
        "kl": {"controller": "fixed", "init_coef": coefficient},
        **policy,
    }
    config = tiny.config(text={"max_response_tokens": 2, "prompt_template": "{prompt}"}, policy=settings)
    ppo(config, PPOModels(model, Tokenizer(), rewards_of, ValueHead(VOCABULARY, 1)), [""] * 256)
    return model


@pytest.mark.parametrize("coefficient", [0.5, 1.0, 2.0])
def test_ppo_ends_at_the_best_policy(coefficient):
    model = trained(coefficient)
    reference = TableLM().probabilities()
    assert float(reference.sum()) == pytest.approx(1, abs=1e-5)
    best = (reference.log() + REWARDS / coefficient).softmax(0)
    assert distance(reference, best) > 8 * TOLERANCE
    assert distance(model.probabilities(), best) < TOLERANCE
