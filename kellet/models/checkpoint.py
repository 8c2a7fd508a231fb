"""Checkpoints: the state from which a killed training resumes as if nothing had happened.

    OUT.checkpoints/00000012/tensors.safetensors    weights, optimizer, states of random generators
    OUT.checkpoints/00000012/state.json             everything else, the training's origin, and hashes of both files

A checkpoint is a folder that is written under another name, flushed to disk and renamed, so a folder with its final
name is complete. The newest two are kept. ``origin`` identifies the training: its parameters, the hashes of its inputs
and the versions of the libraries. A checkpoint of another origin is refused, and the error names the difference.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import kellet
from kellet.errors import DataError, InputError
from kellet.files import atomic_folder, content_hash, value_hash
from kellet.manifest import content_of, differences
from kellet.models.devices import shard_like
from kellet.models.finite import all_finite, require_finite_weights

KEPT = 2
LIBRARIES = ("torch", "transformers", "peft")
ROOMS = ("models", "reward", "policy")
"""Rooms of the package whose code decides what a training computes."""
logger = logging.getLogger(__name__)


class Checkpoint(NamedTuple):
    """The state after ``step`` steps."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    """JSON values; floats come back exactly as they were."""


class Checkpoints:
    """The checkpoints of the training whose output is ``out``; a folder beside it until it is written."""

    def __init__(self, out: Path, origin: Mapping[str, Any]) -> None:
        self.folder = out.with_name(f"{out.name}.checkpoints")
        self.origin: dict[str, Any] = json.loads(json.dumps(origin))  # as it is after writing and reading

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Write the checkpoint of ``step``, atomically, and drop all but the newest two.

        Raises KelletError, and leaves the others, when a tensor holds a number that is not finite.
        """
        require_finite_weights(tensors, f"the checkpoint of step {step}")
        with atomic_folder(self.folder / f"{step:08d}") as folder:
            file = folder / "tensors.safetensors"
            save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, file)
            written = {"step": step, "tensors_sha256": content_hash(file), "origin": self.origin, "state": state}
            text = json.dumps(written | {"sha256": value_hash(json.loads(json.dumps(written)))})
            (folder / "state.json").write_text(text, encoding="utf-8")
        for old in _older(self._steps(), self.folder):
            shutil.rmtree(old)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint, or the one before where it is damaged or not finite; None when there is none.

        Raises InputError when it is of another origin, DataError when there are checkpoints and none can be read.
        """
        steps = self._steps()
        for folder in reversed(steps):
            try:
                return self._read(folder)
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                # the rename was atomic, so this is damage of a later day; the previous checkpoint is still valid
                logger.warning("%s cannot be read and is passed over: %s", folder, error)
        if steps:
            raise DataError(
                f"no checkpoint in {self.folder} can be read; delete the folder to start from the beginning"
            )
        return None

    def remove(self) -> None:
        """Drop all: the training is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*") if path.name.isdigit())

    def _read(self, folder: Path) -> Checkpoint:
        written = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if written.pop("sha256", None) != value_hash(written):
            raise ValueError("state.json is not what was written")
        if differing := list(differences(written["origin"], self.origin)):
            raise InputError(
                f"{folder} is of another training: {'; '.join(differing)}. Go on with what it was made with, name "
                f"another output, or delete {self.folder} to start from the beginning"
            )
        file = folder / "tensors.safetensors"
        if content_hash(file) != written["tensors_sha256"]:
            raise ValueError(f"{file.name} is not what was written")
        tensors = load_file(file)
        if not all(map(all_finite, tensors.values())):
            raise ValueError(f"{file.name} holds numbers that are not finite")
        return Checkpoint(written["step"], tensors, written["state"])


def origin_of(parameters: Mapping[str, Any], **inputs: Path | str) -> dict[str, Any]:
    """The origin of a training: ``parameters``, the hash of each input, and versions of libraries and of the code.

    An input is a file; a model's folder, of which weights, configuration, tokenizer and chat template count, not the
    records of how it was made; or the hub name of a model, which is kept as it is.
    """
    versions = {"kellet": kellet.__version__, **{name: version(name) for name in LIBRARIES}}
    contents = {name: content_of(Path(source)) for name, source in inputs.items()}
    package = Path(kellet.__file__).parent
    code = value_hash({str(file.relative_to(package)): content_hash(file) for file in _code(package)})
    return {"parameters": dict(parameters), "content": contents, "version": versions | {"code": code}}


def _code(package: Path) -> list[Path]:
    return sorted(file for room in ROOMS for file in (package / room).glob("*.py"))


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Moments and step counts of an optimizer such as Adam, as ``optimizer.NUMBER OF THE WEIGHT.NAME``."""
    state = optimizer.state_dict()["state"]
    return {f"optimizer.{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Restore what :func:`optimizer_tensors` returned; learning rates stay those of ``optimizer``."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer."):
            _, number, name = key.split(".")
            # a moment is sharded like its weight; the step count is one number
            weight = weights[int(number)]
            state.setdefault(int(number), {})[name] = (
                shard_like(weight, tensor) if tensor.shape == weight.shape else tensor
            )
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _older(steps: list[Path], folder: Path) -> list[Path]:
    """All but the newest two, and what kills have left half-written."""
    return [*steps[:-KEPT], *folder.glob(".*")]
