"""Right parts connected wrongly in the fitting of a reward model; benchmarks/mutants.py changes these lines."""

import torch

from kellet.models.checkpoint import Checkpoints
from kellet.reward.fitting import Fitting, LabelledPairs, add_member
from kellet.reward.model import Pairs, Scorer
from tests.helpers import tiny
from tests.helpers.tiny import perturb


def fitting(pairs=None, **settings):
    config = tiny.config(reward_model=settings)
    model, tokenizer = tiny.base()
    queries = [[1, 40 + number] for number in range(32)]
    pairs = pairs or Pairs(queries, [[70, 71, 2]] * 32, [[72, 73, 74, 75, 2], [72, 2]] * 16)
    scorer = add_member(Scorer(model, [], tokenizer.eos_token_id), 0, config, 0)
    perturb(scorer.model)
    return Fitting(scorer, LabelledPairs(pairs), config, tokenizer.pad_token_id, 0)


def test_every_step_drops_other_units(tmp_path, monkeypatch):
    fitted, seeds, real = fitting(batch_size=8, lora={"rank": 4, "dropout": 0.5}), [], Fitting.step

    def spied(self, index):
        seeds.append(torch.initial_seed())
        return real(self, index)

    monkeypatch.setattr(Fitting, "step", spied)
    fitted.run(Checkpoints(tmp_path / "out", {"content": {}, "parameters": {}}))
    assert len(seeds) == 8
    assert len(set(seeds)) == 8


def test_gamma_learns(tmp_path):
    fitted = fitting(batch_size=8, epochs=4, length_control="covariate")
    before = float(fitted.gamma.detach())
    history = fitted.run(Checkpoints(tmp_path / "out", {"content": {}, "parameters": {}}))
    gammas = [row["reward_model/gamma"] for row in history]
    assert all(abs(one - other) > 1e-6 for one, other in zip([before, *gammas], gammas, strict=False))


def test_a_cut_answer_is_read_as_if_it_ended_there():
    queries = [[1, 40 + number] for number in range(32)]
    whole = Pairs(queries, [[70, 71, 2]] * 32, [[72, 2]] * 32)
    cut = Pairs(queries, [[70, 71, 75]] * 32, [[72, 2]] * 32)
    rows = torch.arange(32)
    with torch.no_grad():
        losses = [float(fitting(pairs).loss(rows)[0]) for pairs in (whole, cut)]
        longer = float(fitting(Pairs(queries, [[70, 71, 75, 2]] * 32, [[72, 2]] * 32)).loss(rows)[0])
    assert losses[0] == losses[1]
    assert abs(longer - losses[0]) > 1e-4
