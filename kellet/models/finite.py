"""Nothing that is not finite is ever stepped on or saved.

One NaN in a score becomes NaN in the advantages, in the gradient and in every weight, and a checkpoint of such weights
would keep it for ever. So numbers are checked where they come in: scores, losses and gradient norms before a step,
weights before they are written.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from kellet.errors import InputError, KelletError

SHOWN = 80
"""Characters of a prompt in an error."""


def require_finite_scores(scores: Tensor, prompts: Sequence[str], scorer: str) -> None:
    """Raise InputError, naming the first prompt, unless each of ``scores`` (B,) is finite.

    ``prompts`` (B,) are what the answers were given to; ``scorer`` says who scored.
    """
    wrong = (~torch.isfinite(scores)).nonzero().flatten().tolist()
    if not wrong:
        return
    prompt, value = prompts[wrong[0]], float(scores[wrong[0]])
    shown = prompt if len(prompt) <= SHOWN else f"{prompt[:SHOWN]}…"
    raise InputError(
        f"{scorer} scores {len(wrong)} of {len(scores)} answers as no finite number, first the answer to {shown!r}: "
        f"{value}; mend what scores (a reward model: train it again with a lower reward_model.learning_rate, or set "
        "base_model.dtype to float32); nothing was learned from this batch"
    )


def require_finite_step(numbers: Mapping[str, float], learning_rate: str) -> None:
    """Raise KelletError, naming the first, unless every metric of a step that is about to be taken is finite.

    ``learning_rate`` is the parameter to lower.
    """
    for name, value in numbers.items():
        if not math.isfinite(value):
            raise KelletError(
                f"{name} is {value}: this step would make every weight so, and was not taken; lower {learning_rate}, "
                "or set base_model.dtype to float32"
            )


def require_finite_weights(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise KelletError, naming the first, when a tensor to be written holds a number that is not finite."""
    wrong = next((name for name, tensor in tensors.items() if not all_finite(tensor)), None)
    if wrong is not None:
        raise KelletError(f"{what} was not written: {wrong} holds numbers that are not finite")


def all_finite(tensor: Tensor) -> bool:
    """Whether no number of ``tensor`` is NaN or infinite."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())
