"""Laws of an update: micro-batches and padding do not matter, and it begins at the policy that sampled."""

import pytest
import torch
from torch.nn.functional import pad

from kellet.config.training import Lora
from kellet.models.devices import Devices
from kellet.models.heads import scalar_head
from kellet.models.sampling import draw_uniforms, sample, truncated
from kellet.models.tokens import encode_prompt
from kellet.models.trunk import POLICY, REWARD, add_adapter, load_adapter, save_adapter
from kellet.policy import update as ppo_update
from kellet.policy.controller import FixedKLController
from kellet.policy.ppo import policy_loss
from kellet.policy.rollout import Sampled, score_rollout
from kellet.policy.state import Training
from kellet.policy.train import PPOModels, ppo
from kellet.policy.update import token_rewards, update
from tests.helpers import tiny
from tests.helpers.policy import Likes
from tests.helpers.tensors import response_outputs
from tests.helpers.tiny import perturb

ROWS = 12
STILL = {"epochs": 1, "batch_size": ROWS, "minibatch_size": ROWS, "max_grad_norm": 1e9, "stop_kl": 1e9}


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    """A policy that is not the reference, its tokenizer, and a value head."""
    model, tokenizer = tiny.base()
    model = add_adapter(model, Lora(rank=2), 0)
    folder = tmp_path_factory.mktemp("adapter")
    save_adapter(model, folder)
    load_adapter(model, folder, REWARD)
    perturb(model, POLICY)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if f"lora_B.{POLICY}." in name:
                weight *= 0.3  # so near the reference that its answers end
    return model.eval(), tokenizer, scalar_head(16, 0)


@pytest.fixture(scope="module")
def rollout(trunk):
    model, tokenizer, head = trunk
    prompts = tiny.pairs()["prompt"][:ROWS]
    queries = [
        encode_prompt(tokenizer, prompt[-9:] if n % 3 else prompt, tiny.config().text)
        for n, prompt in enumerate(prompts)
    ]
    batch = sample(model, tokenizer, queries, 10, draw_uniforms(len(queries), 10, torch.Generator().manual_seed(1)))
    lengths = batch.response_mask.sum(1)
    assert lengths.min() < lengths.max()
    scored = score_rollout(model, Likes(70), head, Sampled(batch))
    return scored._replace(objective=torch.randn(ROWS, generator=torch.Generator().manual_seed(2)))


def step(trunk, rollout, **policy):
    """(metrics, gradients) of one update whose learning rate is zero."""
    model, _, head = trunk
    weights = [weight for weight in (*model.parameters(), *head.parameters()) if weight.requires_grad]
    settings = tiny.config(policy={**STILL, **policy}).policy
    metrics = updated(settings, trunk, rollout, torch.optim.SGD(weights, lr=0.0))
    return metrics, [weight.grad.clone() for weight in weights]


def updated(settings, trunk, rollout, optimizer):
    """The metrics of one update with β 0.1."""
    model, tokenizer, head = trunk
    generator = torch.Generator().manual_seed(0)
    training = Training(model, head, optimizer, generator, FixedKLController(0.1), Devices())
    ended = ~truncated(rollout.batch, (tokenizer.eos_token_id,))
    return update(settings, training, rollout, token_rewards(settings, rollout, 0.1), ended)


def distance(left, right):
    """Euclidean, relative to the norm of ``right``."""
    left, right = (torch.cat([part.flatten() for part in gradients]) for gradients in (left, right))
    return float((left - right).norm() / right.norm())


@pytest.mark.parametrize("penalty", ["reward", "loss_full", "loss_k2"])
def test_micro_batches_add_up_to_the_gradient_of_the_whole(trunk, rollout, penalty):
    metrics, whole = step(trunk, rollout, kl={"penalty": penalty})
    assert sum(float(gradient.abs().sum()) for gradient in whole) > 1e-3
    for size in (1, 5):
        parts, gradients = step(trunk, rollout, kl={"penalty": penalty}, micro_batch_size=size)
        assert distance(gradients, whole) < 1e-5
        for name in ("ppo/policy/loss", "ppo/value/loss", "ppo/policy/kl_update", "ppo/grad_norm"):
            # sums of float32 (about 1e-7 of their size each) in another order, over thousands of terms
            assert parts[name] == pytest.approx(metrics[name], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(("left", "right"), [(0, 6), (7, 0), (3, 4)])
def test_padding_does_not_change_the_update(trunk, rollout, left, right, monkeypatch):
    def untrimmed(batch, index):
        return batch._replace(**{name: getattr(batch, name)[index] for name in batch._fields})

    metrics, gradients = step(trunk, rollout)
    batch = rollout.batch
    wider = batch._replace(
        input_ids=pad(batch.input_ids, (left, right), value=3),
        attention_mask=pad(batch.attention_mask, (left, right)),
        response_mask=pad(batch.response_mask, (0, right)),
    )
    unpadded = ("raw_scores", "objective", "batch", "states")
    padded = rollout._replace(
        states=pad(rollout.states, (0, 0, 0, right), value=5.0),
        **{
            name: pad(value, (0, right), value=5.0) for name, value in rollout._asdict().items() if name not in unpadded
        },
    )
    monkeypatch.setattr(type(batch), "rows", untrimmed)
    again, same = step(trunk, padded._replace(batch=wider))
    assert distance(same, gradients) < 1e-5
    compared = [name for name, value in metrics.items() if value is not None]
    expected = [metrics[name] for name in compared]
    assert [again[name] for name in compared] == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_every_ratio_of_the_first_epoch_is_one_while_nothing_moves(trunk, rollout, monkeypatch):
    ratios = []

    def spied(logprobs, old_logprobs, advantages, response_mask, clip_range):
        ratios.append((logprobs - old_logprobs).exp()[response_mask].detach())
        return policy_loss(logprobs, old_logprobs, advantages, response_mask, clip_range)

    monkeypatch.setattr(ppo_update, "policy_loss", spied)
    step(trunk, rollout, minibatch_size=4, micro_batch_size=3)
    assert sum(len(part) for part in ratios) == rollout.batch.response_mask.sum()
    assert float((torch.cat(ratios) - 1).abs().max()) < 1e-4


def test_kl_of_the_update_is_zero_until_the_policy_moves_and_then_its_full_kl(trunk, rollout):
    model = trunk[0]
    assert step(trunk, rollout)[0]["ppo/policy/kl_update"] == pytest.approx(0, abs=1e-6)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters() if weight.requires_grad}
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=3.0)
    settings = tiny.config(policy={**STILL, "max_grad_norm": 1.0}).policy
    metrics = updated(settings, trunk, rollout, optimizer)
    with torch.no_grad():
        new = response_outputs(model, rollout.batch)[0].log_softmax(-1)
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                weight.copy_(before[name])
        old = response_outputs(model, rollout.batch)[0].log_softmax(-1)
    exact = torch.nn.functional.kl_div(new, old, reduction="none", log_target=True).sum(-1)
    exact = float((exact * rollout.batch.response_mask).sum(1).mean())
    assert exact > 0.02
    assert metrics["ppo/policy/kl_update"] == pytest.approx(exact, rel=1e-3)


def fresh(tmp_path):
    model, tokenizer = tiny.base()
    model = add_adapter(model, Lora(rank=2), 0)
    save_adapter(model, tmp_path / "reward")
    return load_adapter(model, tmp_path / "reward", REWARD).eval(), tokenizer, scalar_head(16, 0)


def test_in_critic_warm_up_only_the_value_head_learns(tmp_path):
    model, tokenizer, head = fresh(tmp_path)
    policy = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    value = head.weight.detach().clone()
    config = tiny.config(policy={"iterations": 2, "critic_warmup": 2})
    history = ppo(config, PPOModels(model, tokenizer, Likes(70), head), list(tiny.pairs()["prompt"][:32]))
    assert all(torch.equal(weight, policy[name]) for name, weight in model.named_parameters())
    assert not torch.equal(head.weight, value)
    assert [row["objective/kl_coef"] for row in history] == [config.policy.kl.init_coef] * 2
    config = tiny.config(policy={"iterations": 3, "critic_warmup": 2})
    ppo(config, PPOModels(model, tokenizer, Likes(70), head), list(tiny.pairs()["prompt"][:32]))
    assert not all(torch.equal(weight, policy[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize("penalty", ["reward", "loss_full", "loss_k2"])
def test_each_penalty_pulls_a_policy_back_to_its_reference(tmp_path, penalty):
    model, tokenizer, head = fresh(tmp_path)
    perturb(model, POLICY)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if f"lora_B.{POLICY}." in name:
                weight *= 0.1  # a few nats from the reference, not dozens
    settings = {
        "iterations": 6,
        "batch_size": 32,
        "learning_rate": 0.003,
        "stop_kl": 1.0,
        "kl": {"controller": "fixed", "init_coef": 3.0, "penalty": penalty},
    }
    nothing = lambda batch: torch.zeros(len(batch.input_ids))  # noqa: E731
    history = ppo(
        tiny.config(policy=settings), PPOModels(model, tokenizer, nothing, head), list(tiny.pairs()["prompt"][:32])
    )
    drift = [row["objective/kl"] for row in history]
    assert sum(drift[-3:]) / 3 < 0.5 * drift[0]
