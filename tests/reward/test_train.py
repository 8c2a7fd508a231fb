"""Training the reward model: what it learns, its options, normalisation, and going on after a kill."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize

from kellet.config.training import Lora
from kellet.errors import DataError, InputError, NoLift
from kellet.files import content_hash
from kellet.models.trunk import add_adapter, load_head, scalar_head
from kellet.reward.card import require_lift
from kellet.reward.fitting import Fitting, LabelledPairs, add_member, batches, member_seed
from kellet.reward.model import Member, Scorer, encode_pairs, load_scorer, preference_gap, score_all
from kellet.reward.normalise import length_taste, normalise
from kellet.reward.train import judgement_weights, margins, resample
from tests.helpers import tiny
from tests.helpers.project import ROOT
from tests.helpers.reward import resumable, train
from tests.helpers.tiny import perturb


def fitting(margin=None, seed=0, fresh=False, **settings):
    """A fresh member about to be fitted to the tiny pairs."""
    config = tiny.config(reward_model=settings)
    model, tokenizer = tiny.base()
    pairs = encode_pairs(tiny.pairs(), tokenizer, config)
    one = add_member(Scorer(model, [], tokenizer.eos_token_id), 0, config, seed)
    if not fresh:
        perturb(one.model)
    return Fitting(one, LabelledPairs(pairs, margin), config, tokenizer.pad_token_id, seed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("reward") / "covariate"
    return out, train(out)


@pytest.fixture
def scorer():
    """A reward model of chance weights."""
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
    # what predicts the labels is what it was
    assert preference_gap(scorer, pairs, 0) == pytest.approx(predicted, abs=1e-4)


def test_without_length_control_only_the_mean_is_moved(scorer, pairs):
    before = score_all(scorer, pairs, 0)
    with torch.no_grad():
        normalise(scorer, pairs, 0)
    after = score_all(scorer, pairs, 0)
    assert (scorer.members[0].length_slope, scorer.members[0].gamma) == (0, None)
    assert float(after.mean()) == pytest.approx(0, abs=1e-5)
    assert torch.allclose(before - after, (before - after).mean().expand_as(after), atol=1e-5)


def test_training_learns_what_separates_the_pairs(trained):
    out, _ = trained
    history = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    names = {"step", "loss", "accuracy", "grad_norm", "gamma"}
    assert all({name.removeprefix("reward_model/") for name in row} == names for row in history)
    assert [row["step"] for row in history] == [1, 2, 3, 4, 5, 6, 7, 8]  # two epochs of 64 pairs, 16 at a time
    longer = train(out.with_name("longer"), epochs=8)
    lines = (out.with_name("longer") / "history.jsonl").read_text().splitlines()
    losses = [json.loads(line)["reward_model/loss"] for line in lines]
    assert np.mean(losses[-2:]) < 0.5 * np.mean(losses[:2])
    assert longer["accuracy"]["value"] > 0.75
    assert longer["accuracy_reward"]["value"] > 0.75
    # the longer one is right half the time: every point above that is lift
    assert longer["lift"]["value"] == pytest.approx(longer["accuracy"]["value"] - 0.5)
    require_lift(longer)


@pytest.mark.parametrize("control", ["none", "covariate", "two_head"])
def test_the_first_loss_is_that_of_a_coin_or_of_length_alone(control):
    fitted = fitting(fresh=True, length_control=control, two_head_weight=1e-9)
    with torch.no_grad():
        losses = [float(fitted.loss(index)[0]) for index in fitted.batches]
    assert 0.5 < np.mean(losses) < 0.7  # log 2 = 0.693
    assert (fitted.gamma is None) == (control != "covariate")


def gradients(fitted, **change):
    """Gradients of one step on 16 pairs, before they are clipped, by name."""
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
        del metrics["reward_model/accuracy"]  # two of these pairs tie, and rounding says who wins
        ended.append((metrics, {name: p.detach().clone() for name, p in fitted.weights.items()}))
    for metrics, weights in ended[1:]:
        assert metrics == pytest.approx(ended[0][0], abs=1e-4)
        for name, weight in weights.items():
            # Adam's first step is lr·g/(|g| + ε): where g is all but zero its rounding decides, so always of the
            # head's bias, which no difference of rewards holds
            if name == "head_0.bias":
                continue
            assert float((weight - ended[0][1][name]).abs().median()) < 1e-6, name


def test_swapping_the_sides_turns_the_gap_of_every_pair():
    plain, swapped = fitting(length_control="none"), fitting(length_control="none")
    swapped.pairs = plain.pairs._replace(chosen=plain.pairs.rejected, rejected=plain.pairs.chosen)
    rows = torch.arange(20)
    assert torch.allclose(plain.loss(rows)[1], -swapped.loss(rows)[1], atol=1e-5)


def test_margin_smoothing_and_centring_each_change_the_loss():
    rows, margin = torch.arange(32), torch.linspace(0, 2, 128)

    def loss(margin=None, **settings):
        return float(fitting(margin, length_control="none", **settings).loss(rows)[0].detach())

    gap = fitting(length_control="none").loss(rows)[1]
    # worked out from the logits: mean of log(1 + exp(m - gap))
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


def test_margins_are_read_scaled_and_missing_ones_are_zero():
    table = pd.DataFrame({"margin": [1.0, None, -0.5]})
    assert margins(table, 2.0, "t").tolist() == [2.0, 0.0, -1.0]
    assert margins(table, 0.0, "t") is None
    for bad in (pd.DataFrame({"x": [1]}), pd.DataFrame({"margin": [None, None]})):
        with pytest.raises(DataError, match=r"margin_scale is 2 .* has a margin"):
            margins(bad, 2.0, "t")


def test_margins_of_the_table_are_used(tmp_path):
    table = tiny.pairs().assign(margin=3.0)
    train(tmp_path / "with", table, margin_scale=1.0, epochs=1)
    train(tmp_path / "without", table, epochs=1)
    with_margin, without = (
        json.loads((tmp_path / name / "history.jsonl").read_text().splitlines()[0])["reward_model/loss"]
        for name in ("with", "without")
    )
    # log(1 + e³) = 3.05 at a gap near zero
    assert with_margin > without + 2


def test_labels_that_like_length_alone_leave_a_reward_that_does_not(tmp_path):
    # the same two words, the longer one always chosen
    table = tiny.pairs()
    table["rejected"] = [answer.split("!")[0] for answer in table["chosen"]]
    table["chosen"] = [f"{answer} {answer} {answer}" for answer in table["rejected"]]
    plain = train(tmp_path / "none", table, length_control="none", epochs=6)
    held = train(tmp_path / "covariate", table, epochs=6)
    assert plain["accuracy_reward"]["value"] == 1
    assert plain["length_slope"]["value"] > 0
    assert held["gamma"] > 0
    assert abs(held["length_slope"]["value"]) < 0.1 * plain["length_slope"]["value"]
    assert held["length_baseline"]["value"] == 1
    assert held["accuracy_longer_rejected"] is None
    with pytest.raises(NoLift):
        require_lift(held)


def test_two_heads_part_length_from_quality(tmp_path):
    # 'yes' beats 'no', and three in four times the longer one is chosen
    table = tiny.pairs()
    long, short = np.arange(len(table)) % 4 > 0, np.arange(len(table)) % 4 == 0
    table["chosen"], table["rejected"] = np.where(long, "yes yes yes", "yes"), np.where(short, "no no no", "no")
    plain = train(tmp_path / "none", table, length_control="none", epochs=10)
    odin = train(tmp_path / "odin", table, length_control="two_head", epochs=10)
    assert plain["length_slope"]["value"] > 1
    assert abs(odin["length_slope"]["value"]) < 0.2
    assert odin["accuracy"]["value"] > odin["length_baseline"]["value"]  # the heads together predict the labels
    assert (tmp_path / "odin" / "length_head.safetensors").exists()
    quality, _ = load_head(tmp_path / "odin" / "head.safetensors")
    length, _ = load_head(tmp_path / "odin" / "length_head.safetensors")
    cosine = torch.nn.functional.cosine_similarity(quality.weight[0], length.weight[0], dim=0)
    assert abs(float(cosine)) < 0.2


def test_two_heads_and_micro_batches_are_refused():
    with pytest.raises(ValueError, match="micro_batch_size"):
        tiny.config(reward_model={"length_control": "two_head", "micro_batch_size": 4})


def test_a_resample_draws_prompts_with_all_their_pairs():
    prompts = ["a", "b", "a", "c", "d", "b", "e"]
    rows = resample(prompts, 3).tolist()
    counts = {prompt: [rows.count(row) for row in range(7) if prompts[row] == prompt] for prompt in "abcde"}
    assert all(len(set(times)) == 1 for times in counts.values())  # the pairs of a prompt come together
    assert sum(times[0] for times in counts.values()) == 5
    assert resample(prompts, 3).tolist() == rows != resample(prompts, 4).tolist()
    # a prompt is missing from a resample with probability (1 - 1/n)^n, about 1/e
    missing = np.mean([len(set(resample([str(n) for n in range(200)], seed).tolist())) for seed in range(40)])
    assert 1 - missing / 200 == pytest.approx(0.367, abs=0.02)


def test_members_differ_and_the_card_says_how_much(tmp_path):
    table = tiny.pairs()
    wrong = table.index % 7 == 0  # labels without doubt have no best temperature
    table.loc[wrong, ["chosen", "rejected"]] = table.loc[wrong, ["rejected", "chosen"]].to_numpy()
    card = train(tmp_path / "out", table, ensemble={"members": 2, "score": "minimum"}, epochs=5, calibrate=True)
    assert card["disagreement"]["value"] > 0
    low, high = card["disagreement"]["interval"]
    assert low <= card["disagreement"]["value"] <= high
    assert "between members" in (tmp_path / "out" / "card.md").read_text()
    model, tokenizer = tiny.base()
    loaded = load_scorer(model, tmp_path / "out", tokenizer.eos_token_id)
    assert loaded.ensemble.score == "minimum"
    assert loaded.temperature == card["temperature"] != 1
    # it was divided by the best temperature of these pairs, so none is better now
    assert card["calibration"]["temperature"]["value"] == pytest.approx(1, abs=0.02)
    history = [json.loads(line) for line in (tmp_path / "out" / "history.jsonl").read_text().splitlines()]
    assert [row["step"] for row in history] == [*range(1, 21), *range(1, 21)]
    assert member_seed(5, 0) == 5
    assert member_seed(5, 1) not in (member_seed(5, 2), member_seed(6, 1), 6)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(trained, tmp_path):
    train(tmp_path / "again")
    train(tmp_path / "other", seed=1)
    first = content_hash(trained[0])
    assert content_hash(tmp_path / "again") == first
    for part in ("adapter/adapter_model.safetensors", "head.safetensors"):
        assert content_hash(tmp_path / "other" / part) != content_hash(trained[0] / part)


def test_dropout_is_seeded_too(tmp_path):
    for name in ("one", "two"):
        torch.manual_seed(hash(name) % 1000)  # what happened before in the process must not matter
        train(tmp_path / name, epochs=1, lora={"rank": 2, "dropout": 0.5})
    assert content_hash(tmp_path / "one") == content_hash(tmp_path / "two")


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.helpers.reward import resumable
resumable(Path(sys.argv[1]), lambda step: step == 5 and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the tiny base and pairs, and ``whole``, an uninterrupted training."""
    root = tmp_path_factory.mktemp("resume")
    (root / "base").symlink_to(tiny.folder() / "base")
    (root / "p.parquet").symlink_to(tiny.folder() / "preferences.parquet")
    resumable(root / "whole")
    return root


def checkpoints(out):
    return sorted(f"{path.parent.name}/{path.name}" for path in out.parent.glob(f"{out.name}*.checkpoints/*"))


class Gone(BaseException):
    """Stands for a kill between two steps: nothing is caught, nothing is written any more."""


def vanish(at):
    def when(step):
        if step == at:
            raise Gone

    return when


def test_a_training_that_vanished_three_times_ends_in_the_same_bytes(place):
    out = place / "vanished"
    # 5: two steps after a checkpoint of the first member; then 8 more: in the second member; then before any new one
    left = (["00000003"], ["00000006", "00000008", "1/00000003"], None)
    for at, names in zip((5, 9, 1), left, strict=True):
        with pytest.raises(Gone):
            resumable(out, vanish(at))
        assert not out.exists()
        found = [name.replace("vanished.member_", "").replace("vanished", "") for name in checkpoints(out)]
        if names is not None:
            assert [name.replace(".checkpoints", "").lstrip("/") for name in found] == names
    resumable(out)
    assert content_hash(out) == content_hash(place / "whole")
    assert checkpoints(out) == []


def test_a_training_killed_by_the_system_ends_in_the_same_bytes(place):
    out = place / "killed"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(out)], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert checkpoints(out) == ["killed.checkpoints/00000003"]
    resumable(out)
    assert content_hash(out) == content_hash(place / "whole")


def test_ctrl_c_finishes_the_step_and_saves(place):
    out = place / "stopped"
    with pytest.raises(KeyboardInterrupt):
        resumable(out, lambda step: step == 2 and os.kill(os.getpid(), signal.SIGINT))
    assert checkpoints(out) == ["stopped.checkpoints/00000002"]
    resumable(out)
    assert content_hash(out) == content_hash(place / "whole")


def test_a_checkpoint_of_other_parameters_is_refused_by_name(place):
    out = place / "other"
    with pytest.raises(Gone):
        resumable(out, vanish(4))
    with pytest.raises(InputError, match=r"reward_model\.learning_rate: checkpoint 0\.01, now 0\.5"):
        resumable(out, learning_rate=0.5)
    resumable(out, checkpoint_every=2, require_lift=False)  # these do not change the model


def test_batches_hold_every_pair_once_in_each_epoch(pairs):
    config = tiny.config()
    steps = batches(pairs, config, 0)
    for epoch in (steps[: len(steps) // 2], steps[len(steps) // 2 :]):
        assert sorted(torch.cat(epoch).tolist()) == list(range(128))
    assert [step.tolist() for step in batches(pairs, config, 0)] == [step.tolist() for step in steps]
    assert [step.tolist() for step in batches(pairs, config, 1)] != [step.tolist() for step in steps]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_empty_split_is_refused_and_nothing_is_written(tmp_path, split):
    table: pd.DataFrame = tiny.pairs()
    with pytest.raises(DataError, match="lacks pairs"):
        train(tmp_path / "out", table[table["split"] != split])
    assert not (tmp_path / "out").exists()


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
