"""The temperature is part of the policy: softmax(logits/T) wherever it is sampled, scored or compared."""

import json

import pytest
import torch
from scipy.stats import chisquare

from kellet.config.training import Lora
from kellet.models.export import export
from kellet.models.heads import scalar_head
from kellet.models.next_token import logprobs_of, policy_vs_reference
from kellet.models.sampling import draw_uniforms, generate_text, load_policy, sample
from kellet.models.tokens import encode_prompt, pad
from kellet.models.trunk import REWARD, add_adapter, load_adapter, load_base, response_states, save_adapter, use_adapter
from kellet.policy.train import PPOModels, ppo
from tests.helpers import tiny
from tests.helpers.policy import Likes
from tests.helpers.tiny import QUERIES, RESPONSES, perturb

T = 0.5


@pytest.fixture
def trunk(tmp_path):
    """A policy that is not the reference, at temperature T, and its tokenizer."""
    model, tokenizer = load_base(tiny.folder() / "base", temperature=T)
    model = add_adapter(model, Lora(rank=2), 0)
    save_adapter(model, tmp_path / "reward")
    load_adapter(model, tmp_path / "reward", REWARD)
    return perturb(model).eval(), tokenizer


def textbook(model, batch):
    """The next-token distributions at temperature T, (B, R) of them."""
    logits = model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), position_ids=batch.position_ids
    ).logits
    return torch.distributions.Categorical(logits=logits[:, -batch.response_mask.shape[1] - 1 : -1] / T)


@torch.no_grad()
def test_log_probabilities_and_kl_are_those_of_the_sharpened_distributions(trunk):
    model, batch = trunk[0], pad(QUERIES, RESPONSES, 0)
    states, policy = response_states(model, batch), textbook(model, batch)
    with use_adapter(model, None):
        measured = policy_vs_reference(model, states, response_states(model, batch), batch)
        reference = textbook(model, batch)
    mask = batch.response_mask
    wanted = policy.log_prob(batch.responses) * mask
    assert torch.allclose(measured.logprobs, wanted, atol=1e-4)
    assert torch.allclose(logprobs_of(model, states, batch), wanted, atol=1e-4)
    assert torch.allclose(measured.entropy, policy.entropy() * mask, atol=1e-4)
    distance = torch.distributions.kl_divergence(policy, reference) * mask
    assert torch.allclose(measured.kl_full, distance, atol=1e-4)
    assert float(distance.max()) > 0.01


@torch.no_grad()
def test_tokens_are_drawn_from_the_sharpened_distribution(trunk):
    model, tokenizer = trunk
    query, draws = encode_prompt(tokenizer, tiny.pairs()["prompt"][0], tiny.config().text), 4000
    uniforms = draw_uniforms(draws, 1, torch.Generator().manual_seed(0))
    batch = sample(model, tokenizer, [query] * draws, 1, uniforms)
    counts = torch.bincount(batch.responses[:, 0], minlength=1).double()
    expected = textbook(model, pad([query], [[0]], 0)).probs[0, 0].double()
    expected /= expected.sum()
    counts = torch.nn.functional.pad(counts, (0, len(expected) - len(counts)))
    often = expected * draws >= 5  # where the approximation by a chi-squared holds
    seen = [*counts[often].tolist(), float(counts[~often].sum())]
    wanted = [*(expected[often] * draws).tolist(), float(expected[~often].sum() * draws)]
    assert len(seen) >= 3
    assert chisquare(seen, wanted).pvalue > 1e-3


def test_the_first_step_of_ppo_begins_where_the_sample_was_drawn(trunk):
    config = tiny.config(policy={"iterations": 1, "epochs": 1, "batch_size": 16, "minibatch_size": 16})
    history = ppo(config, PPOModels(*trunk, Likes(70), scalar_head(16, 0)), list(tiny.pairs()["prompt"][:32]))
    assert history[0]["ppo/policy/approxkl"] == pytest.approx(0, abs=1e-6)  # every ratio is one
    assert history[0]["objective/kl"] > 1e-3


def test_near_zero_it_is_the_greedy_answer(tmp_path):
    """The limit T -> 0 is argmax, whatever the seed; that is how a folder's temperature is seen to arrive."""
    model = perturb(add_adapter(tiny.base()[0], Lora(rank=2), 0)).eval()
    save_adapter(model, tmp_path / "policy" / "adapter")
    prompts, text = list(tiny.pairs()["prompt"][:6]), tiny.config().text
    cold = load_policy(tiny.folder() / "base", tmp_path / "policy" / "adapter", temperature=0.01)
    warm = load_policy(tiny.folder() / "base", tmp_path / "policy" / "adapter")
    greedy = generate_text(*warm, prompts, text, seed=None)
    assert generate_text(*cold, prompts, text, seed=1) == greedy
    assert generate_text(*warm, prompts, text, seed=1) != greedy


def test_an_exported_folder_samples_at_it(tmp_path):
    save_adapter(add_adapter(tiny.base()[0], Lora(rank=2), 0), tmp_path / "policy" / "adapter")
    export(tiny.folder() / "base", tmp_path / "policy", tmp_path / "out", temperature=T)
    settings = json.loads((tmp_path / "out" / "generation_config.json").read_text(encoding="utf-8"))
    assert (settings["do_sample"], settings["temperature"], settings["top_k"]) == (True, T, 0)
