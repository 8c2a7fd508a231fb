"""The devices of a training: one process or many, on the CPU or on GPUs, by Hugging Face Accelerate.

    python -m kellet train-policy                                     one process
    accelerate launch --config_file X -m kellet train-policy          as many as X says: DDP or FSDP

Every process holds the same random stream, the same rollout of the whole batch and the same history; only passes
through the model are divided. So code that computes from the whole batch (whitening, metrics, β) can ignore processes,
and the same batch gives the same training on one process and on many. Only process 0 writes files and reports.
"""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kellet.errors import ConfigError, InputError, KelletError

T = TypeVar("T")

DEVICE = "KELLET_DEVICE"
"""The environment variable that may say ``cpu``, or ``mps`` for the GPU of a Mac, which is not taken unasked."""
LOST = ("gloo", "nccl", "remote worker", "connection closed by peer", "connection reset by peer")
"""Words in the errors of a backend whose peer process has died."""


class CallableModule(nn.Module):
    """All modules of a training as one, whose forward pass is any function of its parts.

    DDP and FSDP act when a module is called; sampling, scoring and the loss are each one call.
    """

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, call: Callable[[], T]) -> T:
        """The result of ``call``."""
        return call()


class Devices:
    """The processes of a training and the device of this one.

    ``unused``: some backward passes do not reach every trained weight; DDP must know that beforehand.
    """

    def __init__(self, unused: bool = False) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs

        ddp = DistributedDataParallelKwargs(find_unused_parameters=unused)
        # without cpu=True, several processes without a GPU would each train alone
        self.accelerator = Accelerator(cpu=on_cpu(), kwargs_handlers=[ddp])
        if self.accelerator.distributed_type.value == "DEEPSPEED":
            raise InputError("DeepSpeed cannot train here yet; take an accelerate config of FSDP (docs/use/scale.md)")
        self.count, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.device: torch.device = self.accelerator.device
        self.prepared: Any = None

    @property
    def main(self) -> bool:
        """Whether this process writes files and reports."""
        return bool(self.rank == 0)

    @property
    def sharded(self) -> bool:
        """Whether each process holds a shard of the weights."""
        return bool(self.accelerator.distributed_type.value == "FSDP")

    def prepare(self, optimizer: torch.optim.Optimizer, *parts: nn.Module) -> torch.optim.Optimizer:
        """Put ``parts`` on the device, as configured, for :meth:`run`; return the optimizer to use from now on."""
        if self.sharded and self.prepared is not None:
            raise InputError(
                "FSDP shards a model once, and an ensemble is fitted member by member; set "
                "reward_model.ensemble.members to 1, or take a config of DDP"
            )
        self.prepared, optimizer = self.accelerator.prepare(CallableModule(*parts), optimizer)
        return optimizer

    def place(self, *parts: Any) -> None:
        """Put ``parts``, modules or what moves like one, on the device, whole, for passes without a gradient.

        Raises InputError under FSDP, which has no whole model on any device.
        """
        if self.sharded:
            raise InputError("FSDP divides a model for training; evaluate on one process, or with a config of DDP")
        for part in parts:
            part.to(self.device)

    def run(self, call: Callable[[], T]) -> T:
        """The result of ``call``, which may use the model. Every process must call this."""
        with lost_process_named():
            result: T = call() if self.prepared is None else self.prepared(call)
        return result

    def share(self, rows: int, name: str) -> slice:
        """The rows of a batch that this process computes.

        Raises InputError where the processes cannot share it evenly; ``name`` is the setting.
        """
        if rows % self.count:
            raise InputError(f"{name} is {rows}, which {self.count} processes cannot share; take a multiple of them")
        size = rows // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def spread(self, rows: Tensor) -> tuple[Tensor, bool]:
        """The part of ``rows`` that this process computes, and whether it counts.

        Collectives need every process to run a pass; one with an empty shard repeats a row with weight 0.
        """
        size = math.ceil(len(rows) / self.count)
        shard = rows[self.rank * size : (self.rank + 1) * size]
        return (shard, True) if len(shard) else (rows[:1], False)

    def passes(self, parts: Sequence[Tensor], counts: bool) -> Iterator[tuple[Tensor, bool, bool]]:
        """Each of ``parts``, whether it counts, and whether it is the last.

        FSDP needs the same number of passes on every process: a process with fewer parts repeats its first, with
        weight 0.
        """
        most = max(self.gather(len(parts))) if self.sharded else len(parts)
        for number in range(most):
            exists = number < len(parts)
            yield parts[number] if exists else parts[0], counts and exists, number == most - 1

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part of the loss; over all parts and processes they sum up."""
        # DDP and FSDP average gradients over processes; times their number is the sum
        with lost_process_named():
            self.accelerator.backward(loss * self.count if self.count > 1 else loss)

    def syncing(self, last: bool) -> AbstractContextManager[None]:
        """Inside, processes exchange gradients only if this pass is the ``last`` before a step."""
        if last or self.count == 1:
            return nullcontext()
        no_exchange: AbstractContextManager[None] = self.accelerator.no_sync(self.prepared)
        return no_exchange

    def clip(self, weights: Iterable[Tensor], norm: float) -> float:
        """Scale the gradients down to this norm; return the norm that they had."""
        before = self.accelerator.clip_grad_norm_(list(weights), norm)
        return float(full_tensor(before))

    def gather(self, value: T) -> list[T]:
        """``value`` of every process, in their order; any value that can be pickled, tensors on the CPU."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        with lost_process_named():
            torch.distributed.all_gather_object(values, value)
        return values

    def sum(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Each number's sum over the processes."""
        gathered = self.gather(dict(numbers))
        return {name: sum(values[name] for values in gathered) for name in numbers}

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true on any process."""
        return any(self.gather(flag))

    def agree(self, value: object, what: str) -> None:
        """Raise KelletError unless all processes have the same ``value``."""
        values = self.gather(value)
        if any(other != values[0] for other in values):
            listed = ", ".join(f"process {number} has {other}" for number, other in enumerate(values))
            raise KelletError(f"processes differ in {what}: {listed}; all machines must see the same files and code")


@contextmanager
def lost_process_named() -> Iterator[None]:
    """Raise KelletError where a collective operation fails: that is how processes notice that another has died."""
    try:
        yield
    except RuntimeError as error:
        message = str(error).lower()  # gloo raises a plain RuntimeError
        if not isinstance(error, torch.distributed.DistError) and not any(word in message for word in LOST):
            raise
        raise KelletError(
            "another process of this training is gone; its own message, or the launcher's, says why. Start again to go "
            f"on from the newest checkpoint ({str(error).splitlines()[0]})"
        ) from error


def true_everywhere(flag: bool) -> bool:
    """Under FSDP, whose passes need all processes, whether ``flag`` is true on each of them; elsewhere, ``flag``."""
    from accelerate.state import AcceleratorState

    if not AcceleratorState._shared_state or AcceleratorState().distributed_type.value != "FSDP":
        return flag
    flags: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(flags, flag)
    return all(flags)


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor that FSDP has sharded, gathered (every process must call this); any other tensor as it is."""
    gathered: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return gathered


def full_linear(linear: nn.Linear) -> nn.Linear:
    """A copy of a linear layer on the CPU, its weights gathered; every process must call this."""
    copy = nn.Linear(linear.in_features, linear.out_features)
    copy.load_state_dict({name: full_tensor(weight.detach()) for name, weight in linear.named_parameters()})
    return copy


@torch.no_grad()
def set_weight(weight: Tensor, value: Tensor) -> None:
    """Set ``weight``, sharded or not, to the full tensor ``value``."""
    weight.copy_(shard_like(weight, value))


def shard_like(weight: Any, value: Tensor) -> Tensor:
    """The full tensor ``value`` on the device of ``weight``, and sharded like it."""
    if not hasattr(weight, "full_tensor"):
        return value.to(weight.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)


def on_cpu() -> bool:
    """Whether to compute on the CPU: without an accelerator, and on a Mac unless its GPU is asked for by name.

    Apple's MPS has no float64 and few of its results are the CPU's.
    """
    if not torch.accelerator.is_available():
        return True
    found, wanted = torch.accelerator.current_accelerator(), os.environ.get(DEVICE, "")
    if wanted not in ("", "cpu", "mps"):
        raise ConfigError(f"{DEVICE} is {wanted!r}; wanted cpu, or mps for the GPU of a Mac")
    return wanted == "cpu" or (found is not None and found.type == "mps" and wanted != "mps")


def device_of(model: nn.Module) -> torch.device:
    """The device of the weights of ``model``."""
    return next(model.parameters()).device


def dtype_for(device: torch.device, wanted: str = "auto") -> torch.dtype:
    """The number format of the frozen weights for a value of ``base_model.dtype``.

    Raises ConfigError for bfloat16 on a device that would emulate it, about a hundred times slower.
    """
    if wanted == "float32":
        return torch.float32
    if device.type == "cpu":
        instructions = {name for name, supported in torch.cpu.get_capabilities().items() if supported}
        native = wanted != "auto" and any("bf16" in name for name in instructions)
    else:
        native = device.type == "xpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "bfloat16" and not native:
        raise ConfigError(
            f"base_model.dtype is bfloat16, for which this {device.type} has no instructions; set it to float32"
        )
    return torch.bfloat16 if native else torch.float32
