"""One trunk in memory that plays four parts.

    reference  the base model, adapters off
    policy     base + LoRA adapter ``default``
    value      a linear head on the policy's hidden states
    reward     base + LoRA adapter ``reward`` + a linear head on the last token's hidden state

Legend: B rows, R response tokens, T all tokens, H hidden width, V vocabulary.
"""

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from kellet.config.training import BaseLM, Lora
from kellet.errors import ConfigError, DataError, KelletError
from kellet.manifest import check_base
from kellet.models.architecture import (
    adapter_targets,
    as_settings_say,
    four_bit,
    recomputing,
    with_ends,
    with_ends_of,
    without_dropout,
)
from kellet.models.devices import device_of, dtype_for, full_tensor
from kellet.models.finite import require_finite_weights
from kellet.models.tokens import TokenBatch, positions

POLICY = "default"
REWARD = "reward"
TEMPERATURE = "policy_temperature"
"""Attribute of a loaded causal LM."""
MESSAGE = 300  # characters of a library's message in an error
CPU_TOKENS = 1024
GPU_TOKENS = 2**16
"""Of a forward pass on a CPU and on other devices, see :func:`max_tokens_per_pass`."""


def load_base(
    base: Path | str, settings: BaseLM | None = None, device: torch.device | None = None, temperature: float = 1.0
) -> tuple[Any, Any]:
    """(model, tokenizer) of a causal LM folder or hub name; weights in safetensors only, no code from the folder.

    Dropout is off: rewards and ratios must not depend on chance. ``settings`` decides the number format on ``device``
    (None: CPU) and quantisation, ``temperature`` is that of every policy on it (:func:`logits_of`). Raises ConfigError
    where no such model can be loaded, DataError where its manifest refuses it.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    check_base(base)
    settings = settings or BaseLM()
    logging.disable_progress_bar()  # its bar would break Kellet's progress line
    options: dict[str, Any] = {"dtype": dtype_for(device or torch.device("cpu"), settings.dtype)}
    if settings.quantise != "none":
        options["quantization_config"] = four_bit()
    with unreadable_named(base):
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        architecture = without_dropout(AutoConfig.from_pretrained(base, trust_remote_code=False))
    tokenizer = with_ends(tokenizer, base)
    with unreadable_named(base):
        model = AutoModelForCausalLM.from_pretrained(
            base, config=architecture, use_safetensors=True, trust_remote_code=False, **options
        )
    as_settings_say(model, settings)
    setattr(model, TEMPERATURE, temperature)
    return model.eval(), with_ends_of(tokenizer, model)


@contextlib.contextmanager
def unreadable_named(base: Path | str) -> Iterator[None]:
    """Raise ConfigError in one line when a model, its configuration or its tokenizer cannot be loaded inside."""
    try:
        yield
    except KelletError:
        raise
    except Exception as error:  # tokenizers raises Exception itself, transformers a dozen kinds
        said = " ".join(str(error).split()) or type(error).__name__
        if "trust_remote_code" in said or "custom code" in said:
            said = "it brings code of its own, and Kellet runs no code from a model's folder"
        shown = said if len(said) <= MESSAGE else f"{said[:MESSAGE]}…"
        raise ConfigError(
            f"no causal LM at {str(base)!r}: {shown}; give a local folder or a hub name, weights in safetensors"
        ) from error


def add_adapter(model: Any, lora: Lora, seed: int, name: str = POLICY) -> Any:
    """``model`` with a fresh trainable adapter on all linear layers of its decoder; it starts as the identity.

    It becomes the active adapter; others stay in the model.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    from kellet.models.fused_lora import fuse

    settings = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
        **adapter_targets(model),
    )
    with torch.random.fork_rng(), _peft_warning_ignored():
        torch.manual_seed(seed)
        if not isinstance(model, PeftModel):
            return fuse(get_peft_model(model, settings, adapter_name=name))
        model.add_adapter(name, settings)
    model.set_adapter(name)
    return model


def adapter_tensors(model: Any, name: str = POLICY) -> dict[str, Tensor]:
    """The weights of an adapter, gathered where sharded; every process must call this."""
    return {key: full_tensor(weight.detach()) for key, weight in model.named_parameters() if f".{name}." in key}


def save_adapter(model: Any, folder: Path, name: str = POLICY, tensors: dict[str, Tensor] | None = None) -> None:
    """Write one adapter as a peft folder, the same bytes every time: the sets that peft writes unordered are sorted.

    ``tensors`` of :func:`adapter_tensors`, where the model's may be sharded.
    """
    require_finite_weights(tensors or adapter_tensors(model, name), f"the adapter {folder}")
    # the default 'auto' asks the hub whether the vocabulary has grown; here it never has
    model.save_pretrained(folder, selected_adapters=[name], save_embedding_layers=False, state_dict=tensors)
    inner = folder / name
    if inner.is_dir():  # peft writes every adapter but 'default' into a folder inside
        for part in inner.iterdir():
            part.rename(folder / part.name)
        inner.rmdir()
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text(encoding="utf-8"))
    for field in ("target_modules", "exclude_modules"):
        settings[field] = settings[field] and sorted(settings[field])
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_adapter(model: Any, folder: Path, name: str = POLICY) -> Any:
    """``model`` with the adapter of ``folder`` added under ``name``, for inference.

    Raises DataError when the folder has no adapter in safetensors, or one that does not fit the model.
    """
    from peft import PeftModel

    from kellet.models.fused_lora import fuse

    for part in ("adapter_config.json", "adapter_model.safetensors"):
        if not (folder / part).is_file():
            raise DataError(f"{folder} has no {part}; give the folder of a LoRA adapter in safetensors (never .bin)")
    try:
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), adapter_name=name)
            return model
        with _peft_warning_ignored():
            return fuse(PeftModel.from_pretrained(model, str(folder), adapter_name=name)).eval()
    except (RuntimeError, ValueError, TypeError, KeyError, SafetensorError) as error:
        said = " ".join(str(error).split())[:MESSAGE]
        raise DataError(f"the adapter in {folder} cannot be loaded onto this base: {said}") from error


@contextlib.contextmanager
def _peft_warning_ignored() -> Iterator[None]:
    """Ignore the warning that peft 0.21 asks transformers 5.23 for a property under its old name."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        yield


@contextlib.contextmanager
def use_adapter(model: Any, adapter: str | None) -> Iterator[None]:
    """Make this adapter the active one inside; None turns all off, which gives the reference bit for bit."""
    if adapter is None:
        with model.disable_adapter():
            yield
        return
    before = model.active_adapter
    model.set_adapter(adapter)
    try:
        yield
    finally:
        model.set_adapter(before)


def response_states(model: Any, batch: TokenBatch) -> Tensor:
    """(B, R, H) the decoder's final hidden states that predict each response token."""
    width = batch.response_mask.shape[1]
    batch = batch.to(device_of(model))
    return _final_states(model, batch.input_ids, batch.attention_mask)[:, -width - 1 : -1]


@torch.no_grad()
def all_response_states(model: Any, batch: TokenBatch) -> Tensor:
    """:func:`response_states` without gradient, rows of similar length at a time; zero outside the mask."""
    batch = batch.to(device_of(model))
    result: Tensor | None = None
    for rows in batch.length_groups(max_tokens_per_pass(batch.input_ids.device)):
        part = batch.rows(rows)
        states = response_states(model, part)
        if result is None:
            result = states.new_zeros(*batch.response_mask.shape, states.shape[-1])
        result[rows, : states.shape[1]] = states * part.response_mask[..., None]
    assert result is not None  # noqa: S101
    return result


def next_states(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, cache: Any | None) -> tuple[Tensor, Any]:
    """(B, H) final hidden states of each row's last token, and the cache of keys and values with ``ids`` (B, n) added.

    ``mask`` (B, T) is of all tokens so far, ``positions`` (B, n) of the new ones.
    """
    output = _causal_lm(model).get_decoder()(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
    )
    return output.last_hidden_state[:, -1], output.past_key_values


def drop_rows(cache: Any, kept: Tensor) -> None:
    """Keep only the rows of ``kept`` in a cache."""
    cache.reorder_cache(kept)  # it accepts fewer rows than the cache has


def logits_of(model: Any, states: Tensor) -> Tensor:
    """(N, V) logits of final hidden states (N, H), over the temperature that the model was loaded with.

    Everything that samples, scores or compares policies goes through here, so that π = softmax(logits/T) is one and the
    same distribution everywhere. The causal LM runs with the decoder's output replaced by the states, because
    architectures differ in what follows the decoder: a bias, a scale, a soft cap.
    """
    causal = _causal_lm(model)
    output = _DecoderOutput(states[None])
    with _forward_replaced(causal.get_decoder(), lambda *_, **__: output):
        logits: Tensor = causal(inputs_embeds=states[None], use_cache=False).logits[0]
    temperature = getattr(causal, TEMPERATURE, 1.0)
    return logits if temperature == 1.0 else logits / temperature


def last_hidden(model: Any, batch: TokenBatch) -> Tensor:
    """(B, H) hidden state at each row's last response token, rows of similar length at a time; float32."""
    batch = batch.to(device_of(model))
    order = batch.length_groups(max_tokens_per_pass(batch.input_ids.device))
    states = []
    for part in map(batch.rows, order):
        ids, mask = part.tight()
        states.append(_final_states(model, ids, mask)[:, -1])
    return torch.cat(states)[torch.cat(order).argsort()].float()


def max_tokens_per_pass(device: torch.device) -> int:
    """Tokens, padding included, in one forward pass where no parameter sets it.

    A CPU is fastest while a layer's activations stay in its caches; elsewhere the bound keeps them within some GiB.
    """
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


def _final_states(model: Any, ids: Tensor, mask: Tensor) -> Tensor:
    """(B, T, H) the decoder's last hidden states; those of the layers before it are not kept."""
    with recomputing(model):
        output = _causal_lm(model).get_decoder()(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions(mask),
            use_cache=False,
        )
    states: Tensor = output.last_hidden_state
    return states


class _DecoderOutput:
    """A decoder's output that has only the last hidden states, by name or as its first item."""

    def __init__(self, states: Tensor) -> None:
        self.last_hidden_state = states

    def __getattr__(self, _: str) -> None:
        return None

    def __getitem__(self, index: Any) -> Any:
        return (self.last_hidden_state,)[index]


def _causal_lm(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


@contextlib.contextmanager
def _forward_replaced(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    wrapped = module.__dict__.get("forward")  # set where a library has wrapped it
    module.forward = forward
    try:
        yield
    finally:
        if wrapped is None:
            del module.forward
        else:
            module.forward = wrapped
