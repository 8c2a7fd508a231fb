"""KelletCallback in TRL's own trainers (``pip install -e '.[bench]'``): GRPO and RLOO on a tiny random Llama."""

import warnings

import pytest

from kellet.diagnosis.history import read_history
from kellet.live import KelletCallback, Limits

pytestmark = pytest.mark.trl
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    trl = pytest.importorskip("trl", reason="needs the extra 'bench'", exc_type=ImportError)

WORDS = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{number}" for number in range(60))]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a tiny random Llama and a tokenizer of words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate(WORDS)}
    words = Tokenizer(models.WordLevel(numbers, unk_token=WORDS[3]))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("base")
    special = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), WORDS, strict=False))
    PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=len(WORDS), pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def counted(completions, **_):
    return [float(text.count("w1")) for text in completions]


def train(base, out, name, steps, resume=False, **named):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    settings = {"max_steps": steps, "per_device_train_batch_size": 4, "num_generations": 4, "max_completion_length": 8}
    settings |= {"learning_rate": 5e-2, "beta": 0.01, "logging_steps": 1, "save_steps": 2, "report_to": []}
    settings |= {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "disable_tqdm": True}
    callback = KelletCallback(out, limits=Limits(patience=3, kl_budget=named.pop("kl_budget", 8.0)), **named)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = getattr(trl, f"{name}Trainer")(
            model=AutoModelForCausalLM.from_pretrained(base),
            reward_funcs=counted,
            args=getattr(trl, f"{name}Config")(output_dir=str(out / "checkpoints"), **settings),
            train_dataset=Dataset.from_dict({"prompt": [f"w{number} w{number + 1}" for number in range(40)]}),
            processing_class=AutoTokenizer.from_pretrained(base),
            callbacks=[callback],
        )
        trainer.train(resume_from_checkpoint=resume)
    return trainer, callback


@pytest.mark.parametrize(("name", "estimator"), [("GRPO", "k3"), ("RLOO", "k1")])
def test_history_and_resume(base, tmp_path, name, estimator):
    trainer, _ = train(base, tmp_path, name, 3)
    logged = [row for row in trainer.state.log_history if "kl" in row]
    rows = read_history(tmp_path / "history.jsonl")
    assert [row["iteration"] for row in rows] == [1, 2, 3]
    for theirs, ours in zip(logged, rows, strict=True):
        assert ours["objective/reward"] == theirs["reward"]
        nats = theirs["kl"] * theirs["completions/mean_length"]
        assert ours[f"objective/kl_{estimator}"] == pytest.approx(nats)
        # RLOO's beta is a price in reward; GRPO's is one in rewards over their spread, so it is left out
        assert ours.get("objective/kl_coef") == (0.01 if name == "RLOO" else None)
    train(base, tmp_path, name, 4, resume=str(tmp_path / "checkpoints" / "checkpoint-2"))
    assert [row["iteration"] for row in read_history(tmp_path / "history.jsonl")] == [1, 2, 3, 4]


def test_stop_on_ends_it(base, tmp_path):
    trainer, callback = train(base, tmp_path, "RLOO", 30, stop_on={"kl_over_budget"}, kl_budget=0.05)
    assert trainer.state.global_step < 30
    assert callback.stopped.startswith(f"stop at step {trainer.state.global_step}: kl_over_budget")


def test_ppo_trainer_does_not_heed_a_stop_and_that_is_told(base, tmp_path, caplog):
    """Until 1.10; β is had from the logged penalty, and KL is a sum over the response."""
    ppo = pytest.importorskip("trl.experimental.ppo", exc_type=ImportError)
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    settings = {"per_device_train_batch_size": 4, "total_episodes": 20, "response_length": 8, "stop_token": "eos"}
    settings |= {"learning_rate": 1e-2, "kl_coef": 0.05, "report_to": [], "use_cpu": True, "bf16": False}
    settings |= {"num_sample_generations": 0, "save_strategy": "no", "disable_tqdm": True}
    callback = KelletCallback(tmp_path, limits=Limits(patience=3, kl_budget=1e-3), stop_on={"kl_over_budget"})
    tokenizer = AutoTokenizer.from_pretrained(base, padding_side="left")
    scalar = [AutoModelForSequenceClassification.from_pretrained(base, num_labels=1) for _ in range(2)]
    prompts = Dataset.from_dict({"input_ids": [tokenizer(f"w{number} w2")["input_ids"] for number in range(40)]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = ppo.PPOTrainer(
            args=ppo.PPOConfig(output_dir=str(tmp_path / "ppo"), gradient_checkpointing=False, **settings),
            processing_class=tokenizer,
            model=AutoModelForCausalLM.from_pretrained(base),
            ref_model=AutoModelForCausalLM.from_pretrained(base),
            reward_model=scalar[0],
            value_model=scalar[1],
            train_dataset=prompts,
            eval_dataset=prompts,
            callbacks=[callback],
        )
        trainer.train()
    assert (trainer.state.global_step, callback.stopped is not None) == (5, True)
    assert any("goes on" in record.getMessage() for record in caplog.records)
    rows = read_history(tmp_path / "history.jsonl")
    assert [row["objective/kl_k1"] for row in rows] == [row["objective/kl"] for row in trainer.state.log_history]
    assert rows[-1]["objective/kl_coef"] == pytest.approx(0.05)
