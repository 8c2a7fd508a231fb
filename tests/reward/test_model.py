"""The reward model as a scorer: laws of its scores, ensembles, and that it is read as it was written."""

import pytest
import torch

from kellet.config.training import Ensemble, Lora
from kellet.errors import DataError
from kellet.models.heads import scalar_head
from kellet.models.tokens import pad
from kellet.models.trunk import POLICY, add_adapter
from kellet.reward.model import (
    Member,
    Scorer,
    aggregate,
    encode_pairs,
    load_scorer,
    preference_gap,
    save_member,
    save_settings,
    score_all,
    scores_of_pairs,
)
from tests.helpers import tiny
from tests.helpers.tiny import perturb


@pytest.fixture
def scorer():
    """A reward model of random weights."""
    model, tokenizer = tiny.base()
    model = perturb(add_adapter(model, Lora(rank=2), 0).eval())
    return Scorer(model, [Member(scalar_head(16, 1))], tokenizer.eos_token_id)


@pytest.fixture
def three():
    """Three members of random weights, the second with γ and a length slope, the third with a length head."""
    model, tokenizer = tiny.base()
    members = []
    for number, name in enumerate((POLICY, "default_1", "default_2")):
        model = perturb(add_adapter(model, Lora(rank=2), number, name), name, seed=number)
        members.append(Member(scalar_head(16, number), name))
    members[1].gamma, members[1].length_slope = 0.7, 0.3
    members[2].length_head = scalar_head(16, 9)
    return Scorer(model.eval(), members, tokenizer.eos_token_id)


@pytest.fixture(scope="module")
def pairs():
    tokenizer = tiny.base()[1]
    return encode_pairs(tiny.pairs(), tokenizer, tiny.config())


def test_swapping_chosen_and_rejected_flips_every_difference(scorer, pairs):
    swapped = pairs._replace(chosen=pairs.rejected, rejected=pairs.chosen)
    scores, swapped_scores = score_all(scorer, pairs, 0), score_all(scorer, swapped, 0)
    assert float((scores[0] - scores[1]).abs().max()) > 0.01
    assert torch.allclose(scores[0] - scores[1], -(swapped_scores[0] - swapped_scores[1]), atol=1e-5)
    assert torch.equal(pairs.length_difference(), -swapped.length_difference())


def test_scores_do_not_depend_on_the_rest_of_the_batch(scorer, pairs):
    together = score_all(scorer, pairs, 0)
    for row in (0, 17):
        alone = score_all(scorer, pairs.take([row]), 0)
        assert torch.allclose(alone[:, 0], together[:, row], atol=1e-4)


def test_padding_changes_nothing(scorer):
    plain = pad([[1, 40, 41]], [[70, 71, 2]], 0)
    left, right = torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 5, dtype=torch.long)
    padded = plain._replace(
        input_ids=torch.cat([left, plain.input_ids, right], 1),
        attention_mask=torch.cat([left.bool(), plain.attention_mask, right.bool()], 1),
        response_mask=torch.cat([plain.response_mask, right.bool()], 1),
    )
    assert torch.allclose(scorer(padded), scorer(plain), atol=1e-5)


def test_a_response_that_was_cut_is_scored_as_if_it_ended_there(scorer):
    cut, ended = pad([[1, 40]], [[70, 71, 72]], 0), pad([[1, 40]], [[70, 71, 2]], 0)
    assert torch.equal(scorer(cut), scorer(ended))


def test_the_length_slope_is_taken_off_for_every_ten_tokens(scorer):
    batch = pad([[1, 40]] * 2, [[70, 2], [70, 71, 72, 73, 2]], 0)
    before = scorer(batch)
    scorer.members[0].length_slope = 2.0
    assert torch.allclose(before - scorer(batch), torch.tensor([0.4, 1.0]), atol=1e-6)


def test_an_ensemble_by_hand():
    rewards = torch.tensor([[1.0, 5.0], [2.0, 5.0], [6.0, 5.0]])
    assert aggregate(rewards, Ensemble(members=3)).tolist() == [3.0, 5.0]
    assert aggregate(rewards, Ensemble(members=3, score="minimum")).tolist() == [1.0, 5.0]
    # deviations -2, -1, 3: variance 14/2
    cautious = aggregate(rewards, Ensemble(members=3, score="mean_minus_std", std_coef=2.0))
    assert cautious.tolist() == pytest.approx([3 - 2 * 7**0.5, 5.0], abs=1e-5)
    assert aggregate(rewards[:1], Ensemble(score="mean_minus_std")).tolist() == [1.0, 5.0]


def test_an_ensemble_scores_as_its_members_do_one_by_one(three, pairs):
    alone = torch.stack([score_all(Scorer(three.model, [one], three.eos_token_id), pairs, 0) for one in three.members])
    chosen, rejected = scores_of_pairs(three, pairs, 0)
    assert float((alone[0] - alone[1]).abs().max()) > 0.01
    assert torch.allclose(torch.stack([chosen.reward, rejected.reward]), alone.mean(0), atol=1e-5)
    assert torch.allclose(chosen.std, alone[:, 0].std(0), atol=1e-5)
    assert three.model.active_adapter == "default_2"  # as it was


def test_what_is_dropped_when_scoring_is_part_of_the_prediction(three, pairs):
    first, second, third = (Scorer(three.model, [one], three.eos_token_id) for one in three.members)
    chosen, rejected = scores_of_pairs(first, pairs, 0)
    assert torch.equal(chosen.preference, chosen.reward)
    assert chosen.std is None
    chosen, rejected = scores_of_pairs(second, pairs, 0)
    apart = (chosen.preference - rejected.preference) - (chosen.reward - rejected.reward)
    assert torch.allclose(apart, 0.07 * pairs.length_difference(), atol=1e-5)
    chosen, _ = scores_of_pairs(third, pairs, 0)
    swapped = Member(third.members[0].length_head, third.members[0].adapter)
    length_head, _ = scores_of_pairs(Scorer(three.model, [swapped], three.eos_token_id), pairs, 0)
    assert torch.allclose(chosen.preference - chosen.reward, length_head.reward, atol=1e-5)


def test_a_temperature_divides_rewards_their_spread_and_the_prediction(three, pairs):
    before, gap = three.scores(pairs.batch(0)), preference_gap(three, pairs, 0)
    three.temperature = 4.0
    after = three.scores(pairs.batch(0))
    for name in ("reward", "std", "preference"):
        assert torch.allclose(getattr(after, name) * 4, getattr(before, name), atol=1e-5), name
    assert preference_gap(three, pairs, 0) * 4 == pytest.approx(gap, rel=1e-5, abs=1e-5)


def test_a_saved_ensemble_is_read_on_another_trunk(three, pairs, tmp_path):
    three.ensemble, three.temperature = Ensemble(members=3, score="minimum"), 1.5
    for number, member in enumerate(three.members):
        save_member(three.model, member, tmp_path, number)
    save_settings(tmp_path, three.ensemble, three.temperature)
    trunk = add_adapter(tiny.base()[0], Lora(rank=4), 7)
    loaded = load_scorer(trunk, tmp_path, three.eos_token_id)
    assert [member.adapter for member in loaded.members] == ["reward", "reward_1", "reward_2"]
    for name, value in zip(("reward", "std", "preference"), loaded.scores(pairs.batch(0)), strict=True):
        assert torch.equal(value, getattr(three.scores(pairs.batch(0)), name)), name
    assert trunk.active_adapter == POLICY


def test_a_folder_without_a_reward_model_is_refused(tmp_path):
    with pytest.raises(DataError, match="kellet train-reward"):
        load_scorer(tiny.base()[0], tmp_path, 2)
