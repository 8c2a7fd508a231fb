"""A training of transformers' own Trainer on a tiny random Llama, whose rows have the metrics of GRPOTrainer."""

import json
import logging
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

from kellet.live import KelletCallback, Limits

KL_FROM = 4
"""The first step whose KL is over the budget of these trainings."""


class Tokens(Dataset):
    """64 rows of four tokens."""

    def __len__(self):
        return 64

    def __getitem__(self, row):
        ids = torch.tensor([1, 2 + row % 8, 3, 2])
        return {"input_ids": ids, "labels": ids}


class Logging(Trainer):
    """Adds to each row what GRPOTrainer would log: 1 nat a response, 20 from step KL_FROM on."""

    def log(self, logs, *arguments, **named):
        if "loss" in logs:
            kl = 0.2 if self.state.global_step >= KL_FROM else 0.01
            logs |= {"reward": 1.0, "kl": kl, "completions/mean_length": 100.0}
        super().log(logs, *arguments, **named)


def train(out, *, steps=8, resume=False, cls=Logging, save_strategy="steps", **named):
    """Train into ``out``/checkpoints with a callback that writes to ``out``; the trainer and the callback."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16,
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            pad_token_id=0,
        )
    )
    args = TrainingArguments(
        output_dir=str(Path(out) / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=2,
        logging_steps=1,
        save_strategy=save_strategy,
        save_steps=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    callback = KelletCallback(out, limits=Limits(patience=3), **named)
    trainer = cls(model=model, args=args, train_dataset=Tokens(), callbacks=[callback])
    trainer.train(resume_from_checkpoint=resume)
    return trainer, callback


def report(out, **named):
    """Train as one of several processes, and leave where this one ended in ``out``."""
    logging.disable(logging.CRITICAL)
    trainer, _ = train(out, **named)
    rank = trainer.args.process_index
    (Path(out) / f"{rank}.json").write_text(json.dumps({"step": trainer.state.global_step}))
    torch.distributed.destroy_process_group()
