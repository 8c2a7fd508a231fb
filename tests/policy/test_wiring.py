"""Right parts connected wrongly: what the controller, the loss, the clips and the rollout are given.

Each of these is a line that could be changed without an equation being wrong; benchmarks/mutants.py changes them.
"""

import pandas as pd
import pytest
import torch

from kellet.evaluation.evaluate import Models, evaluate
from kellet.models.devices import Devices
from kellet.models.heads import scalar_head
from kellet.models.sampling import draw_uniforms, sample
from kellet.models.trunk import REWARD, add_adapter, save_adapter, use_adapter
from kellet.policy import train as training_module
from kellet.policy import update as update_module
from kellet.policy.controller import FixedKLController
from kellet.policy.rollout import Sampled, score_rollout
from kellet.policy.state import Training
from kellet.policy.train import PPOModels, ppo
from kellet.policy.update import token_rewards, update
from kellet.reward.train import train_reward
from tests.helpers import tiny
from tests.helpers.policy import Likes, play
from tests.helpers.tiny import perturb

BETA = 0.37


class Recorder:
    """A controller that keeps what it is told."""

    def __init__(self):
        self.value, self.at_clip, self.told = BETA, None, []

    def update(self, current, n_steps):
        self.told.append((current, n_steps))


def test_the_controller_is_told_the_full_kl_of_the_batch(trunk, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(training_module, "build_controller", lambda _: recorder)
    history, _ = play(trunk, Likes(70), iterations=3, learning_rate=0.01)
    assert recorder.told == [(row["objective/kl"], 16) for row in history]
    assert all(abs(row["objective/kl"] - row["objective/kl_k1"]) > 1e-3 for row in history[1:])


@pytest.fixture
def scored(trunk):
    """(trunk, head, rollout) of a policy that has moved, whose answers have scores drawn at random."""
    model, tokenizer = trunk
    perturb(model, seed=4)
    head = scalar_head(16, 0)
    queries = [[1, 40 + number] for number in range(16)]
    batch = sample(model, tokenizer, queries, 10, draw_uniforms(16, 10, torch.Generator().manual_seed(1)))
    rollout = score_rollout(model, Likes(70), head, Sampled(batch))
    return trunk, head, rollout._replace(objective=torch.randn(16, generator=torch.Generator().manual_seed(2)))


def given(scored, monkeypatch, names, **policy):
    """What one update calls the functions ``names`` of kellet/policy/update.py with, by name; and the training."""
    (model, _), head, rollout = scored
    settings = tiny.config(policy={"minibatch_size": 16, "epochs": 1, **policy}).policy
    weights = [weight for weight in (*model.parameters(), *head.parameters()) if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.0)
    training = Training(model, head, optimizer, torch.Generator().manual_seed(0), FixedKLController(BETA), Devices())
    calls = {}

    def spied(name):
        real = getattr(update_module, name)

        def call(*arguments):
            calls.setdefault(name, []).append(arguments)
            return real(*arguments)

        return call

    for name in names:
        monkeypatch.setattr(update_module, name, spied(name))
    rewards = token_rewards(settings, rollout, BETA)
    update(settings, training, rollout, rewards, torch.ones(16, dtype=torch.bool))
    return calls, training, rewards


def advantages_by_hand(rewards, values, mask, gamma, lam):
    """Generalised advantage estimation as a double sum over the tokens of each response (Schulman et al. 2016)."""
    flat = []
    for reward, value, kept in zip(rewards, values, mask, strict=True):
        length = int(kept.sum())
        following = [*value[1:length].tolist(), 0.0]
        deltas = [float(reward[t]) + gamma * following[t] - float(value[t]) for t in range(length)]
        flat += [sum((gamma * lam) ** (k - t) * deltas[k] for k in range(t, length)) for t in range(length)]
    return torch.tensor(flat, dtype=torch.float64)


@pytest.mark.parametrize("penalty", ["reward", "loss_k2", "loss_full"])
def test_the_penalty_stands_in_the_reward_or_in_the_loss_and_there_over_sigma(scored, penalty, monkeypatch):
    rollout, mask = scored[2], scored[2].batch.response_mask
    calls, _, rewards = given(scored, monkeypatch, ["_steps"], kl={"penalty": penalty})
    (_, _, _, targets), settings = calls["_steps"][0], calls["_steps"][0][0]
    score_alone = torch.zeros(mask.shape)
    score_alone[torch.arange(16), mask.sum(1) - 1] = rollout.objective
    if penalty == "reward":
        assert targets.kl_weight == 0
        assert torch.allclose(rewards, score_alone - BETA * rollout.kl_k1 * mask, atol=1e-6)
        return
    assert torch.equal(rewards, score_alone)
    sigma = float(advantages_by_hand(rewards, rollout.values, mask, settings.gamma, settings.lam).std(correction=0))
    assert abs(sigma - 1) > 0.05  # else β over σ would be β
    assert targets.kl_weight == pytest.approx(BETA / sigma, rel=1e-4)


def test_the_value_loss_is_clipped_as_the_parameter_says(scored, monkeypatch):
    calls, *_ = given(scored, monkeypatch, ["value_loss"], value_clip_range=0.123)
    assert {arguments[4] for arguments in calls["value_loss"]} == {0.123}


def test_the_surrogate_is_clipped_as_the_parameter_says(scored, monkeypatch):
    calls, *_ = given(scored, monkeypatch, ["policy_loss"], clip_range=0.321)
    assert {arguments[4] for arguments in calls["policy_loss"]} == {0.321}


@pytest.mark.parametrize("norm", [1e-3, 1e6])
def test_the_gradient_of_a_step_has_at_most_the_norm_of_the_parameter(scored, norm, monkeypatch):
    _, training, _ = given(scored, monkeypatch, [], max_grad_norm=norm)
    weights = [weight for group in training.optimizer.param_groups for weight in group["params"]]
    found = float(torch.cat([weight.grad.flatten() for weight in weights if weight.grad is not None]).norm())
    assert found == pytest.approx(norm, rel=1e-3) if norm < 1 else 1e-3 < found < norm


def test_states_of_sampling_in_half_precision_are_not_used_again(scored):
    (model, _), head, rollout = scored
    rounded = torch.zeros(*rollout.batch.response_mask.shape, 16, dtype=torch.bfloat16)
    again = score_rollout(model, Likes(70), head, Sampled(rollout.batch, rounded))
    assert torch.allclose(again.logprobs, rollout.logprobs, atol=1e-5)
    whole = torch.zeros(rounded.shape)  # in float32 they are, which saves a pass
    used = score_rollout(model, Likes(70), head, Sampled(rollout.batch, whole))
    assert not torch.allclose(used.logprobs, again.logprobs)


def test_the_answers_are_the_policys_and_the_kl_is_from_the_base(trunk):
    """Trained with the adapter of another name loaded: neither sampling nor the reference may use it."""
    model, tokenizer = trunk
    with use_adapter(model, None):
        expected = sample(model, tokenizer, [[1, 40]], 10, draw_uniforms(1, 10, torch.Generator().manual_seed(0)))
    again = sample(model, tokenizer, [[1, 40]], 10, draw_uniforms(1, 10, torch.Generator().manual_seed(0)))
    assert torch.equal(again.input_ids, expected.input_ids)  # a fresh policy is the base, whatever REWARD is
    history = ppo(
        tiny.config(policy={"iterations": 1}), PPOModels(*trunk, Likes(70), scalar_head(16, 0)), ["a b c"] * 16
    )
    assert history[0]["objective/kl"] < 1e-5


def test_a_champion_answers_with_its_own_adapter(tmp_path):
    preferences, base = tiny.folder() / "preferences.parquet", tiny.folder() / "base"
    train_reward(tiny.config(), preferences, base, tmp_path / "reward")
    fresh = add_adapter(tiny.base()[0], tiny.config().policy.lora, 0)
    save_adapter(fresh, tmp_path / "still" / "adapter")
    save_adapter(perturb(fresh), tmp_path / "moved" / "adapter")
    models = Models(base, tmp_path / "reward", tmp_path / "moved", champion=tmp_path / "still")
    evaluate(tiny.config(), preferences, models, tmp_path / "out")
    kl = pd.read_parquet(tmp_path / "out/evaluation.parquet").groupby("system")["kl_nats"].max()
    assert kl["champion"] < 1e-5  # it has not moved
    assert kl["candidate"] > 0.1


def test_the_adapter_that_scores_is_not_trained(trunk):
    model, _ = trunk
    before = {name: weight.clone() for name, weight in model.named_parameters() if f".{REWARD}." in name}
    play(trunk, Likes(70), iterations=1)
    assert before
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters() if name in before)
