"""PPO on a tiny model: its history, what it learns, and that it changes nothing but the policy."""

import itertools
import json

import pandas as pd
import pytest
import torch

from kellet.config.training import Lora
from kellet.errors import DataError, InputError, KelletError
from kellet.files import content_hash
from kellet.models.checkpoint import Checkpoints
from kellet.models.heads import scalar_head
from kellet.models.sampling import sample
from kellet.models.trunk import POLICY, REWARD, add_adapter, last_hidden, load_adapter, save_adapter, use_adapter
from kellet.policy import rollout
from kellet.policy import train as module
from kellet.policy import update as ppo_update
from kellet.policy.ppo import policy_loss
from kellet.policy.rollout import Sampled, score_rollout
from kellet.policy.train import PPOModels, ppo, train_policy
from kellet.reward.model import Member, Scorer
from kellet.reward.train import train_reward
from tests.helpers import tiny
from tests.helpers.policy import Likes, play
from tests.helpers.tensors import response_outputs
from tests.helpers.tiny import perturb

KEYS = {
    "iteration",
    "episodes",
    *(
        "objective/reward",
        "objective/score",
        "objective/kl",
        "objective/kl_per_token",
        "objective/kl_k1",
        "objective/kl_coef",
    ),
    *("objective/kl_target", "objective/score_with_kl", "objective/entropy", "objective/reward_std"),
    *("objective/kl_p95", "objective/kl_k3", "objective/kl_top_decile_share", "objective/kl_penalty_share"),
    *("objective/kl_coef_at_clip", "tokens/response_mean", "tokens/truncated_share", "tokens/prompts_cut_share"),
    *("tokens/stop_hazard/early", "tokens/stop_hazard/middle", "tokens/stop_hazard/late"),
    *("ppo/policy/kl_update", "ppo/policy/clipfrac_positive", "ppo/policy/clipfrac_negative"),
    *("ppo/advantage/eos", "ppo/advantage/other"),
    *("ppo/policy/loss", "ppo/policy/clipfrac", "ppo/policy/approxkl", "ppo/value/loss"),
    *("objective/kl_floor", "ppo/policy/approxkl_first"),
    "ppo/policy/kl_at_stop",
    *("ppo/value/explained_variance", "ppo/advantage_mean", "ppo/advantage_std", "ppo/epochs", "ppo/grad_norm"),
    *("time/sample_s", "time/score_s", "time/update_s"),
}


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory):
    out = tmp_path_factory.mktemp("reward") / "model"
    train_reward(tiny.config(), tiny.folder() / "preferences.parquet", tiny.folder() / "base", out)
    return out


def train(reward_model, out, **sections):
    train_policy(
        tiny.config(**sections), tiny.folder() / "preferences.parquet", tiny.folder() / "base", reward_model, out
    )
    return [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def trained(reward_model, tmp_path_factory):
    out = tmp_path_factory.mktemp("policy") / "out"
    return out, train(reward_model, out)


def test_history_has_every_key_of_every_iteration(trained):
    _, history = trained
    assert [set(row) for row in history] == [KEYS, KEYS]
    assert [(row["iteration"], row["episodes"]) for row in history] == [(1, 16), (2, 32)]
    assert all(row["objective/kl_target"] == 3.0 for row in history)
    # None is right where KL is 0, so that no token has a share of it, and where no response is long enough to stop
    empty = {name for row in history for name, value in row.items() if value is None}
    assert empty <= {
        "objective/kl_floor",  # float32
        "objective/kl_top_decile_share",
        "tokens/stop_hazard/middle",
        "tokens/stop_hazard/late",
        "ppo/policy/kl_at_stop",  # no step was skipped
    }
    assert all(value is None or isinstance(value, int | float) for row in history for value in row.values())


def test_before_the_first_update_the_policy_is_the_reference(trained):
    first, second = trained[1]
    assert [first["objective/kl"], first["objective/kl_k1"]] == pytest.approx([0, 0], abs=1e-5)
    assert first["objective/score_with_kl"] == pytest.approx(first["objective/reward"], abs=1e-5)
    assert second["objective/kl"] > 1e-4


def test_the_folder_holds_what_is_needed_later(trained):
    out, _ = trained
    assert {file.name for file in out.iterdir()} == {
        "adapter",
        "value_head.safetensors",
        "history.jsonl",
        "samples.jsonl",
        "manifest.json",
    }
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    table = tiny.pairs()
    assert [row["prompt"] for row in samples] == list(table[table["split"] == "train"]["prompt"])[:32]
    assert all(isinstance(row["response"], str) for row in samples)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(trained, reward_model, tmp_path):
    again, other = train(reward_model, tmp_path / "again"), train(reward_model, tmp_path / "other", seed=1)
    for part in ("adapter", "value_head.safetensors", "samples.jsonl"):
        assert content_hash(tmp_path / "again" / part) == content_hash(trained[0] / part)
    assert content_hash(tmp_path / "other" / "adapter") != content_hash(trained[0] / "adapter")

    def untimed(rows):
        return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in rows]

    assert untimed(again) == untimed(trained[1]) != untimed(other)


def test_the_policy_is_trained_at_its_temperature(trained, reward_model, tmp_path):
    cold = train(reward_model, tmp_path / "out", text={"temperature": 0.01}, policy={"iterations": 1})
    # a hundred times the logits: what entropy is left is of near ties; both are from before any update
    assert cold[0]["objective/entropy"] < 0.5 * trained[1][0]["objective/entropy"]


@pytest.mark.parametrize(("horizon", "warned"), [(1e6, True), (16.0, False)])
def test_a_controller_that_can_hardly_move_is_told(reward_model, tmp_path, caplog, horizon, warned):
    kl = {"controller": "dual", "horizon": horizon}  # two iterations of 16 responses: β may rise to e^(32/horizon)
    train(reward_model, tmp_path / "out", policy={"kl": kl})
    assert ("β can rise to at most 1.0 times policy.kl.init_coef in 2 iterations" in caplog.text) == warned


def test_too_few_prompts_are_refused_and_nothing_is_written(reward_model, tmp_path):
    with pytest.raises(DataError, match=r"64 training prompts, policy\.batch_size is 80"):
        train(reward_model, tmp_path / "out", policy={"batch_size": 80, "minibatch_size": 8})
    assert not (tmp_path / "out").exists()


def test_a_score_that_is_easy_to_raise_is_raised(trunk):
    token = trunk[1]("yes", add_special_tokens=False)["input_ids"][0]
    easy = {"iterations": 12, "batch_size": 64, "minibatch_size": 32, "learning_rate": 0.005}
    history, _ = play(trunk, Likes(token), **easy, kl={"controller": "fixed", "init_coef": 0.001})
    rewards = [
        row["objective/reward"] for row in history
    ]  # a mean of 64 answers has a standard deviation of about 0.35
    assert sum(rewards[-4:]) / 4 > sum(rewards[:2]) / 2 + 0.4
    assert history[-1]["objective/kl"] > history[0]["objective/kl"]


def test_a_large_coefficient_holds_the_policy_near_the_reference(tmp_path):
    drift = []
    for number, coefficient in enumerate((0.001, 30.0)):
        model, tokenizer = tiny.base()
        model = add_adapter(model, Lora(rank=2), 0)
        save_adapter(model, tmp_path / f"{number}")
        load_adapter(model, tmp_path / f"{number}", REWARD)
        settings = {"iterations": 8, "learning_rate": 0.01, "kl": {"controller": "fixed", "init_coef": coefficient}}
        history, _ = play((model.eval(), tokenizer), Likes(70), **settings)
        drift.append(history[-1]["objective/kl"])
    assert drift[1] < 0.5 * drift[0]


def test_a_fixed_coefficient_stays_and_an_adaptive_one_follows_the_kl(trunk):
    fixed, _ = play(trunk, Likes(70), iterations=3, kl={"controller": "fixed", "init_coef": 0.3})
    assert [row["objective/kl_coef"] for row in fixed] == [0.3] * 3
    assert all(row["objective/kl_target"] is None for row in fixed)
    # KL is far below the target of 1000 nats, so every step of 16 responses multiplies by 1 - 0.2·16/32
    adaptive, _ = play(
        trunk, Likes(70), iterations=3, kl={"controller": "adaptive", "init_coef": 0.4, "target": 1000, "horizon": 32}
    )
    assert [row["objective/kl_coef"] for row in adaptive] == pytest.approx([0.4, 0.36, 0.324])


def test_training_moves_the_policy_and_nothing_else(trunk):
    model = trunk[0]
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    play(trunk, Likes(70))
    moved = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert moved
    assert all("lora_" in name and f".{POLICY}." in name for name in moved)


def test_scores_come_from_the_reward_adapter_and_kl_from_the_base(trunk):
    model, tokenizer = trunk
    perturb(model, POLICY, seed=3)
    head = scalar_head(16, 1)
    scorer = Scorer(model, [Member(head, REWARD)], tokenizer.eos_token_id)
    uniforms = module.draw_uniforms(2, 6, torch.Generator().manual_seed(0))
    batch = sample(model, tokenizer, [[1, 40], [1, 41, 42]], 6, uniforms)
    rollout = score_rollout(model, scorer, scalar_head(16, 0), Sampled(batch))
    with torch.no_grad(), use_adapter(model, REWARD):
        scores = head(last_hidden(model, batch.closed(tokenizer.eos_token_id))).squeeze(-1)
    assert torch.equal(rollout.raw_scores, scores)
    assert model.active_adapter == POLICY
    with torch.no_grad():
        base = tiny.base()[0]
        log_q = response_outputs(base, batch)[0].log_softmax(-1)
        log_p = response_outputs(model, batch)[0].log_softmax(-1)
    # the textbook's KL, by torch's function (its arguments are in the other order)
    expected = torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    assert torch.allclose(rollout.kl_full, expected * batch.response_mask, atol=1e-5)
    assert float(rollout.kl_full.max()) > 0.01
    entropy = torch.distributions.Categorical(logits=log_p).entropy()
    assert torch.allclose(rollout.entropy, entropy * batch.response_mask, atol=1e-4)


def test_updates_begin_at_the_policy_that_sampled(trunk, monkeypatch):
    losses = []

    def spied(*arguments):
        surrogate = policy_loss(*arguments)
        losses.append((float(surrogate.approxkl), float(surrogate.clipfrac)))
        return surrogate

    monkeypatch.setattr(ppo_update, "policy_loss", spied)
    play(trunk, Likes(70), iterations=1, epochs=2)
    assert len(losses) == 4  # two epochs of two minibatches
    assert losses[0] == (pytest.approx(0, abs=1e-6), 0)
    assert losses[-1][0] > 1e-6


def test_a_step_is_skipped_when_the_update_has_gone_far(trunk):
    whole = {"batch_size": 16, "minibatch_size": 16, "epochs": 2}
    bold, _ = play(trunk, Likes(70), iterations=1, learning_rate=0.3, stop_kl=1e-6, **whole)
    assert bold[0]["ppo/epochs"] == 1  # the second pass is the first step that can see how far the first one went
    assert bold[0]["ppo/policy/kl_at_stop"] > 1e-6
    calm, _ = play(trunk, Likes(70), iterations=1, epochs=6, learning_rate=1e-6, stop_kl=0.01)
    assert calm[0]["ppo/epochs"] == 6
    assert calm[0]["ppo/policy/kl_at_stop"] is None


def test_the_limit_of_an_update_is_in_nats_per_response_and_follows_the_target():
    assert tiny.config(policy={"kl": {"target": 5.0}}).policy.largest_step == 2.5
    assert tiny.config(policy={"kl": {"target": 5.0}, "stop_kl": 0.7}).policy.largest_step == 0.7


def test_the_measured_distance_is_of_a_response_not_of_a_token(trunk, monkeypatch):
    seen = []

    def spied(settings, training, rollout, targets, rows):
        metrics = gradient(settings, training, rollout, targets, rows)
        mask = rollout.batch.response_mask[rows]
        seen.append((metrics["ppo/policy/approxkl"], float(mask.sum()) / len(rows)))
        return metrics

    gradient = ppo_update._gradient
    monkeypatch.setattr(ppo_update, "_gradient", spied)
    (row,), _ = play(trunk, Likes(70), iterations=1, epochs=6, learning_rate=0.05, stop_kl=1e-3)
    per_token, tokens = seen[-1]
    assert tokens > 2
    assert row["ppo/policy/kl_at_stop"] == pytest.approx(per_token * tokens)


class Broken:
    """A stub of a scorer: 1 for each answer, but in call ``call`` one that is ``value``."""

    def __init__(self, call, value):
        self.call, self.value, self.calls = call, value, 0

    def __call__(self, batch):
        self.calls += 1
        scores = torch.ones(len(batch.responses)) * batch.response_mask.sum(1)
        if self.calls == self.call:
            scores[3] = self.value
        return scores


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_not_finite_is_refused_with_its_prompt_and_changes_no_weight(trunk, value, tmp_path):
    model, _ = trunk
    checkpoints = Checkpoints(tmp_path / "policy", {})
    config = tiny.config(policy={"iterations": 4, "checkpoint_every": 1})
    prompts = list(tiny.pairs()["prompt"][:32])
    models = PPOModels(*trunk, Broken(3, value), scalar_head(16, 0))
    with pytest.raises(InputError, match="scores 1 of 16 answers as no finite number") as raised:
        ppo(config, models, prompts, checkpoints=checkpoints)
    assert any(repr(prompt[:20])[:-1] in str(raised.value) for prompt in prompts)
    weights = {name: weight for name, weight in model.named_parameters() if f".{POLICY}." in name}
    assert weights
    assert all(weight.isfinite().all() for weight in weights.values())
    # what was saved is the state after two good iterations, and a mended scorer goes on from it
    assert checkpoints.newest().step == 2
    mended = PPOModels(*trunk, Broken(0, 0.0), scalar_head(16, 0))
    assert len(ppo(config, mended, prompts, checkpoints=checkpoints)) == 4


def test_a_loss_that_is_not_finite_raises_before_the_step(trunk):
    model, _ = trunk
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    head = scalar_head(16, 0)
    with torch.no_grad():
        head.bias.fill_(float("nan"))
    prompts = list(tiny.pairs()["prompt"][:32])
    with pytest.raises(KelletError, match=r"is nan: this step .* was not taken; lower policy\.learning_rate"):
        ppo(tiny.config(policy={"iterations": 1}), PPOModels(*trunk, Likes(70), head), prompts)
    assert all(torch.equal(before[name], weight) for name, weight in model.named_parameters())


def test_every_prompt_is_asked_once_before_any_is_asked_again(trunk, monkeypatch):
    asked = []

    def spied(model, tokenizer, queries, *rest):
        asked.extend(tuple(query) for query in queries)
        return drawn(model, tokenizer, queries, *rest)

    drawn = rollout.sample_states
    monkeypatch.setattr(rollout, "sample_states", spied)
    play(trunk, Likes(70), iterations=4)  # 4 batches of 16: twice round the 32 prompts
    rounds = [sorted(asked[begin : begin + 32]) for begin in (0, 32)]
    assert rounds[0] == rounds[1]
    assert asked[:32] != asked[32:]
    assert all(isinstance(left, tuple) and left <= right for left, right in itertools.pairwise(rounds[0]))


def test_preferences_need_only_prompts_and_splits(reward_model, tmp_path):
    table: pd.DataFrame = tiny.pairs()[["prompt", "split"]]
    table.to_parquet(tmp_path / "prompts.parquet", index=False)
    config = tiny.config(policy={"iterations": 1})
    train_policy(config, tmp_path / "prompts.parquet", tiny.folder() / "base", reward_model, tmp_path / "out")
    assert (tmp_path / "out" / "adapter" / "adapter_model.safetensors").exists()
