"""PPO here and in trl 1.10.0 on the same model, prompts, adapters and budget: ``python benchmarks/ppo_vs_trl.py``.

Random Llama (4 layers of width 256, vocabulary 2048), LoRA of rank 16 on all linear layers, 64 prompts of 32 tokens, up
to 48 new tokens, 4 epochs of one step, 2 threads, float32; each side runs in its own process. ``full``: no answer ends
before 48 tokens. ``varying``: on both sides a bias of the output layer makes the end of sequence come with probability
1/24 at each token. On a busy machine CPU seconds say more than the clock's. Needs the extra ``bench``; --trl-python
names the Python of another environment that has it.

The arithmetic limit of our side is the floating-point operations of the algorithm on tokens without padding, divided by
the rate measured here for products of matrices of the layers' size, in CPU seconds.
"""

import argparse
import itertools
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROMPTS, PROMPT_TOKENS, NEW_TOKENS, EPOCHS, RANK = 64, 32, 48, 4, 16
VOCABULARY, WIDTH, LAYERS = 2048, 256, 4
HAZARD = 1 / 24
UPDATE_KL_SHARE = 16 / PROMPTS
"""Share of the responses on which the KL of the update is measured."""


def llama(kind: type, **more: Any) -> Any:
    """A random model; the same weights in every call."""
    import torch
    from transformers import LlamaConfig

    torch.manual_seed(0)
    shape = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_hidden_layers": LAYERS}
    ids = {"pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1, "vocab_size": VOCABULARY}
    return kind(LlamaConfig(**shape, num_attention_heads=4, max_position_embeddings=128, **ids, **more))


def causal_lm(lengths: str) -> Any:
    """The base model with a bias on the end of sequence."""
    import torch
    from transformers import LlamaForCausalLM

    model = llama(LlamaForCausalLM)
    unbiased = model.lm_head
    model.lm_head = torch.nn.Linear(WIDTH, VOCABULARY, bias=True)
    with torch.no_grad():
        model.lm_head.weight.copy_(unbiased.weight)
        model.lm_head.bias.zero_()
        odds = torch.tensor(VOCABULARY * HAZARD / (1 - HAZARD))
        model.lm_head.bias[1] = odds.log() if lengths == "varying" else -30.0
    return model


def tokenizer() -> Any:
    """One token for each of the words w2, w3, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<eos>": 1} | {f"w{number}": number for number in range(2, VOCABULARY)}
    core = Tokenizer(models.WordLevel(words, unk_token="w2"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", eos_token="<eos>", padding_side="left")


def prompts() -> list[str]:
    """64 prompts of 32 words."""
    return [" ".join(f"w{2 + (37 * row + 11 * column) % 2000}" for column in range(32)) for row in range(PROMPTS)]


def kellet(lengths: str, iterations: int) -> dict[str, Any]:
    """Seconds of each iteration here, and of its phases."""
    from kellet.config.run import Config
    from kellet.config.training import Lora
    from kellet.models.heads import scalar_head
    from kellet.models.trunk import REWARD, add_adapter, load_adapter, save_adapter
    from kellet.policy.train import PPOModels, ppo
    from kellet.reward.model import Member, Scorer

    words = tokenizer()
    lora = Lora(rank=RANK)
    model = add_adapter(causal_lm(lengths), lora, 0)
    with tempfile.TemporaryDirectory() as folder:
        save_adapter(model, Path(folder))
        load_adapter(model, Path(folder), REWARD)
    text = {"max_prompt_tokens": PROMPT_TOKENS, "max_response_tokens": NEW_TOKENS, "prompt_template": "{prompt}"}
    policy = {"batch_size": PROMPTS, "minibatch_size": PROMPTS, "epochs": EPOCHS, "stop_kl": 1e9, "lora": lora}
    policy |= {"iterations": iterations, "learning_rate": 1e-5}
    config = Config.model_validate({"text": text, "policy": policy})
    scorer, used = Scorer(model, [Member(scalar_head(WIDTH, 1), REWARD)], 1), [time.process_time()]

    def progress(*_: Any) -> None:
        used.append(time.process_time())

    models = PPOModels(model, words, scorer, scalar_head(WIDTH, 0))
    history = ppo(config, models, prompts(), progress)
    phases = {name: [float(row[f"time/{name}_s"] or 0) for row in history] for name in ("sample", "score", "update")}
    tokens = statistics.mean(float(row["tokens/response_mean"] or 0) for row in history)
    rate = matmul_rate()
    return {
        "seconds": [sum(parts) for parts in zip(*phases.values(), strict=True)],
        "cpu": [after - before for before, after in itertools.pairwise(used)],
        "phases": {name: statistics.median(values[1:]) for name, values in phases.items()},
        "tokens": tokens,
        "rate": rate,
        "limit": {name: flop / rate for name, flop in operations(tokens).items()},
    }


def operations(tokens: float) -> dict[str, float]:
    """Floating-point operations of an iteration's phases, for answers of ``tokens`` on average, each as long."""
    length = PROMPT_TOKENS + tokens
    weights = LAYERS * (4 * WIDTH**2 + 3 * WIDTH * 4 * WIDTH)
    adapter = LAYERS * RANK * (4 * 2 * WIDTH + 3 * 5 * WIDTH)
    trunk, lora = 2 * PROMPTS * length * weights, 2 * PROMPTS * length * adapter
    attention = 2 * PROMPTS * length**2 * WIDTH * LAYERS  # q·k and p·v, each over half of the positions
    head = 2 * PROMPTS * tokens * WIDTH * VOCABULARY
    forward = trunk + attention
    # backward: gradients of all inputs and of the adapters' weights, of no frozen weight
    epoch = 2 * trunk + 3 * (attention + lora) + 2 * head
    update_kl = UPDATE_KL_SHARE * (forward + lora + 2 * head)
    return {
        "sample": forward + lora + head,
        "score": 2 * forward + lora + 2 * head,  # reference and reward; sampling leaves the policy's states, no logits
        "update": EPOCHS * epoch + update_kl,
    }


def matmul_rate() -> float:
    """Floating-point operations in a CPU second, the best of several products of a micro-batch with a layer."""
    import torch

    x, w, best = torch.randn(1024, WIDTH), torch.randn(4 * WIDTH, WIDTH), 0.0
    for _ in range(10):
        started = time.process_time()
        for _ in range(20):
            torch.nn.functional.linear(x, w)
        best = max(best, 20 * 2 * x.numel() * len(w) / (time.process_time() - started))
    return best


def trl(lengths: str, iterations: int) -> dict[str, Any]:
    """Seconds of each iteration of trl's PPOTrainer; policy and value model with LoRA, reward model frozen."""
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaForSequenceClassification, TrainerCallback
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    ends, used = [time.perf_counter()], [time.process_time()]

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())
            used.append(time.process_time())

    words = tokenizer()
    lora = {"r": RANK, "lora_alpha": 16, "target_modules": "all-linear"}
    value = get_peft_model(llama(LlamaForSequenceClassification, num_labels=1), LoraConfig(task_type="SEQ_CLS", **lora))
    with tempfile.TemporaryDirectory() as folder:
        settings = PPOConfig(
            output_dir=folder,
            per_device_train_batch_size=PROMPTS,
            gradient_accumulation_steps=1,
            num_mini_batches=1,
            num_ppo_epochs=EPOCHS,
            local_rollout_forward_batch_size=PROMPTS,
            total_episodes=PROMPTS * iterations,
            response_length=NEW_TOKENS,
            stop_token="eos",
            temperature=1.0,
            learning_rate=1e-5,
            num_sample_generations=0,
            save_strategy="no",
            report_to=[],
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
        )
        trainer = PPOTrainer(
            args=settings,
            processing_class=words,
            model=causal_lm(lengths),
            ref_model=None,
            reward_model=llama(LlamaForSequenceClassification, num_labels=1),
            value_model=value,
            train_dataset=Dataset.from_dict({"input_ids": [words(prompt)["input_ids"] for prompt in prompts()]}),
            eval_dataset=Dataset.from_dict({"input_ids": [words(prompts()[0])["input_ids"]]}),
            callbacks=[Clock()],
            peft_config=LoraConfig(task_type="CAUSAL_LM", **lora),
        )
        ends[0], used[0] = time.perf_counter(), time.process_time()
        trainer.train()
    seconds, cpu = ([after - before for before, after in itertools.pairwise(ticks)] for ticks in (ends, used))
    return {"seconds": seconds, "cpu": cpu}


def measure(python: str, side: str, lengths: str, *more: str) -> dict[str, Any]:
    """Run one side in its own process."""
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "OMP_NUM_THREADS": more[0], "PYTHONPATH": root, "HF_HUB_OFFLINE": "1"}
    command = [python, __file__, "--side", side, "--lengths", lengths, "--threads", *more]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def shares(result: dict[str, Any], cpu: float) -> str:
    """Each phase's share of the time and of the arithmetic limit, and how much of ``cpu`` the limit is."""
    phases, limit = result["phases"], result["limit"]
    text = ", ".join(
        f"{name} {value / sum(phases.values()):.0%} ({limit[name] / sum(limit.values()):.0%})"
        for name, value in phases.items()
    )
    least = sum(limit.values())
    return (
        f"{result['tokens']:.1f} tokens; share of time (of arithmetic): {text}; limit {least:.2f} CPU s "
        f"at {result['rate'] / 1e9:.0f} GFLOP/s, reached to {least / cpu:.0%}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trl-python", default=sys.executable)
    parser.add_argument("--side", choices=["kellet", "trl"])
    parser.add_argument("--lengths", choices=["varying", "full"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--iterations", type=int, default=4)
    given = parser.parse_args()
    if given.side:
        import torch

        torch.set_num_threads(given.threads)
        result = {"kellet": kellet, "trl": trl}[given.side](given.lengths, given.iterations)
        print(json.dumps(result | {"peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6}))
        return
    print("lengths  side    s/iteration  CPU s  samples/s  peak GB  (medians of all iterations but the first)")
    for lengths in [given.lengths] if given.lengths else ["varying", "full"]:
        rates, costs = {}, {}
        for side, python in (("kellet", sys.executable), ("trl", given.trl_python)):
            result = measure(python, side, lengths, str(given.threads), "--iterations", str(given.iterations))
            seconds = statistics.median(result["seconds"][1:])
            rates[side], costs[side] = PROMPTS / seconds, statistics.median(result["cpu"][1:])
            print(
                f"{lengths:8} {side:7} {seconds:11.2f} {costs[side]:6.2f} {rates[side]:10.2f} {result['peak']:8.2f}",
                end="  ",
            )
            print(shares(result, costs[side]) if side == "kellet" else "", flush=True)
        faster, cheaper = rates["kellet"] / rates["trl"], costs["trl"] / costs["kellet"]
        print(f"{lengths:8} kellet: {faster:.2f} times the samples per second, {cheaper:.2f} times per CPU second")


if __name__ == "__main__":
    main()
