"""The memory that a run needs, estimated before it starts: of each step, and the largest batch that fits.

There are no formulas per architecture: the model is built on PyTorch's meta device, where tensors have shapes and no
storage, one step runs there, and the tensors that autograd keeps for the backward pass are added up. Sequences are
counted at their longest, ``max_prompt_tokens + max_response_tokens``. The base is counted in the ``dtype`` asked for,
adapters, their gradients and logits in float32.

The process itself, interpreter and libraries, is counted as PROCESS. Left out is the allocator's waste: a CPU process
that had not warmed up was seen to grow by 1.7 times the activations. Attention is counted as if its probabilities were
kept; fused kernels avoid that, so with them long sequences take less than estimated here.
"""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers.modeling_layers import GradientCheckpointingLayer

from kellet.config.file import check_base_path
from kellet.config.run import Config
from kellet.config.training import BaseLM
from kellet.models.architecture import recompute_layers, text_config, without_dropout
from kellet.models.next_token import CHUNK, CHUNK_TOKENS
from kellet.models.trunk import POLICY, REWARD, add_adapter

FLOAT = 4
"""Bytes of a trained number, and of a logit."""
FOUR_BITS = 4.127
"""Bits of a weight in NF4 with doubly quantised constants (Dettmers et al. 2023, section 3)."""
ADAM = 3
"""Numbers kept beside each trained weight: its gradient and Adam's two moments."""
LOGIT_COPIES = 5
"""Tensors of a chunk's logits at a time (kellet/models/next_token.py): logits and log-probabilities of policy and
reference, and their product in the full KL."""
PROCESS = 2**29
"""Bytes of a process that has loaded what training needs and no model: 0.48 GiB with the CPU build of torch."""
WIDE = 3
"""Tensors of a layer's widest size during a pass without gradient: gate, up and their product."""


class Step(NamedTuple):
    """Memory of one kind of step: ``fixed`` bytes, and ``per_row`` bytes for each of its ``rows``."""

    name: str
    rows: int
    per_row: int
    fixed: int
    setting: str
    """The parameter that sets ``rows``."""
    rows_per_unit: int = 1
    """Rows for one unit of that parameter: a pair is two."""

    @property
    def total(self) -> int:
        """Bytes of the step with the configured ``rows``."""
        return self.fixed + self.rows * self.per_row

    def largest(self, memory: int) -> int:
        """The largest value of ``setting`` that fits into ``memory`` bytes; 0 when none does."""
        return max(0, (memory - self.fixed) // (self.per_row * self.rows_per_unit))


class Memory(NamedTuple):
    """An estimate for one configuration; bytes."""

    weights: int
    """Of the base, and of the reward model's where that is another; its training holds that alone."""
    adapters: int
    optimizer: int
    """Gradients and Adam's moments of the policy's adapter, the largest that is trained."""
    steps: tuple[Step, ...]
    process: int = PROCESS
    """Beside the tensors, on the host."""


def estimate(config: Config, dtype: torch.dtype = torch.float32, processes: int = 1) -> Memory:
    """Memory of reward-model training and PPO under ``config``, the frozen base in ``dtype``.

    Where ``processes`` share each batch, the memory of one, with a copy of the base (DDP; FSDP shards that too). Raises
    ConfigError when the base model is not found.
    """
    config = _of_one(config, processes)
    policy, reward, text = config.policy, config.reward_model, config.text
    prompt, response = text.max_prompt_tokens, text.max_response_tokens
    model = _on_meta(config, dtype, config.base_model.path)
    weights = _weights(model, config.base_model)
    size = text_config(model)
    model = _with(model, config.policy.lora, POLICY)
    trained = _bytes(p for p in model.parameters() if p.requires_grad)
    recompute = config.base_model.gradient_checkpointing
    kept = _activations(model, lambda: _hidden(model, prompt, response), recompute, prompt + response)
    states = response * size.hidden_size
    chunk = LOGIT_COPIES * max(CHUNK_TOKENS, CHUNK // size.vocab_size) * size.vocab_size * FLOAT
    forward = WIDE * _widest(model) * (prompt + response) * dtype.itemsize
    heads = getattr(size, "num_key_value_heads", None) or size.num_attention_heads
    head = getattr(size, "head_dim", None) or size.hidden_size // size.num_attention_heads
    prefill = WIDE * _widest(model) * prompt * dtype.itemsize
    cache = 2 * size.num_hidden_layers * heads * head * (prompt + response) * dtype.itemsize
    own = None if reward.base is None else _on_meta(config, dtype, reward.base)
    own_weights = weights if own is None else _weights(own, config.base_model)
    judging = _with(model if own is None else own, reward.lora, REWARD)
    member = _bytes(p for p in judging.parameters() if p.requires_grad)
    step = _activations(judging, lambda: _hidden(judging, prompt, response), recompute, prompt + response)
    forward = max(forward, WIDE * _widest(judging) * (prompt + response) * dtype.itemsize)
    adapters = trained + member * reward.ensemble.members
    both = (weights if own is None else weights + own_weights) + adapters
    pairs = reward.micro_batch_size or reward.batch_size
    return Memory(
        both - adapters,
        adapters,
        ADAM * trained,
        (
            Step(
                "reward model, a step",
                2 * pairs,
                step,
                own_weights + member * reward.ensemble.members + ADAM * member,
                "reward_model.micro_batch_size" if reward.micro_batch_size else "reward_model.batch_size",
                rows_per_unit=2,
            ),
            Step(
                "policy, sampling (KV cache)",
                policy.batch_size,
                cache + prefill,
                both + ADAM * trained,
                "policy.batch_size",
            ),
            Step(
                "policy, scoring a rollout",
                policy.batch_size,
                2 * states * dtype.itemsize + forward,
                both + ADAM * trained + chunk,
                "policy.batch_size",
            ),
            Step(
                "policy, an update",
                policy.micro_batch_size or policy.minibatch_size,
                kept + 2 * states * FLOAT,  # the final states and their gradient
                both + ADAM * trained + chunk,
                "policy.micro_batch_size" if policy.micro_batch_size else "policy.minibatch_size",
            ),
            Step(  # candidate, champion and anchor are adapters of one trunk
                "evaluation, sampling and scoring",
                config.evaluation.batch_size,
                max(cache + prefill, 2 * states * dtype.itemsize + forward),
                both + 2 * trained + chunk,
                "evaluation.batch_size",
            ),
        ),
    )


def _of_one(config: Config, processes: int) -> Config:
    """``config`` with a process's share of each batch."""
    shares = {
        name: getattr(config, name).model_copy(
            update={size: -(-getattr(getattr(config, name), size) // processes) for size in sizes}
        )
        for name, sizes in {"policy": ("batch_size", "minibatch_size"), "reward_model": ("batch_size",)}.items()
    }
    return config.model_copy(update=shares)


def available_memory() -> int:
    """Free bytes of the GPU's memory, or of the host's where there is no GPU."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_text(memory: Memory, available: int) -> str:
    """The estimate as plain lines; ``available`` in bytes."""
    lines = [
        f"{'weights':<34}{_gib(memory.weights)}",
        f"{'adapters':<34}{_gib(memory.adapters)}",
        f"{'gradients and optimizer':<34}{_gib(memory.optimizer)}",
        f"{'the process itself, on the host':<34}{_gib(memory.process)}",
    ]
    for step in memory.steps:
        fits = step.largest(available)
        largest = f"largest {step.setting} in {available / 2**30:.1f} GiB: {fits:,}" if fits else "does not fit at all"
        lines.append(f"{step.name:<34}{_gib(step.total)}   {largest}")
    return "\n".join(lines)


def _gib(size: int) -> str:
    return f"{size / 2**30:9.3f} GiB"


def _on_meta(config: Config, dtype: torch.dtype, path: str | None) -> Any:
    """The causal LM at ``path``, or the small one that is trained where it is None, without storage."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from kellet.models.base_model import build_llama

    with torch.device("meta"):
        if path is None:
            tokens = SimpleNamespace(pad_token_id=0, bos_token_id=1, eos_token_id=2)
            return build_llama(config, config.base_model.vocab_size, tokens).to(dtype)
        check_base_path(config)
        settings = without_dropout(AutoConfig.from_pretrained(str(Path(path).expanduser()), trust_remote_code=False))
        return AutoModelForCausalLM.from_config(settings, dtype=dtype)


def _with(model: Any, lora: Any, name: str) -> Any:
    with torch.device("meta"):
        return add_adapter(model, lora, 0, name).train()


def _inputs(model: Any, prompt: int, response: int) -> dict[str, Tensor]:
    """One row of full length, with a mask, because a model on the meta device cannot compute one."""
    length = prompt + response
    tokens = torch.zeros(1, length, dtype=torch.long)
    mask = torch.zeros(1, 1, length, length, dtype=model.dtype)
    return {"input_ids": tokens, "position_ids": tokens, "attention_mask": mask}


def _hidden(model: Any, prompt: int, response: int) -> Tensor:
    """As ``last_hidden`` of kellet/models/trunk.py."""
    decoder = model.get_base_model().get_decoder()
    states: Tensor = decoder(**_inputs(model, prompt, response), use_cache=False).last_hidden_state
    return states


def _kept(model: Any, forward: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps of ``forward`` on one row, without the model's weights."""
    weights = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def note(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor)
        return tensor

    with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in weights)


def _activations(model: Any, forward: Callable[[], Tensor], recompute: bool, length: int) -> int:
    """Bytes that a row of ``length`` tokens keeps for the backward pass.

    With ``recompute`` (gradient checkpointing) these are the inputs of every layer, which autograd's hooks do not see,
    and in the backward pass one layer at a time in full.
    """
    layers = (
        [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)] if recompute else []
    )
    if not layers:
        return _kept(model, forward)
    for layer in layers:
        layer.gradient_checkpointing = False
    whole = _kept(model, forward)
    recompute_layers(model.get_base_model())
    outside = _kept(model, forward)
    inputs = len(layers) * length * int(text_config(model).hidden_size) * int(model.dtype.itemsize)
    return outside + inputs + (whole - outside) // len(layers)


def _widest(model: Any) -> int:
    """The larger side of the largest linear layer of the decoder."""
    layers = (module for module in model.get_base_model().get_decoder().modules() if hasattr(module, "base_layer"))
    return max(int(size) for layer in layers for size in layer.base_layer.weight.shape)


def _weights(model: Any, settings: BaseLM) -> int:
    """Bytes of the base's weights, and of the float32 copy of its output layer."""
    whole, output = _bytes(model.parameters()), model.get_output_embeddings()
    if settings.full_precision_output and output.weight.dtype.itemsize < FLOAT:
        whole += output.weight.numel() * FLOAT
    if settings.quantise == "none":
        return whole
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not output]
    small = sum(int(module.weight.numel()) for module in linear)
    return whole - int(model.dtype.itemsize) * small + int(small * FOUR_BITS / 8)


def _bytes(parameters: Any) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in parameters)
