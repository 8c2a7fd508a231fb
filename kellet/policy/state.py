"""The state of a policy's training: what changes from iteration to iteration, and what a checkpoint keeps of it."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kellet.models.checkpoint import Checkpoint, Checkpoints, optimizer_tensors, restore_optimizer
from kellet.models.devices import Devices, full_tensor, set_weight
from kellet.policy.controller import KLController
from kellet.policy.metrics import IterationMetrics
from kellet.policy.rollout import Sampler, builtin_sampler


@dataclass
class Training:
    """Everything that changes while a policy is trained. The reference is no part of it: it stays the base model."""

    trunk: Any
    """Causal LM (kellet/models/trunk.py); of its adapters only ``default``, the policy, requires a gradient."""
    value_head: nn.Linear
    """Hidden width H -> 1."""
    optimizer: torch.optim.Optimizer
    """Of the policy's adapter and the value head."""
    generator: torch.Generator
    """Draws prompts, tokens and minibatches; the same on every process."""
    controller: KLController
    devices: Devices
    order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """(N,) indices of the prompts that this pass over the prompts has not asked yet, in their random order."""
    history: list[IterationMetrics] = field(default_factory=list)
    """Metrics of every iteration so far."""
    sampler: Sampler = builtin_sampler
    kl_floor: float | None = None
    """What half precision shows as KL where there is none, nats per response (kellet/policy/floor.py)."""
    baseline: tuple[float, float] | None = None
    """Mean and standard deviation of the reference's raw scores; only with policy.score.shaping standardised."""

    def save(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint, on process 0; every process calls this, because FSDP's shards are gathered."""
        named = self._weights() | optimizer_tensors(self.optimizer)
        tensors = {name: full_tensor(tensor) for name, tensor in named.items()}
        if not self.devices.main:
            return
        tensors |= {"generator": self.generator.get_state(), "order": self.order}
        state = {"controller": vars(self.controller), "history": self.history, "baseline": self.baseline}
        checkpoints.save(len(self.history), tensors, state)

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Take over the state that was saved."""
        for name, weight in self._weights().items():
            set_weight(weight, checkpoint.tensors[name])
        restore_optimizer(self.optimizer, checkpoint.tensors)
        self.generator.set_state(checkpoint.tensors["generator"])
        self.order = checkpoint.tensors["order"]
        vars(self.controller).update(checkpoint.state["controller"])
        self.history, baseline = checkpoint.state["history"], checkpoint.state["baseline"]
        self.baseline = tuple(baseline) if baseline else None

    def _weights(self) -> dict[str, Tensor]:
        policy = {f"policy.{name}": weight for name, weight in self.trunk.named_parameters() if weight.requires_grad}
        return policy | {f"value_head.{name}": weight for name, weight in self.value_head.named_parameters()}
