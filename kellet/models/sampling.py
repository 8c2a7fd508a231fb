"""Sampling responses from the policy's own distribution, softmax(logits/T) at its temperature: no top-k, no top-p."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kellet.config.training import BaseLM, Text
from kellet.errors import KelletError
from kellet.manifest import check_manifest
from kellet.models.devices import Devices, device_of, true_everywhere
from kellet.models.tokens import TokenBatch, decode, encode_prompts, end_tokens, pad
from kellet.models.trunk import drop_rows, load_adapter, load_base, logits_of, next_states


def sample(
    model: Any, tokenizer: Any, queries: Sequence[Sequence[int]], max_new_tokens: int, uniforms: Tensor | None
) -> TokenBatch:
    """Continue each query until end of sequence or ``max_new_tokens``; greedily when ``uniforms`` is None.

    ``uniforms`` (B, max_new_tokens) of :func:`draw_uniforms` decide every token. A response that was cut off has no end
    of sequence, see :func:`truncated`. The batch is on the CPU.
    """
    return sample_states(model, tokenizer, queries, max_new_tokens, uniforms)[0]


@torch.no_grad()
def sample_states(
    model: Any, tokenizer: Any, queries: Sequence[Sequence[int]], max_new_tokens: int, uniforms: Tensor | None
) -> tuple[TokenBatch, Tensor]:
    """As :func:`sample`, and the final hidden states (B, R, H) that each response token was drawn from.

    A row that has ended is computed no further.
    """
    from kellet.models.key_cache import preallocate

    width = max(len(query) for query in queries)
    device = device_of(model)
    start = pad(queries, [[]] * len(queries), tokenizer.pad_token_id).to(device)
    ids, mask = start.input_ids[:, :width], start.attention_mask[:, :width].long()
    positions, cache = start.position_ids[:, :width], None
    running = torch.arange(len(queries), device=device)
    responses = torch.full((len(queries), max_new_tokens), tokenizer.pad_token_id, device=device)
    if uniforms is not None and device.type != "mps":
        uniforms = uniforms.to(device)
    states: list[Tensor] = []
    ends = torch.tensor(end_tokens(tokenizer), device=device)
    for number in range(max_new_tokens):
        last, cache = next_states(model, ids, mask, positions, cache)
        if number == 0:
            cache = preallocate(cache, width + max_new_tokens)
        logits = logits_of(model, last)
        token = logits.argmax(-1) if uniforms is None else _draw(logits, uniforms[running.to(uniforms.device), number])
        responses[running, number] = token
        states.append(last.new_zeros(len(queries), last.shape[1]))
        states[-1][running] = last
        going = ~torch.isin(token, ends)
        if true_everywhere(not going.any()):
            break
        # under FSDP all processes must keep running passes: row 0 stays active, its tokens after the end are masked
        going[0] |= not going.any()
        if not going.all():
            kept = going.nonzero().squeeze(1)
            running, token, mask, positions = running[kept], token[kept], mask[kept], positions[kept]
            drop_rows(cache, kept)
        ids, positions = token[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
    batch = _assemble(start, width, responses[:, : len(states)], ends)
    return batch.to(torch.device("cpu")), torch.stack(states, dim=1)


def draw_uniforms(rows: int, max_new_tokens: int, generator: torch.Generator) -> Tensor:
    """(rows, max_new_tokens) float64 uniform in [0, 1): one number for each token that may be sampled.

    A row's answer depends on its own numbers only: neither the other rows, nor when they end or where they are computed
    change it, nor does its length change what ``generator`` yields next.
    """
    return torch.rand(rows, max_new_tokens, dtype=torch.float64, generator=generator)


def truncated(batch: TokenBatch, ends: Sequence[int]) -> Tensor:
    """(B,) True where the response has none of the tokens ``ends`` (:func:`kellet.models.tokens.end_tokens`)."""
    return ~(torch.isin(batch.responses, torch.tensor(ends)) & batch.response_mask).any(1)


def load_policy(
    base: Path | str, adapter: Path, temperature: float = 1.0, settings: BaseLM | None = None
) -> tuple[Any, Any]:
    """(model, tokenizer) of a base model with a policy adapter, for inference at the policy's temperature.

    On the device that a training on this machine would take, in the number format of ``settings``.
    """
    check_manifest(adapter.parent, base=base)
    devices = Devices()
    model, tokenizer = load_base(base, settings, devices.device, temperature)
    model = load_adapter(model, adapter)
    devices.place(model)
    return model, tokenizer


def generate_text(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    text: Text,
    seed: int | None,
    batch_size: int = 64,
    whole: bool = True,
) -> list[str]:
    """One response to each prompt: greedy when ``seed`` is None, else sampled with that seed.

    ``whole``: a chat template may leave nothing out (:func:`kellet.models.tokens.encode_prompt`).
    """
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    encoded, responses = encode_prompts(tokenizer, prompts, text, whole), list[str]()
    for begin in range(0, len(prompts), batch_size):
        queries = encoded[begin : begin + batch_size]
        uniforms = None if generator is None else draw_uniforms(len(queries), text.max_response_tokens, generator)
        batch = sample(model, tokenizer, queries, text.max_response_tokens, uniforms)
        responses += decode(tokenizer, batch.responses, batch.response_mask)
    return responses


def _draw(logits: Tensor, uniforms: Tensor) -> Tensor:
    """(B,) tokens by inversion: where the distribution function F of softmax(logits) exceeds ``uniforms`` (B,)."""
    # the v with F(v - 1) <= u F(V) < F(v), so that a token without probability is never drawn
    probabilities, device = logits.float().softmax(-1), logits.device
    if device.type == "mps":  # has no float64
        probabilities, uniforms = probabilities.cpu(), uniforms.cpu()
    below = probabilities.cumsum(-1, dtype=torch.float64)
    if below[:, -1].isnan().any():
        raise KelletError(
            "the model's logits are not finite; its weights are damaged, or overflow in their number format"
        )
    passed = uniforms[:, None] * below[:, -1:]
    return torch.searchsorted(below, passed, right=True).squeeze(1).to(device)


def _assemble(start: TokenBatch, width: int, responses: Tensor, ends: Tensor) -> TokenBatch:
    end = torch.isin(responses, ends).long()
    # tokens count up to and including the first end of sequence
    response_mask = end.cumsum(1) - end == 0
    return TokenBatch(
        input_ids=torch.cat([start.input_ids[:, :width], responses], dim=1),
        attention_mask=torch.cat([start.attention_mask[:, :width], response_mask], dim=1),
        response_mask=response_mask,
    )
