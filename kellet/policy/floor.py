"""The KL that half precision shows where there is none.

An adapter that is the identity gives the reference bit for bit, and a KL of exactly 0. Any other moves the rounding of
every layer's numbers, and the difference of two roundings looks like a KL: on SmolLM2-135M 0.1 nats a response of 48
tokens, whatever the policy has learned (docs/measured/precision.md). So it is measured before the first step, with an
adapter so small that the KL proper is a thousandth of that and less.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from kellet.config.run import Config
from kellet.models import kl
from kellet.models.next_token import policy_vs_reference
from kellet.models.sampling import draw_uniforms, sample
from kellet.models.seeds import derived_seed
from kellet.models.tokens import encode_prompts
from kellet.models.trunk import POLICY, all_response_states, use_adapter
from kellet.policy.state import Training

RESPONSES = 16
SMALL = 1e-4
"""Size of the adapter's output beside its layer's: far below what bfloat16 tells apart (4e-3)."""
NEAR = 3.0
"""A target or budget below this many floors is warned of."""
logger = logging.getLogger(__name__)


@torch.no_grad()
def kl_floor(model: Any, tokenizer: Any, prompts: Sequence[str], config: Config) -> float | None:
    """Full KL, nats per response, that a policy of the reference's distribution shows; None where all is float32.

    Of responses of the reference to the first RESPONSES ``prompts``. The adapter is left as it was.
    """
    if not _computes_in_half(model):
        return None
    queries, limit = encode_prompts(tokenizer, prompts[:RESPONSES], config.text), config.text.max_response_tokens
    generator = torch.Generator().manual_seed(derived_seed(config.seed, "kl floor"))
    with use_adapter(model, None):
        batch = sample(model, tokenizer, queries, limit, draw_uniforms(len(queries), limit, generator))
        reference = all_response_states(model, batch)
    with _hardly_an_adapter(model, generator):
        states = all_response_states(model, batch)
    nats = policy_vs_reference(model, states, reference, batch).kl_full.cpu()
    return float(kl.per_response(nats, batch.response_mask).mean())


def floor_of(training: Training, tokenizer: Any, prompts: Sequence[str], config: Config) -> float | None:
    """:func:`kl_floor` of a training that begins, warned of; of one that goes on what its history says.

    None also under FSDP, whose sharded adapters are not written to.
    """
    if training.history:
        known = training.history[0].get("objective/kl_floor")
        return None if known is None else float(known)
    if training.devices.sharded:
        return None
    floor = training.devices.run(lambda: kl_floor(training.trunk, tokenizer, prompts, config))
    warn_of_floor(floor, config)
    return floor


def warn_of_floor(floor: float | None, config: Config) -> None:
    """Say it where a KL that the run is steered or judged by is little more than rounding."""
    if floor is None:
        return
    limits = {
        "policy.kl.target": config.policy.kl.target if config.policy.kl.controller != "fixed" else math.inf,
        "policy.stop_kl": config.policy.largest_step,
        "gate.kl_budget": config.gate.kl_budget,
    }
    for name, value in limits.items():
        if value < NEAR * floor:
            logger.warning(
                "%s is %.3g nats a response, and half precision alone shows %.3g: set base_model.dtype to float32, or "
                "read this KL as an upper bound",
                *(name, value, floor),
            )


def _computes_in_half(model: Any) -> bool:
    return any(
        weight.is_floating_point() and weight.dtype.itemsize < torch.float32.itemsize for weight in model.parameters()
    )


@contextmanager
@torch.no_grad()
def _hardly_an_adapter(model: Any, generator: torch.Generator) -> Iterator[None]:
    """The policy's adapter with random B, so small that each layer's output moves by SMALL of itself."""
    kept: list[tuple[Tensor, Tensor]] = []
    for layer in model.modules():
        if not hasattr(layer, "lora_B") or POLICY not in layer.lora_B:
            continue
        a, b, base = layer.lora_A[POLICY].weight, layer.lora_B[POLICY].weight, layer.base_layer.weight
        # rms(Wx) = |W|/√out and rms(s·BAx) = s·σ·|A|, of inputs x of unit variance; packed 4-bit weights: as if 1
        size = float(base.detach().float().norm()) / math.sqrt(b.shape[0]) if base.is_floating_point() else 1.0
        sigma = SMALL * size / (layer.scaling[POLICY] * float(a.detach().norm()))
        kept.append((b, b.clone()))
        b.copy_(sigma * torch.randn(b.shape, generator=generator))
    try:
        yield
    finally:
        for b, before in kept:
            b.copy_(before)
