"""Agreement with the PPO of trl 1.10.0, the last that had one, on random inputs (``pip install -e '.[bench]'``).

Its equations stand in the middle of ``PPOTrainer.train``; here they are cut out of its source and run on our tensors.
It differs in two points. It whitens with the unbiased variance; lm-human-preferences and we use the biased one. And it
pays the score one position after the end of sequence, at a value that belongs to no token (``padding_mask_p1``); we pay
at the end itself, so its ``padding_mask_p1`` gets the mask of tokens here.
"""

import ast
import inspect
import textwrap
import warnings
from types import SimpleNamespace

import pytest
import torch

from kellet.models.kl import k1, k3
from kellet.policy.ppo import gae, penalised_rewards, policy_loss, value_loss, whiten

pytestmark = pytest.mark.trl
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trainer = pytest.importorskip(
        "trl.experimental.ppo.ppo_trainer", reason="needs the extra 'bench'", exc_type=ImportError
    )

ARGS = SimpleNamespace(
    kl_estimator="k1", kl_coef=0.05, whiten_rewards=False, gamma=0.99, lam=0.95, cliprange=0.2, cliprange_value=0.2
)
SEEDS = range(5)


def block(first, last):
    """The statements of PPOTrainer.train from the assignment to ``first`` to the next one to ``last``, compiled."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(trainer.PPOTrainer.train)))
    for node in ast.walk(tree):
        body = node.body if isinstance(node, ast.With | ast.For) else []
        names = [ast.unparse(line.targets[0]) if isinstance(line, ast.Assign) else "" for line in body]
        if first in names and last in names[names.index(first) :]:
            begin = names.index(first)
            end = names.index(last, begin) + 1
            return compile(ast.Module(body[begin:end], type_ignores=[]), "trl", "exec")
    raise AssertionError(f"trl has no block from {first} to {last}")


def run(code, **names):
    names |= {"torch": torch, "masked_mean": trainer.masked_mean, "masked_whiten": trainer.masked_whiten, "args": ARGS}
    exec(code, names)  # noqa: S102
    return SimpleNamespace(**names)


def inputs(seed, rows=6, width=9):
    generator = torch.Generator().manual_seed(seed)
    length = torch.randint(1, width + 1, (rows, 1), generator=generator)
    mask = torch.arange(width) < length
    drawn = [torch.randn(rows, width, generator=generator) for _ in range(5)]
    return mask, length.squeeze(1), torch.randn(rows, generator=generator), drawn


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_rewards_advantages_and_returns(seed, estimator, monkeypatch):
    monkeypatch.setattr(ARGS, "kl_estimator", estimator)
    mask, length, scores, (logprobs, ref_logprobs, values, *_) = inputs(seed)
    theirs = run(
        block("logr", "returns"),
        logprobs=logprobs.masked_fill(~mask, 1.0),
        ref_logprobs=ref_logprobs.masked_fill(~mask, 1.0),
        sequence_lengths=length - 1,
        sequence_lengths_p1=length - 1,
        padding_mask_p1=~mask,
        values=values.masked_fill(~mask, 0.0),
        scores=scores,
        responses=logprobs,
    )
    kl = {"k1": k1, "k3": k3}[estimator](logprobs, ref_logprobs)
    rewards = penalised_rewards(scores, kl, ARGS.kl_coef, mask)
    advantages, returns = gae(rewards, values, mask, ARGS.gamma, ARGS.lam)
    assert torch.allclose(rewards, theirs.rewards, atol=1e-5)
    assert torch.allclose(advantages, theirs.advantages * mask, atol=1e-5)
    assert torch.allclose(returns, theirs.returns * mask, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_whitening(seed):
    mask, _, _, (values, *_) = inputs(seed)
    theirs, ours, n = trainer.masked_whiten(values, mask), whiten(values, mask), mask.sum()
    assert torch.allclose(((n - 1) / n) ** 0.5 * ours, theirs * mask, atol=1e-5)


@pytest.mark.parametrize("seed", SEEDS)
def test_clipped_losses(seed):
    mask, _, _, (logprobs, drift, values, returns, advantages) = inputs(seed)
    new, predicted = logprobs + 0.3 * drift, values + 0.5 * drift.flip(0)
    rows = torch.arange(len(mask))
    theirs = run(
        block("vpredclipped", "pg_loss"),
        vpred=predicted,
        mb_values=values,
        mb_return=returns,
        mb_logprobs=logprobs,
        mb_advantage=advantages,
        new_logprobs=new,
        padding_mask=~mask,
        padding_mask_p1=~mask,
        micro_batch_inds=rows,
    )
    ours = policy_loss(new, logprobs, advantages, mask, ARGS.cliprange)
    assert float(ours.clipfrac) > 0
    assert float(ours.loss) == pytest.approx(float(theirs.pg_loss), abs=1e-5)
    clipped = trainer.masked_mean((theirs.pg_losses2 > theirs.pg_losses).float(), mask)
    assert float(ours.clipfrac) == pytest.approx(float(clipped), abs=1e-6)
    critic = value_loss(predicted, values, returns, mask, ARGS.cliprange_value)
    assert float(critic) == pytest.approx(float(theirs.vf_loss), abs=1e-5)
