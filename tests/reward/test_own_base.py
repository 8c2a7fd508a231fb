"""A reward model on a base of its own: what it gives is worked out by plain transformers and peft from the texts."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from peft import PeftModel
from safetensors.torch import load_file
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from kellet.data.conversation import to_prompt
from kellet.errors import DataError
from kellet.evaluation.evaluate import Models, evaluate
from kellet.models.base_model import train_tokenizer
from kellet.models.sampling import draw_uniforms, sample
from kellet.models.tokens import decode, encode_prompts, pad
from kellet.models.trunk import load_base
from kellet.policy.train import train_policy
from kellet.reward.judge_model import train_judge
from kellet.reward.own_base import Reader
from kellet.reward.rescore import rescore
from kellet.reward.train import train_reward
from tests.helpers import tiny
from tests.helpers.command import kellet

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
JUDGED = {"evaluation": {"judge": True}, "policy": {"iterations": 1}}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A Qwen2 of another width, whose tokenizer knows other words, has no beginning token and a chat template."""
    folder = tmp_path_factory.mktemp("other")
    tokenizer = train_tokenizer(["where is my parcel and my refund"] * 9, 280)
    tokenizer.bos_token = tokenizer.backend_tokenizer.post_processor = None
    marks = [AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>")]
    tokenizer.add_tokens(marks, special_tokens=True)
    tokenizer.chat_template = CHATML
    torch.manual_seed(0)
    size = {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
    }
    settings = Qwen2Config(vocab_size=len(tokenizer), max_position_embeddings=64, initializer_range=0.2, **size)
    AutoModelForCausalLM.from_config(settings).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def apart(tmp_path_factory, other):
    """A run by the command line with the reward model, of two members, and the judge on the other base."""
    root = tmp_path_factory.mktemp("apart")
    settings = tiny.config(
        **JUDGED, reward_model={"base": str(other), "ensemble": {"members": 2}, "require_lift": False, "epochs": 8}
    )
    (root / "params.yaml").write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    shutil.copytree(tiny.folder() / "base", root / "base")
    common = ("--params", str(root / "params.yaml"), "--run", str(root))
    table = ("--preferences", str(tiny.folder() / "preferences.parquet"))
    for verb in (["train-reward"], ["train-reward", "--judge"], ["train-policy"], ["evaluate"]):
        result = kellet(*verb, *common, *table)
        assert result.exit_code == 0, result.output
    return settings, root


def by_hand(base, folder, prompts, answers):
    """Rewards of texts (N,), of the members (K, N), and their lengths, with nothing of Kellet."""
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    eos, lengths, members = tokenizer.convert_tokens_to_ids("<|im_end|>"), [], []
    places = [folder, *sorted(folder.glob("member_*"))]
    for number, place in enumerate(places):
        if number == 0:
            model = PeftModel.from_pretrained(model, place / "adapter", adapter_name="0")
        else:
            model.load_adapter(place / "adapter", adapter_name=str(number))
            model.set_adapter(str(number))
        head = load_file(place / "head.safetensors")
        slope = float(head["length_slope"])
        rewards = []
        for prompt, answer in zip(prompts, answers, strict=True):
            query = tokenizer(prompt + "\n", add_special_tokens=False)["input_ids"][-24:]
            response = [*tokenizer(answer, add_special_tokens=False)["input_ids"][:9], eos]
            with torch.no_grad():
                ids = torch.tensor([query + response])
                states = model(input_ids=ids, output_hidden_states=True).hidden_states[-1]
            rewards.append(float(states[0, -1] @ head["weight"][0] + head["bias"][0]) - slope * len(response) / 10)
            lengths.append(len(response))
        assert abs(slope) > 1e-3  # else lengths in another unit would not be seen
        members.append(rewards)
    return np.mean(members, axis=0), np.array(members), np.array(lengths[: len(answers)])


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_evaluation_and_judge_read_the_texts_with_the_reward_models_own_tokenizer(apart, other):
    settings, root = apart
    rows = pd.read_parquet(root / "evaluation/evaluation.parquet")
    rewards, members, lengths = by_hand(other, root / "reward_model", rows["prompt"], rows["response"])
    assert np.abs(lengths - rows["length_tokens"]).max() > 2  # the tokenizers do differ
    assert rows["reward"].to_numpy() == pytest.approx(rewards, abs=1e-4)
    assert rows["reward_std"].to_numpy() == pytest.approx(members.std(0, ddof=1), abs=1e-4)
    judged, _, _ = by_hand(other, root / "judge", rows["prompt"], rows["response"])
    card = json.loads((root / "judge/card.json").read_text())
    assert card["lift"]["interval"][0] > 0
    assert rows["judge_reward"].to_numpy() == pytest.approx(judged, abs=1e-4)
    rescore(settings, other, root / "reward_model", {"a": root / "evaluation/evaluation.parquet"}, root / "rescored")
    scores = rows.merge(pd.read_parquet(root / "rescored/scores.parquet"), on=["prompt", "response"])
    assert scores["reward_x"].to_numpy() == pytest.approx(scores["reward_y"].to_numpy(), abs=1e-4)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.*:FutureWarning")
def test_ppo_is_paid_what_the_reward_model_gives_the_text(apart, other):
    settings, root = apart
    first = json.loads((root / "policy/history.jsonl").read_text().splitlines()[0])
    # the first batch again, from the reference, which the policy still is
    table = tiny.pairs()
    prompts = list(dict.fromkeys(table[table["split"] == "train"]["prompt"]))
    generator = torch.Generator().manual_seed(settings.seed)
    chosen = [prompts[i] for i in torch.randperm(len(prompts), generator=generator)[:16]]
    model, tokenizer = tiny.base()
    batch = sample(
        model, tokenizer, encode_prompts(tokenizer, chosen, settings.text), 10, draw_uniforms(16, 10, generator)
    )
    answers = decode(tokenizer, batch.responses, batch.response_mask)
    rewards, _, _ = by_hand(other, root / "reward_model", chosen, answers)
    assert first["objective/reward"] == pytest.approx(rewards.mean(), abs=1e-4)


def test_a_copy_of_the_policys_base_gives_what_the_shared_trunk_gives(tmp_path):
    preferences, base = tiny.folder() / "preferences.parquet", tiny.folder() / "base"
    copy, config = tmp_path / "copy", tiny.config(**JUDGED)
    shutil.copytree(base, copy)
    train_reward(config, preferences, copy, tmp_path / "reward_model")
    train_judge(config, preferences, copy, tmp_path / "judge")
    histories, tables = [], []
    for name, own in (("shared", None), ("own", copy)):
        out = tmp_path / name
        train_policy(config, preferences, base, tmp_path / "reward_model", out, reward_base=own)
        histories.append(json.loads((out / "history.jsonl").read_text()))
        models = Models(base, tmp_path / "reward_model", out, judge=tmp_path / "judge", reward_base=own)
        evaluate(config, preferences, models, tmp_path / f"{name}-evaluation")
        tables.append(pd.read_parquet(tmp_path / f"{name}-evaluation/evaluation.parquet"))
    shared, own = ({k: v for k, v in row.items() if not k.startswith("time/")} for row in histories)
    assert own == pytest.approx(shared, abs=1e-5)
    for column in ("reward", "judge_reward", "kl_nats"):
        assert np.nanmax(np.abs(tables[0][column] - tables[1][column])) < 1e-5
    assert list(tables[0]["response"]) == list(tables[1]["response"])


def test_a_mix_that_was_not_asked_for_is_refused_by_name(apart, other, tmp_path):
    settings, root = apart
    preferences, base, reward = tiny.folder() / "preferences.parquet", tiny.folder() / "base", root / "reward_model"
    with pytest.raises(DataError, match=r"reward_model was made of another base than .*base"):
        train_policy(settings, preferences, base, reward, tmp_path / "out")
    with pytest.raises(DataError, match=r"reward_model was made of another base than .*base"):
        evaluate(settings, preferences, Models(base, reward, root / "policy"), tmp_path / "out")
    models = Models(base, reward, root / "policy", reward_base=other, judge=tmp_path / "judge")
    train_judge(tiny.config(), preferences, base, tmp_path / "judge")
    with pytest.raises(DataError, match=r"judge was made of another base than .*other"):
        evaluate(settings, preferences, models, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_conversations_take_the_reward_models_template_and_what_does_not_fit_is_told(other, caplog):
    policy, own = tiny.base()[1], load_base(other)[1]
    answers = ["yes", "no! no! " * 9]
    batch = pad([[1, 40]] * 2, [policy(answer)["input_ids"] for answer in answers], policy.pad_token_id)
    text = tiny.config(text={"max_prompt_tokens": 40, "max_response_tokens": 12}).text
    prompt = to_prompt([{"role": "user", "content": "my refund"}])
    read = Reader(policy, own, text)(batch, [prompt, "plain"])
    rows = [own.decode(ids[kept]) for ids, kept in zip(read.input_ids, read.attention_mask, strict=True)]
    assert rows[0] == "<|im_start|>user\nmy refund<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>"
    assert rows[1].startswith("plain\nno! no!")
    assert "1 of 2 answers are longer than text.max_response_tokens (12) in the reward model's tokens" in caplog.text
