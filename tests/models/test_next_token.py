"""Numbers read off the next-token distributions chunk by chunk, against torch's own functions on all logits."""

import pytest
import torch

from kellet.config.training import Lora
from kellet.models import next_token
from kellet.models.next_token import logprobs_and_kl, logprobs_of, policy_vs_reference
from kellet.models.tokens import pad
from kellet.models.trunk import add_adapter, logits_of, response_states, use_adapter
from tests.helpers import tiny
from tests.helpers.tensors import relative_error
from tests.helpers.tiny import QUERIES, RESPONSES, perturb


@pytest.fixture(scope="module")
def model():
    return perturb(add_adapter(tiny.base()[0], Lora(rank=2), seed=0).eval())


@pytest.fixture
def batch():
    return pad(QUERIES, RESPONSES, 0)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(next_token, "CHUNK", 1)
    monkeypatch.setattr(next_token, "CHUNK_TOKENS", 4)  # 10 tokens count: chunks of 4, 4 and 2


def textbook(model, batch):
    """(logits, reference's log-probabilities) at once, (B, R, V)."""
    logits = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), position_ids=batch.position_ids
    ).logits
    return logits[:, -batch.response_mask.shape[1] - 1 : -1]


@torch.no_grad()
def test_what_is_compared_is_what_torch_finds_on_all_logits(model, batch):
    mask = batch.response_mask
    policy = torch.distributions.Categorical(logits=textbook(model, batch))
    states = response_states(model, batch)
    with use_adapter(model, None):
        reference = torch.distributions.Categorical(logits=textbook(model, batch))
        result = policy_vs_reference(model, states, response_states(model, batch), batch)
    expected = {
        "logprobs": policy.log_prob(batch.responses),
        "ref_logprobs": reference.log_prob(batch.responses),
        "entropy": policy.entropy(),
        "kl_full": torch.distributions.kl_divergence(policy, reference),
    }
    for name, values in expected.items():
        assert relative_error(getattr(result, name), values * mask) < 1e-5, name
    assert float(result.kl_full.max()) > 0.1


def test_gradients_are_those_of_all_logits_at_once(model, batch):
    mask = batch.response_mask
    generator = torch.Generator().manual_seed(0)
    weights, others = (torch.randn(mask.shape, generator=generator) * mask for _ in range(2))
    with torch.no_grad(), use_adapter(model, None):
        ref_states, log_q = response_states(model, batch), textbook(model, batch).log_softmax(-1)
    states = response_states(model, batch).detach().requires_grad_()
    log_p = logits_of(model, states.flatten(0, 1)).unflatten(0, mask.shape).log_softmax(-1)
    picked = log_p.gather(-1, batch.responses[..., None]).squeeze(-1)
    full = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    alone = torch.autograd.grad((picked * weights).sum(), states, retain_graph=True)[0]
    both = torch.autograd.grad((picked * weights + full * others).sum(), states)[0]
    result = logprobs_of(model, states, batch)
    assert relative_error(torch.autograd.grad((result * weights).sum(), states)[0], alone) < 1e-5
    logprobs, kl_full = logprobs_and_kl(model, states, ref_states, batch)
    gradient = torch.autograd.grad((logprobs * weights + kl_full * others).sum(), states)[0]
    assert relative_error(gradient, both) < 1e-5
    assert float(both.abs().max()) > 0.1


def test_no_tensor_of_the_vocabularys_size_is_kept_for_the_backward_pass(model, batch):
    weights_storage = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept = []

    def note(tensor):
        if tensor.untyped_storage().data_ptr() not in weights_storage:
            kept.append(tensor.shape)
        return tensor

    states = response_states(model, batch)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        logprobs_of(model, states, batch).sum().backward()
    vocabulary = model.get_output_embeddings().weight.shape[0]
    assert kept
    # no more than a chunk's own, which goes with it
    assert max(shape.numel() for shape in kept if shape and shape[-1] == vocabulary) == 4 * vocabulary


def test_a_token_that_the_model_closes_with_minus_infinity_takes_no_part(model, batch, monkeypatch):
    """The same numbers as without that token in the vocabulary, and a finite gradient."""
    closed = next(token for token in range(200) if token not in batch.responses)
    logits = next_token.logits_of

    def closing(model, states):
        return logits(model, states).index_fill(-1, torch.tensor([closed]), float("-inf"))

    monkeypatch.setattr(next_token, "logits_of", closing)
    kept = [token for token in range(textbook(model, batch).shape[-1]) if token != closed]
    mask = batch.response_mask
    with torch.no_grad():
        policy = torch.distributions.Categorical(logits=textbook(model, batch)[..., kept])
        states = response_states(model, batch)
        with use_adapter(model, None):
            reference = torch.distributions.Categorical(logits=textbook(model, batch)[..., kept])
            ref_states = response_states(model, batch)
        result = policy_vs_reference(model, states, ref_states, batch)
    assert relative_error(result.entropy, policy.entropy() * mask) < 1e-5
    assert relative_error(result.kl_full, torch.distributions.kl_divergence(policy, reference) * mask) < 1e-5
    states = states.requires_grad_()
    logprobs, kl_full = logprobs_and_kl(model, states, ref_states, batch)
    gradient = torch.autograd.grad(logprobs.sum() + kl_full.sum(), states)[0]
    assert gradient.isfinite().all()
    assert float(gradient.abs().max()) > 0
