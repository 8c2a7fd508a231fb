"""Steps of fitting: laws of the loss and its gradient, and which pairs a step takes."""

import numpy as np
import pytest
import torch

from kellet.reward.fitting import Fitting, LabelledPairs, add_member, batches
from kellet.reward.model import Scorer, encode_pairs, score_all
from kellet.reward.train import judgement_weights
from tests.helpers import tiny
from tests.helpers.tiny import perturb


@pytest.fixture(scope="module")
def pairs():
    tokenizer = tiny.base()[1]
    return encode_pairs(tiny.pairs(), tokenizer, tiny.config())


def fitting(margin=None, seed=0, fresh=False, **settings):
    """A member before its first step on the tiny pairs; its adapter is the identity if ``fresh``, else random."""
    config = tiny.config(reward_model=settings)
    model, tokenizer = tiny.base()
    pairs = encode_pairs(tiny.pairs(), tokenizer, config)
    scorer = add_member(Scorer(model, [], tokenizer.eos_token_id), 0, config, seed)
    if not fresh:
        perturb(scorer.model)
    return Fitting(scorer, LabelledPairs(pairs, margin), config, tokenizer.pad_token_id, seed)


@pytest.mark.parametrize("control", ["none", "covariate", "two_head"])
def test_the_first_loss_is_that_of_a_coin_or_of_length_alone(control):
    fitted = fitting(fresh=True, length_control=control, two_head_weight=1e-9)
    with torch.no_grad():
        losses = [float(fitted.loss(index)[0]) for index in fitted.batches]
    assert 0.5 < np.mean(losses) < 0.7  # log 2 = 0.693
    assert (fitted.gamma is None) == (control != "covariate")


def gradients(fitted, **change):
    """Gradients of one step on 16 pairs, by name, before clipping."""
    for parameter in fitted.weights.values():
        parameter.grad = None
    rows = torch.arange(16)
    size = change.get("micro", 16)
    for part in rows.split(size):
        (fitted.loss(part)[0] * len(part) / 16).backward()
    return {name: parameter.grad.clone() for name, parameter in fitted.weights.items()}


@pytest.mark.parametrize("control", ["none", "covariate"])
def test_the_gradient_of_micro_batches_is_that_of_the_whole_batch(control):
    options = {"length_control": control, "centring": 0.1, "label_smoothing": 0.1}
    fitted = fitting(margin=torch.linspace(0, 1, 128), **options)
    whole, parts = gradients(fitted), gradients(fitted, micro=5)
    assert max(float(gradient.abs().max()) for gradient in whole.values()) > 1e-3
    for name, gradient in whole.items():
        assert torch.allclose(parts[name], gradient, atol=1e-6), name


def test_a_step_of_micro_batches_ends_where_a_whole_step_does():
    ended = []
    for micro in (None, 5, 1):
        fitted = fitting(micro_batch_size=micro)
        metrics = fitted.step(fitted.batches[0])
        del metrics["reward_model/accuracy"]  # two of these pairs tie, and rounding decides which answer wins
        ended.append((metrics, {name: p.detach().clone() for name, p in fitted.weights.items()}))
    for metrics, weights in ended[1:]:
        assert metrics == pytest.approx(ended[0][0], rel=1e-5, abs=1e-4)
        for name, weight in weights.items():
            # Adam's first step is lr·g/(|g| + ε): where g is zero but for rounding, rounding decides. That is always
            # so of the head's bias, which cancels in every difference of rewards.
            if name == "head_0.bias":
                continue
            assert float((weight - ended[0][1][name]).abs().median()) < 1e-6, name


def test_swapping_the_sides_changes_the_sign_of_every_gap():
    plain, swapped = fitting(length_control="none"), fitting(length_control="none")
    swapped.pairs = plain.pairs._replace(chosen=plain.pairs.rejected, rejected=plain.pairs.chosen)
    rows = torch.arange(20)
    assert torch.allclose(plain.loss(rows)[1], -swapped.loss(rows)[1], atol=1e-5)


def test_margin_smoothing_and_centring_each_change_the_loss():
    rows, margin = torch.arange(32), torch.linspace(0, 2, 128)

    def loss(margin=None, **settings):
        return float(fitting(margin, length_control="none", **settings).loss(rows)[0].detach())

    gap = fitting(length_control="none").loss(rows)[1]
    # from the logits: mean of log(1 + exp(m - gap))
    assert loss(margin) == pytest.approx(float(np.logaddexp(0, (margin[:32] - gap).numpy()).mean()), abs=1e-5)
    # log σ(x) - log σ(-x) = x, so smoothing adds ε·mean(gap)
    assert loss(label_smoothing=0.2) == pytest.approx(loss() + 0.2 * float(gap.mean()), abs=1e-5)
    assert loss(centring=1.0) > loss() + 0.01


def test_centred_rewards_are_nearer_to_zero(tmp_path):
    spread = []
    for weight in (0.0, 0.5):
        fitted = fitting(length_control="none", centring=weight)
        for index in fitted.batches:
            fitted.step(index)
        sums = score_all(fitted.scorer, fitted.pairs, 0).sum(0)
        spread.append(float(sums.square().mean()))
    assert spread[1] < 0.3 * spread[0]


def test_batches_hold_every_pair_once_in_each_epoch(pairs):
    config = tiny.config()
    steps = batches(pairs, config, 0)
    for epoch in (steps[: len(steps) // 2], steps[len(steps) // 2 :]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(128))
    assert [step.tolist() for step in batches(pairs, config, 0)] == [step.tolist() for step in steps]
    assert [step.tolist() for step in batches(pairs, config, 1)] != [step.tolist() for step in steps]


def test_judgements_that_weigh_nothing_are_not_learned_from():
    """A law: with weight only on the first four pairs, their loss is that of the four, scaled as the weights are."""
    table = tiny.pairs().assign(weight=[1.0] * 4 + [0.0] * 124)
    weight = judgement_weights(table)
    assert float(weight.mean()) == pytest.approx(1)
    assert judgement_weights(tiny.pairs()) is None
    plain, weighed = fitting(), fitting()
    weighed.weight = weight
    alone, _ = plain.loss(torch.arange(4))
    together, _ = weighed.loss(torch.arange(128))
    assert together.item() == pytest.approx(alone.item(), rel=1e-4)
