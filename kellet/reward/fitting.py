"""Fitting one member of the reward model to pairs: steps of AdamW, resumable to the byte.

Equations and sources stand in kellet/reward/model.py and kellet/reward/loss.py. Legend: P pairs, of which a step takes
``reward_model.batch_size``.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kellet.config.run import Config
from kellet.errors import KelletError
from kellet.interrupt import held_back
from kellet.models.architecture import text_config
from kellet.models.checkpoint import Checkpoint, Checkpoints, optimizer_tensors, restore_optimizer
from kellet.models.devices import Devices, full_linear, full_tensor, set_weight
from kellet.models.finite import require_finite_step
from kellet.models.heads import scalar_head
from kellet.models.seeds import derived_seed
from kellet.models.trunk import POLICY, add_adapter, last_hidden
from kellet.progress import Progress, quiet
from kellet.reward.loss import centring_loss, length_loss, orthogonality_loss, preference_loss
from kellet.reward.model import LENGTH_UNIT, Member, Pairs, Scorer
from kellet.reward.normalise import length_taste

GAMMA_LEARNING_RATE = 1e-2
"""Of γ, one number beside many weights. A tenth gave the same reward model, because the length slope is normalised."""

StepMetrics = dict[str, float]
"""Metrics of one optimizer step, by their names in the reward model's history.jsonl."""


class LabelledPairs(NamedTuple):
    """Pairs with what their labels say beyond which answer won."""

    pairs: Pairs
    margin: Tensor | None = None
    """(P,) logits by which the chosen answer must lead; None for 0."""
    weight: Tensor | None = None
    """(P,) factor of each pair's loss; None for 1."""

    def take(self, rows: Tensor) -> "LabelledPairs":
        """The pairs of the indices ``rows``, in their order."""
        margin, weight = (None if column is None else column[rows] for column in (self.margin, self.weight))
        return LabelledPairs(self.pairs.take(rows), margin, weight)


def add_member(scorer: Scorer, number: int, config: Config, seed: int) -> Scorer:
    """Give ``scorer`` a fresh member, the active adapter of its trunk; return a scorer of that member alone."""
    settings = config.reward_model
    name = POLICY if number == 0 else f"{POLICY}_{number}"
    scorer.model = add_adapter(scorer.model, settings.lora, seed, name)
    width = text_config(scorer.model).hidden_size
    two_heads = settings.length_control == "two_head"
    scorer.members.append(
        Member(scalar_head(width, seed), name, length_head=scalar_head(width, seed + 1) if two_heads else None)
    )
    return Scorer(scorer.model, scorer.members[-1:], scorer.eos_token_id)


def member_seed(seed: int, number: int) -> int:
    """A seed for each member; the first one's is ``seed``."""
    return seed if number == 0 else derived_seed(seed, "member", number)


def batches(pairs: Pairs, config: Config, seed: int) -> list[Tensor]:
    """Indices of each step's pairs; each epoch in a new order, pairs of similar length together."""
    generator = torch.Generator().manual_seed(seed)
    longest = [len(q) + max(len(c), len(r)) for q, c, r in zip(*pairs, strict=True)]
    lengths = torch.tensor(longest, dtype=torch.float32)
    steps: list[Tensor] = []
    for _ in range(config.reward_model.epochs):
        order = torch.argsort(lengths + 8 * torch.rand(len(lengths), generator=generator))
        chunks = order.split(config.reward_model.batch_size)
        steps += [chunks[number] for number in torch.randperm(len(chunks), generator=generator).tolist()]
    return steps


class Fitting:
    """One member while it is fitted: what a step needs, and what a checkpoint keeps.

    ``scorer`` is of that member alone, whose adapter is the active one of the trunk.
    """

    def __init__(
        self,
        scorer: Scorer,
        labelled: LabelledPairs,
        config: Config,
        pad_id: int,
        seed: int,
        devices: Devices | None = None,
    ) -> None:
        self.scorer, self.pad_id, self.seed, self.devices = scorer, pad_id, seed, devices or Devices()
        self.pairs, self.margin, self.weight = labelled
        self.settings, (self.member,) = config.reward_model, scorer.members
        self.batches = batches(self.pairs, config, seed)
        self.length = self.pairs.length_difference() / LENGTH_UNIT
        covariate = self.settings.length_control == "covariate"
        self.gammas = nn.ParameterList([length_taste(self.length).view(1)] if covariate else [])
        self.heads = [head for head in (self.member.head, self.member.length_head) if head is not None]
        weights = list(self.weights.values())
        groups: list[dict[str, Any]] = [{"params": weights, "weight_decay": self.settings.weight_decay}]
        if covariate:
            groups.append({"params": [self.gamma], "lr": GAMMA_LEARNING_RATE, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups, lr=self.settings.learning_rate)
        self.schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, len(self.batches))
        self.optimizer = self.devices.prepare(optimizer, scorer.model, *self.heads, self.gammas)

    # FSDP replaces the parameters of modules, so gamma and weights look them up each time.

    @property
    def gamma(self) -> nn.Parameter | None:
        """γ, (1,); None without a covariate."""
        return self.gammas[0] if len(self.gammas) else None

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """The trained weights of adapter and heads, by name."""
        named = {name: p for name, p in self.scorer.model.named_parameters() if p.requires_grad}
        heads = enumerate(self.heads)
        return named | {f"head_{number}.{name}": p for number, head in heads for name, p in head.named_parameters()}

    def run(self, store: Checkpoints, progress: Progress = quiet) -> list[StepMetrics]:
        """Take all steps, from the newest checkpoint of ``store`` on; return the metrics of each step.

        A signal to stop saves a checkpoint and is then delivered. The trunk is left in evaluation mode.
        """
        self.scorer.model.train()
        history: list[StepMetrics] = []
        with held_back() as stopped, torch.random.fork_rng():
            if (checkpoint := store.newest()) is not None:
                history = self._restore(checkpoint)
            self.devices.agree(len(history), "the checkpoint that they go on from")
            for index in self.batches[len(history) :]:
                # dropout depends on step and process alone, not on what was drawn before a resume
                torch.manual_seed(member_seed(self.seed, 1 + len(history) * self.devices.count + self.devices.rank))
                metrics = self.step(index)
                history.append({"step": len(history) + 1, **metrics})
                if self.devices.main:
                    progress(len(history), len(self.batches), metrics)
                last, stop = len(history) == len(self.batches), self.devices.any(stopped())
                if stop or last or len(history) % self.settings.checkpoint_every == 0:
                    self._save(store, history)
                if stop:
                    break
        if len(history) < len(self.batches):
            raise KelletError(f"stopped after {len(history)} steps; the same command goes on from there")
        self.scorer.model.eval()
        self.member.gamma = self._gamma()
        if self.devices.sharded:
            self.member.head = full_linear(self.member.head).to(self.devices.device)
        return history

    def step(self, index: Tensor) -> StepMetrics:
        """One optimizer step on the pairs ``index``; the gradients of its micro-batches sum to the whole batch's."""
        self.optimizer.zero_grad()
        local, counts = self.devices.spread(index)
        parts = local.split(self.settings.micro_batch_size or len(local))
        sums = {"reward_model/loss": 0.0, "reward_model/accuracy": 0.0}
        for rows, counted, last in self.devices.passes(parts, counts):
            share = counted * len(rows) / len(index)
            with self.devices.syncing(last):
                loss, gap = self.devices.run(partial(self.loss, rows))
                self.devices.backward(loss * share)
            sums["reward_model/loss"] += float(loss.detach()) * share
            sums["reward_model/accuracy"] += float((gap > 0).float().mean()) * share
        metrics = self.devices.sum(sums)
        weights = [weight for group in self.optimizer.param_groups[:1] for weight in group["params"]]
        metrics["reward_model/grad_norm"] = self.devices.clip(weights, 1.0)
        require_finite_step(metrics, "reward_model.learning_rate")
        self.optimizer.step()
        self.schedule.step()
        gamma = self._gamma()
        return metrics if gamma is None else metrics | {"reward_model/gamma": gamma}

    def loss(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Mean loss over the pairs ``rows``, and the logits (P,) with which their labels are predicted."""
        batch = self.pairs.take(rows).batch(self.pad_id)
        hidden = last_hidden(self.scorer.model, batch.closed(self.scorer.eos_token_id))
        rewards = self.member.head(hidden).view(2, -1)
        # loss = -log σ( Δr + what length explains - margin )
        gap = rewards[0] - rewards[1]
        if self.gamma is not None:
            gap = gap + self.gamma * self.length[rows].to(gap.device)
        if self.member.length_head is not None:
            length_rewards = self.member.length_head(hidden).view(2, -1)
            gap = gap + length_rewards[0] - length_rewards[1]
        margin, weight = (None if of is None else of[rows].to(gap.device) for of in (self.margin, self.weight))
        loss = preference_loss(gap, margin, self.settings.label_smoothing, weight)
        if self.settings.centring:
            loss = loss + self.settings.centring * centring_loss(rewards[0], rewards[1])
        if self.member.length_head is not None:
            length = batch.response_mask.sum(1).float().to(gap.device)
            parting = length_loss(rewards.flatten(), length_rewards.flatten(), length)
            parting = parting + orthogonality_loss(self.member.head.weight, self.member.length_head.weight)
            loss = loss + self.settings.two_head_weight * parting
        return loss, gap.detach()

    def _gamma(self) -> float | None:
        return None if self.gamma is None else float(full_tensor(self.gamma.detach()))

    def _save(self, store: Checkpoints, history: list[StepMetrics]) -> None:
        gamma = {} if self.gamma is None else {"gamma": self.gamma}
        named = {f"weight.{name}": p for name, p in self.weights.items()} | gamma | optimizer_tensors(self.optimizer)
        tensors = {name: full_tensor(tensor.detach()) for name, tensor in named.items()}
        if self.devices.main:
            store.save(len(history), tensors, {"history": history, "schedule": self.schedule.state_dict()})

    @torch.no_grad()
    def _restore(self, checkpoint: Checkpoint) -> list[StepMetrics]:
        for name, parameter in self.weights.items():
            set_weight(parameter, checkpoint.tensors[f"weight.{name}"])
        if self.gamma is not None:
            set_weight(self.gamma, checkpoint.tensors["gamma"])
        restore_optimizer(self.optimizer, checkpoint.tensors)
        self.schedule.load_state_dict(checkpoint.state["schedule"])
        for group, rate in zip(self.optimizer.param_groups, self.schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        return list(checkpoint.state["history"])
