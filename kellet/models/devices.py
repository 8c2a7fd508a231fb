"""Where a training computes: on one process or many, on the CPU or on GPUs, by Hugging Face Accelerate.

    python -m kellet train-policy                                     one process
    accelerate launch --config_file X -m kellet train-policy          as many as X says: DDP or FSDP

Every process holds the same random stream, the same rollout of the whole batch and the same history; only passes
through the model are divided. So what is computed from the whole batch (whitening, metrics, β) needs no thought about
processes, and the same batch gives the same training on one process and on many. Process 0 alone writes and tells.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from kellet.errors import ConfigError, InputError, KelletError

T = TypeVar("T")


LOST = ("gloo", "nccl", "remote worker", "connection closed by peer", "connection reset by peer")
"""Words of a backend whose other side is gone."""


class Whole(nn.Module):
    """All that a training computes with, as one module whose forward pass is any function of its parts.

    DDP and FSDP act where a module is called; sampling, scoring and the loss are each one call.
    """

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, call: Callable[[], T]) -> T:
        """Give what ``call`` gives."""
        return call()


class Devices:
    """The processes of a training and the device of this one.

    ``unused``: there are backward passes that do not reach every trained weight, which DDP has to be told.
    """

    def __init__(self, unused: bool = False) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs

        ddp = DistributedDataParallelKwargs(find_unused_parameters=unused)
        # several processes without a GPU would each train alone if Accelerate were not told that the CPU is meant
        self.accelerator = Accelerator(cpu=not torch.accelerator.is_available(), kwargs_handlers=[ddp])
        if self.accelerator.distributed_type.value == "DEEPSPEED":
            raise InputError("DeepSpeed cannot train here yet; take an accelerate config of FSDP (docs/use/scale.md)")
        self.count, self.rank = self.accelerator.num_processes, self.accelerator.process_index
        self.device: torch.device = self.accelerator.device
        self.prepared: Any = None

    @property
    def main(self) -> bool:
        """Whether this process writes and tells."""
        return bool(self.rank == 0)

    @property
    def sharded(self) -> bool:
        """Whether each process holds a part of the weights."""
        return bool(self.accelerator.distributed_type.value == "FSDP")

    def prepare(self, optimizer: torch.optim.Optimizer, *parts: nn.Module) -> torch.optim.Optimizer:
        """Put ``parts`` on the device, spread as configured, for :meth:`run`; give the optimizer to use from now on."""
        if self.sharded and self.prepared is not None:
            raise InputError(
                "FSDP divides a model once, and an ensemble is fitted member by member; set "
                "reward_model.ensemble.members to 1, or take a config of DDP"
            )
        self.prepared, optimizer = self.accelerator.prepare(Whole(*parts), optimizer)
        return optimizer

    def run(self, call: Callable[[], T]) -> T:
        """Give what ``call`` gives; it may use the model. Every process has to come here."""
        with lost_process_named():
            found: T = call() if self.prepared is None else self.prepared(call)
        return found

    def share(self, rows: int, name: str) -> slice:
        """The rows of a batch that are for this process to compute.

        Raises InputError where the processes cannot share it evenly; ``name`` is the setting.
        """
        if rows % self.count:
            raise InputError(f"{name} is {rows}, which {self.count} processes cannot share; take a multiple of them")
        size = rows // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def spread(self, rows: Tensor) -> tuple[Tensor, bool]:
        """The part of ``rows`` that is for this process to compute, and whether it counts.

        Processes wait for each other, so that one for which nothing is left repeats a row that does not count.
        """
        size = math.ceil(len(rows) / self.count)
        own = rows[self.rank * size : (self.rank + 1) * size]
        return (own, True) if len(own) else (rows[:1], False)

    def passes(self, parts: Sequence[Tensor], counts: bool) -> Iterator[tuple[Tensor, bool, bool]]:
        """Each of ``parts``, whether it counts, and whether it is the last.

        FSDP needs equally many on every process: the first is repeated then, and does not count.
        """
        most = max(self.gather(len(parts))) if self.sharded else len(parts)
        for number in range(most):
            there = number < len(parts)
            yield parts[number] if there else parts[0], counts and there, number == most - 1

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part of the loss; those of all parts on all processes sum up."""
        # what averages gradients over processes is told their number
        with lost_process_named():
            self.accelerator.backward(loss * self.count if self.count > 1 else loss)

    def syncing(self, last: bool) -> AbstractContextManager[None]:
        """Inside, a forward and backward pass exchanges gradients only where it is the ``last`` before a step."""
        if last or self.count == 1:
            return nullcontext()
        found: AbstractContextManager[None] = self.accelerator.no_sync(self.prepared)
        return found

    def clip(self, weights: Iterable[Tensor], norm: float) -> float:
        """Scale the gradients down to this norm; the norm they had."""
        found = self.accelerator.clip_grad_norm_(list(weights), norm)
        return float(full_tensor(found))

    def gather(self, value: T) -> list[T]:
        """``value`` of every process, in their order; tensors on the CPU, or what can be pickled."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        with lost_process_named():
            torch.distributed.all_gather_object(found, value)
        return found

    def sum(self, numbers: Mapping[str, float]) -> dict[str, float]:
        """Each number's sum over the processes."""
        each = self.gather(dict(numbers))
        return {name: sum(own[name] for own in each) for name in numbers}

    def any(self, flag: bool) -> bool:
        """Whether it is so on any process."""
        return any(self.gather(flag))

    def agree(self, value: object, what: str) -> None:
        """Raise KelletError unless all processes have the same ``value``."""
        each = self.gather(value)
        if any(other != each[0] for other in each):
            told = ", ".join(f"process {number} has {other}" for number, other in enumerate(each))
            raise KelletError(f"processes differ in {what}: {told}; all machines must see the same files and code")


@contextmanager
def lost_process_named() -> Iterator[None]:
    """Raise KelletError where a collective operation fails, which is how the others hear that a process has died."""
    try:
        yield
    except RuntimeError as error:
        told = str(error).lower()  # gloo's errors have no class of their own
        if not isinstance(error, torch.distributed.DistError) and not any(word in told for word in LOST):
            raise
        raise KelletError(
            "another process of this training is gone; its own message, or the launcher's, says why. Start again to go "
            f"on from the newest checkpoint ({str(error).splitlines()[0]})"
        ) from error


def true_everywhere(flag: bool) -> bool:
    """Whether it is so on every process of a training whose passes need all of them (FSDP); elsewhere, ``flag``."""
    from accelerate.state import AcceleratorState

    if not AcceleratorState._shared_state or AcceleratorState().distributed_type.value != "FSDP":
        return flag
    each: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(each, flag)
    return all(each)


def full_tensor(tensor: Tensor) -> Tensor:
    """A tensor that FSDP has divided, put together again; every process has to come here. Others are given back."""
    found: Tensor = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
    return found


def full_linear(linear: nn.Linear) -> nn.Linear:
    """A linear layer put together again, on the CPU; every process has to come here."""
    found = nn.Linear(linear.in_features, linear.out_features)
    found.load_state_dict({name: full_tensor(weight.detach()) for name, weight in linear.named_parameters()})
    return found


@torch.no_grad()
def set_weight(weight: Tensor, value: Tensor) -> None:
    """Set ``weight``, divided or not, to the whole tensor ``value``."""
    weight.copy_(shard_like(weight, value))


def shard_like(weight: Any, value: Tensor) -> Tensor:
    """The whole tensor ``value`` on the device of ``weight``, and divided as it is."""
    if not hasattr(weight, "full_tensor"):
        return value.to(weight.device)
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)


def device_of(model: nn.Module) -> torch.device:
    """Where the weights of ``model`` are."""
    return next(model.parameters()).device


def dtype_for(device: torch.device, wanted: str = "auto") -> torch.dtype:
    """Of the frozen weights, as ``base_model.dtype`` wants it.

    Raises ConfigError for bfloat16 on a device that would compute it in software, about a hundred times slower.
    """
    if wanted == "float32":
        return torch.float32
    if device.type == "cpu":
        can = {name for name, there in torch.cpu.get_capabilities().items() if there}
        native = wanted != "auto" and any("bf16" in name for name in can)
    else:
        native = device.type == "xpu" or torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "bfloat16" and not native:
        raise ConfigError(
            f"base_model.dtype is bfloat16, for which this {device.type} has no instructions; set it to float32"
        )
    return torch.bfloat16 if native else torch.float32
