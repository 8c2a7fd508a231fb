"""Differences between the causal LMs of transformers, and how each is handled so that any of them can be the base.

adapters       on every linear layer of the decoder: not on the output, nor on the vision tower of a multimodal one
end of answer  the token with which the chat template ends a turn, else the tokenizer's end of sequence
padding        the tokenizer's, else the end of sequence: masks decide which tokens count, never the token itself
dropout        off in the base; an adapter has its own setting (``lora.dropout``)
"""

import contextlib
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kellet.config.training import BaseLM
from kellet.errors import ConfigError
from kellet.models.bounded_template import require_bounded
from kellet.models.chat_template import REFUSALS
from kellet.models.tokens import ENDS, end_tokens

FLOAT32 = 4
"""Bytes of a number; fewer are half precision."""
QUESTION = {"role": "user", "content": "?"}
ANSWERS = ("An anchor", "The line")
"""Two answers that end in letters of their own, whatever a template makes of them."""


def text_config(model: Any) -> Any:
    """The configuration of the text model, which a multimodal model nests in a section."""
    return model.config.get_text_config(decoder=True)


def adapter_targets(model: Any) -> dict[str, Any]:
    """Settings of peft beside ``target_modules="all-linear"``.

    GPT-2's linear layers store their weights transposed (Conv1D), and linear layers outside the decoder read no text.
    """
    from peft import PeftModel
    from transformers.pytorch_utils import Conv1D

    model = model.get_base_model() if isinstance(model, PeftModel) else model
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | Conv1D)}
    inside = {id(module) for module in model.get_decoder().modules()}
    output = model.get_output_embeddings()
    outside = [name for name, module in linear.items() if id(module) not in inside and module is not output]
    settings: dict[str, Any] = {"exclude_modules": outside} if outside else {}
    return settings | {"fan_in_fan_out": any(isinstance(module, Conv1D) for module in linear.values())}


def with_ends(tokenizer: Any, base: Path | str) -> Any:
    """``tokenizer`` with a token that ends an answer and one that pads.

    Raises ConfigError where nothing ends a sequence, or the chat template does not end.
    """
    require_bounded(tokenizer, base)
    known = tokenizer.eos_token_id
    tokenizer.eos_token = end_of_turn(tokenizer) or tokenizer.eos_token
    if tokenizer.eos_token_id is None:
        raise ConfigError(f"the tokenizer of {str(base)!r} has no eos_token: answers could not end; give it one")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    setattr(tokenizer, ENDS, tuple(dict.fromkeys(end for end in (tokenizer.eos_token_id, known) if end is not None)))
    return tokenizer


def with_ends_of(tokenizer: Any, model: Any) -> Any:
    """``tokenizer`` with the ends that the model's generation config knows beside its own: Llama 3.1 has three."""
    more = model.generation_config.eos_token_id if model.generation_config is not None else None
    more = [] if more is None else [more] if isinstance(more, int) else list(more)
    setattr(tokenizer, ENDS, tuple(dict.fromkeys([*end_tokens(tokenizer), *more])))
    return tokenizer


def end_of_turn(tokenizer: Any) -> str | None:
    """The special token that the chat template puts after an answer; None without a template or such a token.

    Gemma's chat models end a turn with <end_of_turn>; they never generate <eos>, their end of sequence. What two
    renderings that differ in the answer alone have in common at their end stands after an answer: a template may write
    answers otherwise than they are given.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    try:
        one, other = (
            str(tokenizer.apply_chat_template([QUESTION, {"role": "assistant", "content": answer}], tokenize=False))
            for answer in ANSWERS
        )
    except REFUSALS:
        return None
    same = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(reversed(one), reversed(other), strict=False))]
    after_answer = "".join(reversed(same)) if one != other else ""
    special = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    after = tokenizer(after_answer, add_special_tokens=False)["input_ids"]
    return next((special[number] for number in after if number in special), None)


def without_dropout(settings: Any) -> Any:
    """A model's configuration with every dropout probability at 0."""
    for part in (settings, settings.get_text_config(decoder=True)):
        for name, value in vars(part).items():
            if isinstance(value, float) and name.endswith(("dropout", "dropout_prob", "pdrop")):
                setattr(part, name, 0.0)
    return settings


def four_bit() -> Any:
    """Settings of a base in 4 bits (NF4, doubly quantised: Dettmers et al. 2023, QLoRA).

    Raises ConfigError without bitsandbytes.
    """
    from importlib.util import find_spec

    if find_spec("bitsandbytes") is None:
        raise ConfigError(
            "base_model.quantise is '4bit', which needs the package bitsandbytes; install it where it has a device, "
            "or set base_model.quantise to none"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if torch.cuda.is_available() else torch.float32,
    )


def as_settings_say(model: Any, settings: BaseLM) -> None:
    """Turn on what ``settings`` ask of a loaded model. Raises ConfigError as :func:`recompute_layers` does."""
    if settings.gradient_checkpointing:
        recompute_layers(model)
    output = model.get_output_embeddings()
    if settings.full_precision_output and type(output) is nn.Linear and output.weight.dtype.itemsize < FLOAT32:
        output.__class__ = Float32Output
        output.register_buffer("float32_weight", output.weight.detach().float(), persistent=False)


class Float32Output(nn.Linear):
    """An output layer that gives float32 logits of states in half precision.

    In bfloat16 a logit of 20 is rounded by up to 0.06, which a KL takes for a difference of two policies. The weight
    itself stays as it is, because input embeddings may share it; ``float32_weight`` is a copy.
    """

    float32_weight: Tensor

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  # torch's name
        """(…, V) of states (…, H)."""
        bias = None if self.bias is None else self.bias.float()
        return nn.functional.linear(input.float(), self.float32_weight, bias)


def recompute_layers(model: Any) -> None:
    """Turn on gradient checkpointing: keep only each layer's input and compute the layer again in the backward pass.

    Chen et al. 2016, arXiv:1604.06174. Raises ConfigError when transformers does not support it for this architecture.
    """
    if not model.supports_gradient_checkpointing:
        raise ConfigError(
            f"{type(model).__name__} cannot recompute its layers; set base_model.gradient_checkpointing to false"
        )
    if hasattr(model, "activation_checkpointing_enable"):  # its name in newer releases of transformers 5
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


@contextlib.contextmanager
def recomputing(model: Any) -> Iterator[None]:
    """Enable gradient checkpointing while the model stays in evaluation mode.

    transformers checkpoints in training mode only, and PPO needs evaluation mode: an adapter's dropout would make the
    first ratio differ from one. So only the flags of the layer modules are set, not those of the dropout inside them,
    and only while gradients are computed.
    """
    layers = [module for module in model.modules() if getattr(module, "gradient_checkpointing", False)]
    layers = [layer for layer in layers if not layer.training] if torch.is_grad_enabled() else []
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
