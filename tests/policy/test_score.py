"""From raw scores to PPO's objective, by hand; and the user's own score function."""

import sys

import pytest
import torch

from kellet.config.training import Score
from kellet.errors import ConfigError, InputError
from kellet.models.heads import scalar_head
from kellet.models.sampling import draw_uniforms, sample
from kellet.models.tokens import encode_response, pad
from kellet.models.trunk import POLICY
from kellet.policy.score import RawScore, reference_baseline, reference_scores, shape_scores, subtract_penalties
from kellet.policy.score_function import function_hash, load_function
from kellet.policy.train import PPOModels, ppo
from tests.helpers import tiny
from tests.helpers.policy import Likes, play
from tests.helpers.tiny import perturb

RAW = torch.tensor([1.0, -2.0, 0.0])
MASK = torch.arange(10) < torch.tensor([[6], [8], [10]])
ENDED = torch.tensor([True, True, False])


def test_by_default_nothing_is_done():
    assert torch.equal(shape_scores(Score(), RAW, None, None), RAW)
    assert torch.equal(subtract_penalties(Score(), RAW, MASK, ENDED, 10), RAW)


def test_standardised_by_hand():
    shaped = shape_scores(Score(shaping="standardised"), RAW, None, (-1.0, 2.0))
    assert shaped.tolist() == [1.0, -0.5, 0.5]


def test_gain_is_the_sigmoid_over_the_references_answer_to_the_same_prompt():
    shaped = shape_scores(Score(shaping="gain"), RAW, torch.tensor([1.0, -3.0, 1.0]), None)
    assert shaped.tolist() == pytest.approx([0.5, 0.731059, 0.268941], abs=1e-6)


def test_the_clip_comes_after_shaping():
    assert shape_scores(Score(clip=0.5), RAW, None, None).tolist() == [0.5, -0.5, 0.0]
    shaped = shape_scores(Score(shaping="standardised", clip=0.7), RAW, None, (0.0, 0.5))
    assert shaped.tolist() == pytest.approx([0.7, -0.7, 0.0])


def test_the_overlong_ramp_by_hand():
    # 10 tokens at most, ramp of 4: nothing up to 6, half at 8, all at 10
    scores = subtract_penalties(Score(overlong_tokens=4, overlong_penalty=2.0), torch.zeros(3), MASK, ENDED, 10)
    assert scores.tolist() == [0.0, -1.0, -2.0]


def test_a_missing_end_costs_its_penalty():
    assert subtract_penalties(Score(missing_eos_penalty=1.5), RAW, MASK, ENDED, 10).tolist() == [1.0, -2.0, -1.5]


@pytest.fixture
def rules(tmp_path, monkeypatch):
    """A module in the working folder."""
    (tmp_path / "my_rules.py").write_text(
        "def words(prompts, responses):\n"
        "    return [len(response.split()) + 100 * len(prompt) for prompt, response in zip(prompts, responses)]\n"
        "def one(prompts, responses):\n    return [1.0]\n"
        "def nan(prompts, responses):\n    return [float('nan')] * len(prompts)\n"
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "my_rules.py"
    sys.modules.pop("my_rules", None)


def scored(**settings):
    tokenizer = tiny.base()[1]
    text = tiny.config().text
    batch = pad([[1]] * 2, [encode_response(tokenizer, response, text) for response in ("yes yes", "no")], 0)
    return RawScore(Score(**settings), lambda _: torch.tensor([0.25, 0.5]), tokenizer)(batch, ["a", "bb"])


def test_a_function_scores_alone_or_weighted(rules):
    assert scored().tolist() == [0.25, 0.5]
    # words: 2 + 100·1 and 1 + 100·2
    assert scored(function="my_rules:words", reward_weight=0).tolist() == [102, 201]
    assert scored(function="my_rules:words", function_weight=0.5, reward_weight=2).tolist() == [51.5, 101.5]


def test_a_function_that_gives_no_scores_is_refused(rules):
    with pytest.raises(InputError, match="gave 1 scores for 2 answers"):
        scored(function="my_rules:one")
    with pytest.raises(InputError, match="not all of them finite"):
        scored(function="my_rules:nan")
    for name in ("my_rules:nothing", "no_such_module:f"):
        with pytest.raises(ConfigError, match="give module:function"):
            load_function(name)


def test_the_source_of_a_function_has_a_hash(rules):
    before = function_hash("my_rules:words")
    rules.write_text(rules.read_text() + "\n")
    assert before != function_hash("my_rules:words")
    assert function_hash("no_such_module:f") is None
    assert sys.path[0] != str(rules.parent)


def test_the_references_answers_are_the_bases_own_whatever_the_policy(trunk):
    model, tokenizer = trunk
    base, _ = tiny.base()
    perturb(model, POLICY)
    liked = Likes(tokenizer("yes", add_special_tokens=False)["input_ids"][0])
    raw_score = RawScore(Score(), liked, tokenizer)
    queries, text = [[1, 40], [1, 41, 42]] * 8, tiny.config().text
    uniforms = draw_uniforms(16, text.max_response_tokens, torch.Generator().manual_seed(3))
    scores = reference_scores(model, raw_score, queries, ["x"] * 16, uniforms)
    batch = sample(base, tokenizer, queries, text.max_response_tokens, uniforms)
    assert torch.equal(scores, liked(batch))
    prompts = list(tiny.pairs()["prompt"][:20])
    mean, deviation = reference_baseline(model, raw_score, prompts, text, 0, 64)
    assert (mean, deviation) == reference_baseline(model, raw_score, prompts, text, 0, 64)
    assert (mean, deviation) == pytest.approx(reference_baseline(model, raw_score, prompts, text, 0, 3), abs=1e-6)
    assert deviation > 0
    with pytest.raises(InputError, match="all score the same"):
        reference_baseline(
            model, RawScore(Score(), lambda rows: torch.zeros(len(rows.input_ids)), tokenizer), prompts, text, 0, 64
        )


@pytest.mark.parametrize("shaping", ["standardised", "gain"])
def test_the_shaped_score_is_learned_and_the_raw_one_is_logged(trunk, shaping):
    common = trunk[1]("yes", add_special_tokens=False)["input_ids"][0]
    history, _ = play(trunk, Likes(common), iterations=2, score={"shaping": shaping, "clip": 3.0})
    assert all(row["objective/score"] != row["objective/reward"] for row in history)
    if shaping == "gain":  # at first the policy is the reference, so neither answer is better
        assert history[0]["objective/score"] == pytest.approx(0.5, abs=0.25)
    assert all(abs(row["objective/score"]) <= 3 for row in history)


def test_a_training_can_do_without_the_reward_model(trunk, rules):
    def never(batch):
        raise AssertionError("the reward model was called")

    config = tiny.config(policy={"iterations": 1, "score": {"function": "my_rules:words", "reward_weight": 0}})
    prompts = list(tiny.pairs()["prompt"][:32])
    (row,) = ppo(config, PPOModels(*trunk, never, scalar_head(16, 0)), prompts)
    assert row["objective/reward"] > 100
