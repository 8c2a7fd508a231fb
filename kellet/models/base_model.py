"""The base model: a small Llama trained on the answers of the training split, or any causal LM given by path.

It is the reference policy, so it must imitate the answers as they are: chosen and rejected alike, unlabelled.
Saved as an ordinary ``transformers`` folder.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from kellet.config.run import Config
from kellet.config.training import BaseLM
from kellet.data.conversation import as_text
from kellet.errors import DataError
from kellet.files import atomic_folder
from kellet.manifest import write_manifest
from kellet.models.finite import require_finite_step
from kellet.models.tokens import TokenBatch, encode_prompts, encode_response, pad
from kellet.progress import Progress, quiet

SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}


def train_base(config: Config, preferences: Path, out: Path, progress: Progress = quiet) -> None:
    """Train tokenizer and base model on the training split of ``preferences`` and write the folder ``out``.

    The loss is the mean negative log-likelihood per response token (nats). Raises DataError when the training split
    is empty.
    """
    table = pd.read_parquet(preferences, columns=["prompt", "chosen", "rejected", "split"])
    table = table[table["split"] == "train"]
    if table.empty:
        raise DataError(f"{preferences} has no pair in split 'train'; prepare it again with more prompts")
    prompts = [*table["prompt"], *table["prompt"]]
    answers = [*table["chosen"], *table["rejected"]]
    torch.manual_seed(config.seed)
    tokenizer = train_tokenizer([as_text(prompt) for prompt in prompts] + answers, config.base_model.vocab_size)
    model = build_llama(config, len(tokenizer), tokenizer)
    queries = encode_prompts(tokenizer, prompts, config.text)
    responses = [encode_response(tokenizer, answer, config.text) for answer in answers]
    fit(model, queries, responses, config, progress)
    with atomic_folder(out) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_manifest(folder, "base_model")


def train_tokenizer(texts: list[str], vocab_size: int) -> Any:
    """A byte-level BPE tokenizer (Sennrich et al. 2016) trained on ``texts``; every text survives the round trip."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    start = SPECIAL["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, tokenizer.token_to_id(start))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)


def build_llama(config: Config, vocab_size: int, tokenizer: Any) -> Any:
    """A randomly initialised Llama of the size in ``config.base_model``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    size = config.base_model
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocab_size,
            hidden_size=size.width,
            intermediate_size=3 * size.width,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            max_position_embeddings=config.text.max_prompt_tokens + config.text.max_response_tokens,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def fit(
    model: Any, queries: list[list[int]], responses: list[list[int]], config: Config, progress: Progress = quiet
) -> None:
    """Minimise the negative log-likelihood of query and response by AdamW with a warm-up and cosine schedule.

    The loss covers queries as well as responses, because predicting queries teaches the words of the messages.
    """
    size = config.base_model
    optimizer = torch.optim.AdamW(model.parameters(), lr=size.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, size.steps))
    model.train()
    for step, batch in enumerate(_batches(queries, responses, size, config.seed, model.config.pad_token_id), 1):
        output = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask.long(), position_ids=batch.position_ids
        )
        loss = nn.functional.cross_entropy(
            output.logits[:, :-1][batch.attention_mask[:, 1:]],
            batch.input_ids[:, 1:][batch.attention_mask[:, 1:]],
        )
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        metrics = {"base/loss": float(loss.detach()), "base/grad_norm": float(norm)}
        require_finite_step(metrics, "base_model.learning_rate")
        optimizer.step()
        schedule.step()
        progress(step, size.steps, metrics)
    model.eval()


def warm_cosine(step: int, steps: int, warm_up: float = 0.05) -> float:
    """Learning-rate factor: linear to 1 over ``warm_up`` of the steps, then a half cosine to 0.1."""
    ramp = (step + 1) / max(1, warm_up * steps)
    return min(ramp, 0.55 + 0.45 * math.cos(math.pi * min(1.0, step / steps)))


def _batches(
    queries: list[list[int]], responses: list[list[int]], size: BaseLM, seed: int, pad_id: int
) -> Iterator[TokenBatch]:
    """``size.steps`` random batches of texts of similar length, so that little time goes into padding."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([len(q) + len(r) for q, r in zip(queries, responses, strict=True)], dtype=torch.float)
    yielded = 0
    while True:
        order = torch.argsort(lengths + 4 * torch.rand(len(lengths), generator=generator))
        chunks = order.split(size.batch_size)
        for number in torch.randperm(len(chunks), generator=generator).tolist():
            if yielded == size.steps:
                return
            yielded += 1
            chosen = chunks[number].tolist()
            yield pad([queries[i] for i in chosen], [responses[i] for i in chosen], pad_id)
