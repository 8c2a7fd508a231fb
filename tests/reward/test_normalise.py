"""The length slope and the zero of a reward: what normalisation takes off and what it leaves."""

import numpy as np
import pytest
import torch
from scipy import optimize

from kellet.config.training import Lora
from kellet.models.heads import scalar_head
from kellet.models.trunk import add_adapter
from kellet.reward.model import Member, Scorer, encode_pairs, preference_gap, score_all
from kellet.reward.normalise import length_taste, normalise
from tests.helpers import tiny
from tests.helpers.tiny import perturb


@pytest.fixture
def scorer():
    """A reward model of random weights."""
    model, tokenizer = tiny.base()
    model = perturb(add_adapter(model, Lora(rank=2), 0).eval())
    return Scorer(model, [Member(scalar_head(16, 1))], tokenizer.eos_token_id)


@pytest.fixture(scope="module")
def pairs():
    tokenizer = tiny.base()[1]
    return encode_pairs(tiny.pairs(), tokenizer, tiny.config())


@pytest.mark.parametrize(("taste", "seed"), [(0.0, 0), (0.8, 1), (-1.5, 2), (3.0, 3)])
def test_length_taste_is_the_maximum_of_the_likelihood(taste, seed):
    rng = np.random.default_rng(seed)
    length = rng.normal(0, 1, 300)
    length *= np.where(rng.random(300) < 1 / (1 + np.exp(-taste * length)), 1, -1)
    reference = optimize.minimize_scalar(lambda g: np.logaddexp(0, -g * length).sum(), bracket=(-1, 1))
    assert float(length_taste(torch.tensor(length, dtype=torch.float32))) == pytest.approx(reference.x, abs=1e-3)


def test_length_taste_of_labels_without_length_or_without_doubt():
    assert float(length_taste(torch.zeros(5))) == 0
    assert 1 < float(length_taste(torch.ones(5))) <= 10  # the likelihood has no maximum; it stays finite
    assert float(length_taste(torch.tensor([1.0, -1.0]))) == pytest.approx(0, abs=1e-6)


def test_normalised_rewards_have_no_slope_on_length_and_mean_zero(scorer, pairs):
    length = pairs.length_difference() / 10
    assert float(length.abs().max()) > 0
    scorer.members[0].gamma = 0.7
    before, predicted = score_all(scorer, pairs, 0), preference_gap(scorer, pairs, 0)
    with torch.no_grad():
        normalise(scorer, pairs, 0)
    after = score_all(scorer, pairs, 0)
    slope = np.linalg.lstsq(length.numpy()[:, None], (after[0] - after[1]).numpy(), rcond=None)[0][0]
    assert slope == pytest.approx(0, abs=1e-4)
    assert float(after.mean()) == pytest.approx(0, abs=1e-5)
    assert float((after - before).abs().max()) > 0.01
    # the labels are predicted as before
    assert preference_gap(scorer, pairs, 0) == pytest.approx(predicted, rel=1e-5, abs=1e-4)


def test_without_length_control_only_the_mean_is_moved(scorer, pairs):
    before = score_all(scorer, pairs, 0)
    with torch.no_grad():
        normalise(scorer, pairs, 0)
    after = score_all(scorer, pairs, 0)
    assert (scorer.members[0].length_slope, scorer.members[0].gamma) == (0, None)
    assert float(after.mean()) == pytest.approx(0, abs=1e-5)
    assert torch.allclose(before - after, (before - after).mean().expand_as(after), atol=1e-5)
