"""Any causal LM of transformers as the base: tiny random models of many families through the whole pipeline.

Each differs in what has broken such pipelines: position embeddings, sliding windows with their caches, soft caps,
transposed weights, tied heads, grouped heads, dropout; and in its tokenizer: without padding, without a beginning, with
a chat template whose turns end with another token than a text.
"""

import functools
import json
import shutil
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from tokenizers import AddedToken
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PhiConfig,
    Qwen2Config,
    Qwen3Config,
    SiglipVisionConfig,
)

from kellet.config.training import BaseLM, Lora
from kellet.data.conversation import to_prompt
from kellet.errors import ConfigError
from kellet.evaluation.evaluate import Models, evaluate
from kellet.models.architecture import end_of_turn, text_config
from kellet.models.base_model import train_tokenizer
from kellet.models.memory import estimate
from kellet.models.sampling import draw_uniforms, sample, truncated
from kellet.models.tokens import encode_prompt, end_tokens, pad
from kellet.models.trunk import add_adapter, last_hidden, load_adapter, load_base, use_adapter
from kellet.policy.train import train_policy
from kellet.reward.model import load_scorer
from kellet.reward.train import train_reward
from tests.helpers import tiny
from tests.helpers.tensors import relative_error, response_outputs
from tests.helpers.tiny import perturb

GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

SIZE = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
GROUPED = SIZE | {"num_key_value_heads": 2}
LAYER = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
FAMILIES = {
    # family: (configuration, its own settings, adapted layers, tokenizer)
    "llama": (LlamaConfig, GROUPED, LAYER, {"pad": None}),
    "qwen2": (Qwen2Config, GROUPED | {"tie_word_embeddings": True}, LAYER, {"bos": None, "chat": CHATML}),
    "qwen3": (Qwen3Config, GROUPED | {"head_dim": 16}, LAYER, {"bos": None}),
    "mistral": (MistralConfig, GROUPED | {"sliding_window": 6}, LAYER, {"pad": None}),
    "gemma2": (Gemma2Config, GROUPED | {"head_dim": 8, "sliding_window": 6}, LAYER, {"chat": GEMMA}),
    "gemma3": (
        Gemma3TextConfig,
        GROUPED | {"head_dim": 8, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
        LAYER,
        {"chat": GEMMA},
    ),
    "gpt2": (GPT2Config, SIZE, {"c_attn", "c_proj", "c_fc"}, {"pad": None, "bos": "<eos>"}),
    "phi": (PhiConfig, SIZE | {"resid_pdrop": 0.1}, {"q_proj", "k_proj", "v_proj", "dense", "fc1", "fc2"}, {}),
    "gpt_neox": (
        GPTNeoXConfig,
        SIZE | {"tie_word_embeddings": True},
        {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"},
        {"bos": "<eos>", "pad": None},
    ),
}
QUERIES = [[3 + n for n in range(40, 52)], [50, 61], [60, 61, 62, 70, 71]]
RESPONSES = [[70, 71, 2], [72, 2], [73, 74, 75, 76, 77, 78, 79, 80]]
CONFIG = tiny.config(
    reward_model={"epochs": 1, "require_lift": False},
    policy={"batch_size": 8},
    evaluation={"prompts": 6, "samples": 2, "batch_size": 8},
)


def tokenizer_of(bos="<bos>", pad="<pad>", chat=None):
    tokenizer = train_tokenizer(list(tiny.pairs(24)["prompt"]), 310)
    tokenizer.bos_token, tokenizer.pad_token = bos, pad
    if chat:
        marks = ["<|im_start|>", "<|im_end|>"] if chat is CHATML else ["<start_of_turn>", "<end_of_turn>"]
        tokenizer.add_tokens([AddedToken(mark, special=True) for mark in marks], special_tokens=True)
        tokenizer.chat_template = chat
    return tokenizer


@functools.cache
def folder(family):
    """A random base model of the family, saved as transformers does."""
    configuration, settings, _, tokens = FAMILIES[family]
    tokenizer = tokenizer_of(**tokens)
    made = Path(tempfile.mkdtemp(prefix="kellet-family-"))
    torch.manual_seed(0)
    settings = configuration(
        vocab_size=len(tokenizer),
        max_position_embeddings=64,
        initializer_range=0.2,  # logits and attention that differ, not the near nothing of a fresh model
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **settings,
    )
    AutoModelForCausalLM.from_config(settings).save_pretrained(made)
    tokenizer.save_pretrained(made)
    return made


def trunk(family, **settings):
    model, tokenizer = load_base(folder(family), BaseLM(**settings))
    return perturb(add_adapter(model, Lora(rank=2), seed=0).eval()), tokenizer


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


# peft asks transformers for a property under its old name
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_the_pipeline_runs_and_what_it_writes_is_plain_peft(family, tmp_path):
    from peft import AutoPeftModelForCausalLM

    base, table, seen = folder(family), tmp_path / "preferences.parquet", {}
    pairs = tiny.pairs(40)
    talks = [to_prompt([{"role": "user", "content": prompt}]) for prompt in pairs["prompt"]]
    pairs.assign(prompt=talks).to_parquet(table, index=False)
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    train_reward(CONFIG, table, base, tmp_path / "reward")
    train_policy(CONFIG, table, base, tmp_path / "reward", tmp_path / "policy")
    evaluate(CONFIG, table, Models(base, tmp_path / "reward", tmp_path / "policy"), tmp_path / "evaluation")
    assert {file.name: file.read_bytes() for file in base.iterdir()} == before

    rows = pd.read_parquet(tmp_path / "evaluation" / "evaluation.parquet")
    assert len(rows) == 6 * 2 * 2
    assert rows["reward"].notna().all()
    assert (rows.loc[rows["system"] == "candidate", "kl_nats"] > 0).all()  # it has moved

    adapter = tmp_path / "policy" / "adapter"
    written = json.loads((adapter / "adapter_config.json").read_text())
    assert {name.rsplit(".", 1)[-1] for name in written["target_modules"]} == FAMILIES[family][2]
    batch = pad(QUERIES, RESPONSES, 0)
    model, _ = load_base(base)
    with torch.no_grad():
        seen["reference"] = response_outputs(model, batch)[0]
        model = load_adapter(model, adapter)
        load_scorer(model, tmp_path / "reward", 2)
        seen["policy"] = response_outputs(model, batch)[0]
        with use_adapter(model, None):
            assert torch.equal(response_outputs(model, batch)[0], seen["reference"])
        plain = AutoPeftModelForCausalLM.from_pretrained(adapter).eval()
        assert relative_error(response_outputs(plain, batch)[0], seen["policy"]) < 2e-6
    assert not torch.equal(seen["policy"], seen["reference"])


@torch.no_grad()
def test_padding_is_nothing_and_hidden_states_are_the_decoders(family):
    model, _ = trunk(family)
    batch = pad(QUERIES, RESPONSES, 0)
    together, hidden = response_outputs(model, batch)
    last = last_hidden(model, batch)
    for row, (query, response) in enumerate(zip(QUERIES, RESPONSES, strict=True)):
        # transformers' own forward over the one text without padding: position t predicts token t + 1
        plain = model(input_ids=torch.tensor([query + response]), output_hidden_states=True)
        width, begin = len(response), len(query) - 1
        assert relative_error(together[row, :width], plain.logits[0, begin:-1]) < 4e-4
        assert relative_error(hidden[row, :width], plain.hidden_states[-1][0, begin:-1]) < 4e-4
        assert relative_error(last[row], plain.hidden_states[-1][0, -1]) < 4e-4


@torch.no_grad()
def test_sampling_with_its_cache_is_the_models_own_distribution(family):
    model, _ = trunk(family)
    nothing_ends = SimpleNamespace(pad_token_id=0, eos_token_id=-1)
    batch = sample(model, nothing_ends, QUERIES, 12, None)  # beyond every sliding window
    for row, query in enumerate(QUERIES):
        ids = list(query)
        for _ in range(12):  # without padding, without a cache
            ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        assert batch.responses[row].tolist() == ids[len(query) :]


def test_gradients_are_the_same_when_layers_are_computed_again(family):
    batch, result = pad(QUERIES, RESPONSES, 0), []
    for again in (False, True):
        model, _ = trunk(family, gradient_checkpointing=again)
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):  # noqa: B023
            logits, _ = response_outputs(model, batch)
            loss = logits.log_softmax(-1)[..., 5].sum() + last_hidden(model, batch).sum()
        loss.backward()
        grads = [weight.grad for weight in model.parameters() if weight.requires_grad]
        result.append((torch.cat([grad.flatten() for grad in grads]), sum(kept)))
        sample(model, SimpleNamespace(pad_token_id=0, eos_token_id=2), QUERIES, 3, None)  # keeps its cache
        assert not any(module.training for module in model.modules())
    (plain, all_kept), (again, few_kept) = result
    assert float(plain.abs().max()) > 0
    assert relative_error(again, plain) < 1e-6
    assert few_kept < 0.5 * all_kept


@pytest.mark.parametrize("family", ["gpt2", "phi"])
def test_the_bases_own_dropout_is_off(family):
    batch = pad(QUERIES, RESPONSES, 0)
    model, _ = trunk(family)
    with torch.no_grad():
        assert torch.equal(last_hidden(model.train(), batch), last_hidden(model.eval(), batch))


def test_ends_and_padding_of_the_tokenizers():
    ends = {family: load_base(folder(family))[1] for family in ("llama", "qwen2", "gemma3", "gpt2")}
    assert {name: tokenizer.eos_token for name, tokenizer in ends.items()} == {
        "llama": "<eos>",
        "qwen2": "<|im_end|>",
        "gemma3": "<end_of_turn>",
        "gpt2": "<eos>",
    }
    assert {name: tokenizer.pad_token for name, tokenizer in ends.items()} == {
        "llama": "<eos>",
        "qwen2": "<pad>",
        "gemma3": "<pad>",
        "gpt2": "<eos>",
    }
    text = CONFIG.text
    talk = to_prompt([{"role": "user", "content": "hi"}])
    assert ends["gemma3"].decode(encode_prompt(ends["gemma3"], talk, text)).startswith("<bos><start_of_turn>user")
    assert ends["qwen2"].decode(encode_prompt(ends["qwen2"], talk, text)).startswith("<|im_start|>user")
    assert encode_prompt(ends["llama"], "hi", text)[0] == ends["llama"].bos_token_id


LOUD = CHATML.replace("m.content", "(m.content | trim | upper)")
STRIPPED = CHATML.replace("m.content", "(m.content | replace('An ', '') | replace('The ', ''))")
DEAF = CHATML.replace("m.content", "''")


@pytest.mark.parametrize(
    ("template", "end"), [(CHATML, "<|im_end|>"), (LOUD, "<|im_end|>"), (STRIPPED, "<|im_end|>"), (DEAF, None)]
)
def test_the_end_of_a_turn_is_found_where_a_template_rewrites_answers(template, end):
    tokenizer = tokenizer_of(chat=CHATML)
    tokenizer.chat_template = template
    assert end_of_turn(tokenizer) == end


def test_an_answer_ends_at_any_token_that_the_model_ends_at(tmp_path):
    shutil.copytree(folder("llama"), tmp_path / "base")
    settings = json.loads((tmp_path / "base/generation_config.json").read_text())
    tokenizer = load_base(tmp_path / "base")[1]
    more = [100, tokenizer.eos_token_id, 101]
    (tmp_path / "base/generation_config.json").write_text(json.dumps(settings | {"eos_token_id": more}))
    model, tokenizer = load_base(tmp_path / "base")
    assert end_tokens(tokenizer) == (tokenizer.eos_token_id, 100, 101)
    queries = [[1, 40]] * 256
    batch = sample(model, tokenizer, queries, 40, draw_uniforms(256, 40, torch.Generator().manual_seed(0)))
    last = {row[kept][-1].item() for row, kept in zip(batch.responses, batch.response_mask, strict=True)}
    assert {100, 101} <= last  # random weights: each token is as likely
    ended = ~truncated(batch, end_tokens(tokenizer))
    inside = torch.isin(batch.responses, torch.tensor(end_tokens(tokenizer))) & batch.response_mask
    assert torch.equal(inside.sum(1), ended.long())  # never before the last token
    closed = batch.closed(tokenizer.eos_token_id)  # whatever ended it, the reward model reads the end that it learned
    finals = [row[kept][-1].item() for row, kept in zip(closed.responses, closed.response_mask, strict=True)]
    assert finals == [tokenizer.eos_token_id] * 256


def test_a_multimodal_model_learns_in_its_text_decoder_alone(tmp_path):
    text = FAMILIES["gemma3"][1]
    tokenizer = tokenizer_of(chat=GEMMA)
    settings = Gemma3Config(
        text_config=Gemma3TextConfig(vocab_size=len(tokenizer) + 1, pad_token_id=0, **text),
        vision_config=SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=28,
            patch_size=14,
        ),
        mm_tokens_per_image=4,
        image_token_index=len(tokenizer),
    )
    AutoModelForCausalLM.from_config(settings).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model, _ = load_base(tmp_path)
    for name in ("default", "second"):
        model = add_adapter(model, Lora(rank=2), 0, name)
        trained = [path for path, weight in model.named_parameters() if weight.requires_grad]
        assert len(trained) == 2 * 7 * 2
        assert all("language_model.layers" in path and f".{name}." in path for path in trained)
    batch = pad(QUERIES, RESPONSES, 0)
    assert response_outputs(model.eval(), batch)[1].shape == (3, 8, text_config(model).hidden_size)
    assert last_hidden(model.train(), batch).shape == (3, 32)


def test_a_tokenizer_without_an_end_is_refused(tmp_path):
    for file in folder("llama").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tokenizer = tokenizer_of()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="no eos_token"):
        load_base(tmp_path)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_a_base_in_bfloat16_learns_and_stays_the_reference(family, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    batch = pad(QUERIES, RESPONSES, 0)
    model, _ = load_base(folder(family), BaseLM(dtype="bfloat16"))
    with torch.no_grad():
        reference = response_outputs(model, batch)[0]
    model = add_adapter(model, Lora(rank=2), seed=0)
    assert {weight.dtype for weight in model.parameters() if weight.requires_grad} == {torch.float32}
    logits, states = response_outputs(model, batch)
    assert states.dtype is torch.bfloat16
    assert torch.equal(logits, reference)  # a fresh adapter is the identity
    states.float().square().sum().backward()
    moved = [w for name, w in model.named_parameters() if "lora_B" in name and w.grad is not None and w.grad.any()]
    assert moved
    with torch.no_grad():
        for weight in moved:
            weight -= 0.1 * weight.grad.sign()
        assert not torch.equal(response_outputs(model, batch)[0], reference)
        with use_adapter(model, None):
            assert torch.equal(response_outputs(model, batch)[0], reference)


def test_four_bits_without_bitsandbytes_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match="needs the package bitsandbytes"):
        load_base(folder("llama"), BaseLM(quantise="4bit"))


@pytest.mark.filterwarnings("ignore")  # of bitsandbytes
def test_a_base_in_four_bits_learns_and_stays_the_reference(tmp_path):
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    size = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    AutoModelForCausalLM.from_config(LlamaConfig(vocab_size=310, **size)).save_pretrained(tmp_path)
    tokenizer_of().save_pretrained(tmp_path)
    batch = pad(QUERIES, RESPONSES, 0)
    model, _ = load_base(tmp_path, BaseLM(quantise="4bit"))
    assert model.get_decoder().layers[0].self_attn.q_proj.weight.dtype is torch.uint8
    with torch.no_grad():
        reference = response_outputs(model, batch)[0]
    model = perturb(add_adapter(model, Lora(rank=2), seed=0).eval())
    logits, _ = response_outputs(model, batch)
    logits.square().sum().backward()
    grads = [weight.grad for weight in model.parameters() if weight.requires_grad]
    assert len(grads) == 2 * 7 * 2
    assert all(float(grad.abs().max()) > 0 for grad in grads)
    with torch.no_grad(), use_adapter(model, None):
        assert torch.equal(response_outputs(model, batch)[0], reference)


def test_memory_is_estimated_from_the_configuration_alone(family, tmp_path):
    (tmp_path / "config.json").write_bytes((folder(family) / "config.json").read_bytes())
    model, _ = load_base(folder(family))
    config = tiny.config(base_model={"path": str(tmp_path)})
    result = estimate(config)
    assert result.weights == 4 * sum(weight.numel() for weight in model.parameters())
    trained = add_adapter(model, config.policy.lora, 0)
    assert result.optimizer == 3 * 4 * sum(weight.numel() for weight in trained.parameters() if weight.requires_grad)
