"""The estimate against what PyTorch's allocator saw at its peak, and its own arithmetic."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from kellet.config.run import Config
from kellet.models.architecture import recompute_layers
from kellet.models.base_model import build_llama
from kellet.models.memory import PROCESS, Memory, Step, estimate, memory_text
from kellet.models.next_token import logprobs_of, policy_vs_reference
from kellet.models.sampling import draw_uniforms, sample_states
from kellet.models.tokens import pad
from kellet.models.trunk import add_adapter, all_response_states, response_states
from kellet.reward.fitting import Fitting, LabelledPairs, add_member
from kellet.reward.model import Pairs, Scorer
from tests.helpers.project import ROOT

PROMPT, RESPONSE = 16, 48
SETTINGS = {
    "text": {"max_prompt_tokens": PROMPT, "max_response_tokens": RESPONSE},
    "base_model": {"width": 64, "layers": 6, "heads": 4, "vocab_size": 600},
    "reward_model": {"batch_size": 8, "epochs": 1, "length_control": "none"},
    "policy": {"batch_size": 16, "minibatch_size": 16},
}


def llama(config):
    return build_llama(config, 600, SimpleNamespace(pad_token_id=0, bos_token_id=1, eos_token_id=2))


def peak(step):
    """Bytes by which the allocator's tensors grew at the most during ``step``."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def ids(count):
    return [3 + number % 500 for number in range(count)]


def test_a_reward_step_takes_what_was_estimated():
    config = Config.model_validate(SETTINGS)
    scorer = add_member(Scorer(llama(config), [], 2), 0, config, 0)
    pairs = Pairs([ids(PROMPT)] * 8, [ids(RESPONSE)] * 8, [ids(RESPONSE - 1)] * 8)
    fitting = Fitting(scorer, LabelledPairs(pairs), config, 0, 0)
    fitting.step(torch.arange(8))  # the optimizer's state is made in the first
    step = estimate(config).steps[0]
    assert peak(lambda: fitting.step(torch.arange(8))) == pytest.approx(step.rows * step.per_row, rel=0.25)


def test_an_update_takes_what_was_estimated():
    config = Config.model_validate(SETTINGS)
    model = add_adapter(llama(config), config.policy.lora, 0)
    batch = pad([ids(PROMPT)] * 16, [ids(RESPONSE - number % 2) for number in range(16)], 0)

    def update():
        (-logprobs_of(model, response_states(model, batch), batch).mean()).backward()

    update()
    step = estimate(config).steps[3]
    assert peak(update) == pytest.approx(step.rows * step.per_row, rel=0.25)


def test_weights_and_adapters_are_counted_as_they_are():
    config = Config.model_validate(SETTINGS | {"reward_model": {"ensemble": {"members": 3}, "lora": {"rank": 2}}})
    model = llama(config)
    memory = estimate(config)
    assert memory.weights == 4 * sum(p.numel() for p in model.parameters())
    # each of 6 layers: q, k, v, o (64 x 64), gate, up (64 -> 192), down (192 -> 64); rank 8 and three times rank 2
    per_rank = 6 * (4 * (64 + 64) + 3 * (64 + 192))
    assert memory.adapters == 4 * per_rank * (8 + 3 * 2)
    assert memory.optimizer == 3 * 4 * per_rank * 8
    # keys and values of 6 layers, 64 wide, for 64 positions
    prompt = 3 * 192 * PROMPT * 4  # three tensors of the widest layer, while the prompt is read
    assert memory.steps[1].per_row == 2 * 6 * 64 * 64 * 4 + prompt


def test_the_largest_batch_is_the_largest_that_fits():
    step = Step("a step", rows=4, per_row=10, fixed=100, setting="x", rows_per_unit=2)
    assert step.total == 140
    assert [step.largest(memory) for memory in (99, 119, 120, 139, 140)] == [0, 0, 1, 1, 2]
    text = memory_text(Memory(2**30, 2**20, 0, (step,)), 120)
    assert "weights" in text
    assert "1.000 GiB" in text
    assert "largest x in 0.0 GiB: 1" in text
    assert "does not fit at all" in memory_text(Memory(1, 1, 1, (step,)), 1)


def test_scoring_takes_what_was_estimated():
    config = Config.model_validate(SETTINGS)
    model = add_adapter(llama(config), config.policy.lora, 0).eval()
    batch = pad([ids(PROMPT)] * 16, [ids(RESPONSE - number % 2) for number in range(16)], 0)

    def score():
        states = all_response_states(model, batch)
        policy_vs_reference(model, states, all_response_states(model, batch), batch)

    score()
    step = estimate(config).steps[2]
    logits = 16 * RESPONSE * 600 * 4  # all of them in one chunk of up to 2^20
    chunk = 5 * 4 * (2**20 // 600 * 600)
    assert peak(score) == pytest.approx(step.rows * step.per_row + 5 * logits, rel=0.25)
    assert step.fixed == estimate(config).weights + estimate(config).adapters + estimate(config).optimizer + chunk


def test_layers_computed_again_take_what_was_estimated_and_much_less():
    plain = Config.model_validate(SETTINGS)
    config = plain.model_copy(
        update={"base_model": plain.base_model.model_copy(update={"gradient_checkpointing": True})}
    )
    model = llama(config)
    recompute_layers(model)
    model = add_adapter(model, config.policy.lora, 0).eval()
    batch = pad([ids(PROMPT)] * 16, [ids(RESPONSE - number % 2) for number in range(16)], 0)

    def update():
        (-logprobs_of(model, response_states(model, batch), batch).mean()).backward()

    update()
    step, whole = (estimate(each).steps[3] for each in (config, plain))
    assert peak(update) == pytest.approx(step.rows * step.per_row, rel=0.25)
    assert step.per_row < 0.7 * whole.per_row
    assert estimate(config).steps[0].per_row < 0.5 * estimate(plain).steps[0].per_row


def test_a_base_in_four_bits_is_counted_in_bits():
    config = Config.model_validate(SETTINGS)
    four = Config.model_validate(SETTINGS | {"base_model": SETTINGS["base_model"] | {"quantise": "4bit"}})
    linear = 6 * (4 * 64 * 64 + 3 * 64 * 192)
    saved = estimate(config).weights - estimate(four).weights
    assert saved == pytest.approx(linear * (32 - 4.127) / 8, abs=1)


def test_a_process_holds_the_base_in_its_dtype_and_its_share_of_a_batch():
    config = Config.model_validate(SETTINGS)
    whole, half, third = estimate(config), estimate(config, torch.bfloat16), estimate(config, processes=3)
    plain = SETTINGS["base_model"] | {"full_precision_output": False}
    rounded = Config.model_validate(SETTINGS | {"base_model": plain})
    assert estimate(rounded, torch.bfloat16).weights == whole.weights / 2
    assert half.weights == whole.weights / 2 + 4 * 600 * config.base_model.width  # the output layer's copy
    assert half.optimizer == whole.optimizer  # what is trained stays in float32
    assert half.steps[1].per_row == whole.steps[1].per_row / 2  # the cache
    assert third.weights == whole.weights
    assert [step.rows for step in whole.steps[:4]] == [16, 16, 16, 16]  # pairs are two rows
    assert [step.rows for step in third.steps[:4]] == [6, 6, 6, 6]


def test_a_process_without_a_model_takes_about_what_is_counted():
    """Of the host's memory, in a process of its own: the libraries and no tensors."""
    code = "import kellet.policy.train, kellet.evaluation.evaluate, peft; from transformers import LlamaForCausalLM; "
    code += "print(int(open('/proc/self/statm').read().split()[1]) * __import__('resource').getpagesize())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert PROCESS / 2 < int(done.stdout) < 2 * PROCESS


def test_evaluation_takes_what_was_estimated():
    config = Config.model_validate(SETTINGS | {"evaluation": {"batch_size": 64}})
    model = add_adapter(llama(config), config.policy.lora, 0).eval()
    tokens = SimpleNamespace(pad_token_id=0, eos_token_id=2)
    uniforms = draw_uniforms(64, RESPONSE, torch.Generator().manual_seed(0))

    def answer():
        batch, states = sample_states(model, tokens, [ids(PROMPT)] * 64, RESPONSE, uniforms)
        policy_vs_reference(model, states, all_response_states(model, batch), batch)

    answer()
    step = estimate(config).steps[4]
    assert step.name == "evaluation, sampling and scoring"
    most = step.rows * step.per_row + 5 * 4 * 2**20  # with a chunk of logits, and its copies
    assert 0.25 * most < peak(answer) < 1.25 * most
