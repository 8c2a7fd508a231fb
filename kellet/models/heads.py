"""Linear heads on the trunk's hidden states: the value head and the reward head, made, written and read.

Legend: H hidden width.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from kellet.errors import DataError
from kellet.models.finite import require_finite_weights


def scalar_head(width: int, seed: int) -> nn.Linear:
    """A linear head H -> 1 with small weights, so that its first outputs are near zero."""
    head = nn.Linear(width, 1)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(head.weight, std=0.1 / (width + 1) ** 0.5, generator=generator)
    nn.init.zeros_(head.bias)
    return head


def save_head(head: nn.Linear, path: Path, **numbers: float) -> None:
    """Write the head, and numbers by name, as safetensors."""
    tensors = {"weight": head.weight.detach().cpu().contiguous(), "bias": head.bias.detach().cpu().contiguous()}
    tensors |= {name: torch.tensor(value) for name, value in numbers.items()}
    require_finite_weights(tensors, str(path))
    save_file(tensors, path)


def load_head(path: Path) -> tuple[nn.Linear, dict[str, float]]:
    """Read what :func:`save_head` wrote. Raises DataError when it is missing or damaged."""
    if not path.exists():
        raise DataError(f"{path} does not exist; train the reward model first (kellet train-reward)")
    try:
        state = load_file(path)
        weight, bias = state.pop("weight"), state.pop("bias")
    except (SafetensorError, KeyError) as error:
        raise DataError(f"{path} is damaged ({error}); train it again, or copy it again") from error
    head = nn.Linear(weight.shape[1], 1)
    head.load_state_dict({"weight": weight, "bias": bias})
    return head.eval().requires_grad_(False), {name: float(value) for name, value in state.items()}
