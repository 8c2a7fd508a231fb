"""Pairs per second of reward-model training: Kellet against TRL 1.10.0's RewardTrainer, in one process, by turns.

pip install -e .[bench] && python benchmarks/reward_vs_trl.py --pairs 512 --rounds 3

The same for both: a randomly initialised Llama (4 layers, width 256, vocabulary 2048), LoRA of rank 16 on all linear
layers, 16 pairs a step, AdamW, float32, prompts of 32 tokens, answers of 8 to 96 tokens (each length equally likely),
tokenised beforehand. TRL's defaults that cost time on a CPU (bf16, gradient checkpointing) are off; it is timed with
its default order of pairs and with its grouping by length. A round trains on all pairs once; loading is not timed.
Seconds are CPU seconds of the process (``--clock cpu``, meaningful on a busy machine too) or of the wall clock.
"""

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from statistics import median
from typing import Any

import torch

from kellet.config.run import Config
from kellet.reward.fitting import Fitting, LabelledPairs, add_member
from kellet.reward.model import Pairs, Scorer

Clock = Callable[[], float]
PROMPT, SHORTEST, LONGEST, VOCABULARY, PAD, EOS, BATCH = 32, 8, 96, 2048, 0, 2, 16


def sample_pairs(count: int) -> Pairs:
    """Pairs of random tokens; the last of each answer is the end of sequence."""
    generator = torch.Generator().manual_seed(0)

    def tokens(length: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()

    def answers() -> list[list[int]]:
        lengths = torch.randint(SHORTEST, LONGEST + 1, (count,), generator=generator).tolist()
        return [[*tokens(length - 1), EOS] for length in lengths]

    return Pairs([tokens(PROMPT) for _ in range(count)], answers(), answers())


def llama(kind: Any) -> Any:
    """The base as a causal LM or with TRL's classification head."""
    from transformers import LlamaConfig

    torch.manual_seed(0)
    return kind(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=4,
            max_position_embeddings=PROMPT + LONGEST,
            tie_word_embeddings=True,
            pad_token_id=PAD,
            eos_token_id=EOS,
            num_labels=1,
        )
    )


def kellet_seconds(pairs: Pairs, clock: Clock) -> float:
    """One pass over the pairs by kellet/reward/fitting.py."""
    from transformers import LlamaForCausalLM

    lora = {"rank": 16, "alpha": 32}
    settings = {"epochs": 1, "batch_size": BATCH, "length_control": "none", "lora": lora}
    config = Config.model_validate({"reward_model": settings})
    scorer = add_member(Scorer(llama(LlamaForCausalLM), [], EOS), 0, config, 0)
    fitting = Fitting(scorer, LabelledPairs(pairs), config, PAD, 0)
    scorer.model.train()
    started = clock()
    for index in fitting.batches:
        fitting.step(index)
    return clock() - started


def trl_seconds(pairs: Pairs, clock: Clock, grouped: bool) -> float:
    """One pass by TRL's trainer."""
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast
    from trl import RewardConfig, RewardTrainer

    words = {f"w{number}": number for number in range(VOCABULARY)}
    special = {"pad_token": "w0", "eos_token": "w2"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "w1")), **special)
    rows: dict[str, Any] = {
        name: [query + answer for query, answer in zip(pairs.queries, answers, strict=True)]
        for name, answers in (("chosen_ids", pairs.chosen), ("rejected_ids", pairs.rejected))
    }
    both = zip(rows["chosen_ids"], rows["rejected_ids"], strict=True)
    rows["length"] = [max(len(chosen), len(rejected)) for chosen, rejected in both]
    with tempfile.TemporaryDirectory() as folder:
        trainer = RewardTrainer(
            model=llama(LlamaForSequenceClassification),
            args=RewardConfig(
                folder,
                num_train_epochs=1,
                per_device_train_batch_size=BATCH,
                bf16=False,
                gradient_checkpointing=False,
                use_cpu=True,
                report_to=[],
                save_strategy="no",
                logging_strategy="no",
                disable_tqdm=True,
                learning_rate=1e-3,
                train_sampling_strategy="group_by_length" if grouped else "random",
                remove_unused_columns=False,  # else the column that its grouping reads is dropped
                dataloader_pin_memory=False,
            ),
            train_dataset=Dataset.from_dict(rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=16, lora_alpha=32, target_modules="all-linear", task_type="SEQ_CLS", modules_to_save=["score"]
            ),
        )
        started = clock()
        trainer.train()
        return clock() - started


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="cpu")
    given = parser.parse_args()
    clock = time.process_time if given.clock == "cpu" else time.perf_counter
    if find_spec("trl") is None:
        raise SystemExit("TRL is not installed: pip install -e .[bench]")
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    pairs = sample_pairs(given.pairs)
    timed = {
        "TRL 1.10.0, its defaults": lambda: trl_seconds(pairs, clock, grouped=False),
        "TRL 1.10.0, grouped by length": lambda: trl_seconds(pairs, clock, grouped=True),
        "Kellet": lambda: kellet_seconds(pairs, clock),
    }
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(given.rounds):
        for name, run in timed.items():
            seconds[name].append(run())
    base = median(seconds["TRL 1.10.0, its defaults"])
    setup = f"{given.pairs} pairs, {given.rounds} rounds, {given.threads} threads, {given.clock} seconds"
    print(f"{setup}, torch {torch.__version__}")
    print("| | pairs per second, median [least, most] | times TRL's default |")
    print("|---|---|---|")
    for name, runs in seconds.items():
        rates = sorted(given.pairs / run for run in runs)
        print(f"| {name} | {median(rates):.1f} [{rates[0]:.1f}, {rates[-1]:.1f}] | {base / median(runs):.2f} |")


if __name__ == "__main__":
    main()
