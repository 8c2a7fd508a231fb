"""Held-out evaluation: the file and its columns, what is null in it, and each system's own random stream."""

import json

import pandas as pd
import pytest
import torch

from kellet.config.training import Lora
from kellet.data.world import gold
from kellet.errors import DataError
from kellet.evaluation.evaluate import Models, answer, evaluate, judge_by_world, prompts_asked
from kellet.evaluation.file import check_evaluation, prompt_id, read_evaluation
from kellet.files import content_hash
from kellet.models.heads import scalar_head
from kellet.models.sampling import draw_uniforms
from kellet.models.trunk import POLICY, REWARD, add_adapter, load_adapter, save_adapter
from kellet.reward.model import Member, Scorer
from kellet.reward.train import train_reward
from tests.helpers import tiny
from tests.helpers.tiny import perturb

COLUMNS = {
    *("prompt_id", "prompt", "system", "sample", "response", "reward", "length_tokens", "kl_nats", "truncated"),
    *("reward_std", "judge_gold", "judge_human"),
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders of a reward model, of a policy and a champion that have moved, and of a policy that has not."""
    root = tmp_path_factory.mktemp("parts")
    train_reward(tiny.config(), tiny.folder() / "preferences.parquet", tiny.folder() / "base", root / "reward_model")
    fresh = add_adapter(tiny.base()[0], Lora(rank=2), 0)
    save_adapter(fresh, root / "still" / "adapter")
    save_adapter(perturb(fresh), root / "policy" / "adapter")
    save_adapter(perturb(fresh, seed=5), root / "champion" / "adapter")
    return root


def run(parts, out, policy="policy", champion=None, anchor=None, look=1, **sections):
    base, preferences = tiny.folder() / "base", tiny.folder() / "preferences.parquet"
    champion, anchor = (parts / name if name else None for name in (champion, anchor))
    models = Models(base, parts / "reward_model", parts / policy, champion, anchor=anchor)
    evaluate(tiny.config(**sections), preferences, models, out, look=look)
    return pd.read_parquet(out / "evaluation.parquet")


@pytest.fixture(scope="module")
def table(parts, tmp_path_factory):
    return run(parts, tmp_path_factory.mktemp("evaluation") / "out")


def rows_of(table, system):
    return table[table["system"] == system].reset_index(drop=True)


def test_the_file_keeps_the_contract(table, parts, tmp_path):
    assert set(table.columns) == COLUMNS
    checked = check_evaluation(table)
    assert len(checked) == len(table) == 12 * 2 * 2
    table.to_parquet(tmp_path / "evaluation.parquet", index=False)
    assert read_evaluation(tmp_path / "evaluation.parquet").equals(checked)


def test_every_system_answers_the_same_test_prompts_and_no_other(table):
    pairs = tiny.pairs()
    held_out = set(pairs[pairs["split"] == "test"]["prompt"])
    for system in ("candidate", "reference"):
        rows = rows_of(table, system)
        assert set(rows["prompt"]) <= held_out
        assert sorted(rows.groupby("prompt")["sample"].apply(tuple)) == [(0, 1)] * 12
    assert (rows_of(table, "candidate")["prompt"] == rows_of(table, "reference")["prompt"]).all()
    # printf 'hello' | sha256sum
    assert prompt_id("hello") == "2cf24dba5fb0a30e"


def test_kl_is_null_for_the_reference_and_a_divergence_for_the_candidate(table):
    assert rows_of(table, "reference")["kl_nats"].isna().all()
    kl = rows_of(table, "candidate")["kl_nats"]
    assert (kl >= 0).all()
    assert kl.mean() > 0.01


def test_a_policy_that_has_not_moved_has_no_kl(parts, tmp_path):
    table = run(parts, tmp_path / "out", policy="still")
    # the states of sampling with cached keys round otherwise than the reference's pass over whole responses: 1e-7
    assert (rows_of(table, "candidate")["kl_nats"] < 1e-6).all()


def test_lengths_and_cuts_are_those_of_the_answers(table):
    assert table["length_tokens"].between(1, 10).all()
    assert (table.loc[table["truncated"], "length_tokens"] == 10).all()
    assert table["truncated"].dtype == bool


def test_reviewers_see_a_few_prompts_and_one_answer_of_each_system(table):
    judged = table[table["judge_human"].notna()]
    by_system = judged.groupby("system")["prompt_id"].apply(lambda ids: tuple(sorted(ids)))
    assert [len(set(ids)) for ids in by_system] == [5, 5]
    assert len(judged) == 10
    assert by_system["candidate"] == by_system["reference"]
    assert (judged["sample"] == 0).all()


def test_no_more_than_forty_prompts_are_reviewed():
    config = tiny.config(evaluation={"spot_checks": 40})
    prompts = list(tiny.pairs(100)["prompt"])
    table = pd.DataFrame(
        [
            {"prompt_id": prompt_id(prompt), "prompt": prompt, "system": system, "sample": 0, "response": "yes"}
            for prompt in prompts
            for system in ("candidate", "reference")
        ]
    )
    judged = judge_by_world(table, config)
    assert list(judged[judged["judge_human"].notna()].groupby("system").size()) == [40, 40]
    assert judge_by_world(table, config).equals(judged)
    assert not judge_by_world(table, tiny.config(seed=1))["judge_human"].equals(judged["judge_human"])
    error = (judged["judge_human"] - judged["judge_gold"]).dropna()
    # 80 draws of deviation 0.2: the mean within 4 standard errors, the deviation within a third
    assert abs(error.mean()) < 4 * 0.2 / 80**0.5
    assert 0.13 < error.std() < 0.27


def test_gold_stands_beside_every_answer(table):
    expected = [gold(prompt, response) for prompt, response in zip(table["prompt"], table["response"], strict=True)]
    assert list(table["judge_gold"]) == expected


def test_other_data_have_no_judges_of_the_world(parts, tmp_path):
    table = run(parts, tmp_path / "out", data={"source": "files"})
    assert set(table.columns) == COLUMNS - {"judge_gold", "judge_human"}
    check_evaluation(table)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(parts, table, tmp_path):
    run(parts, tmp_path / "one")
    run(parts, tmp_path / "two")
    assert content_hash(tmp_path / "one") == content_hash(tmp_path / "two")
    other = run(parts, tmp_path / "other", seed=1)
    assert list(other["response"]) != list(table["response"])


def test_a_champion_changes_no_other_systems_answers(parts, table, tmp_path):
    with_champion = run(parts, tmp_path / "out", champion="champion")
    champion = rows_of(with_champion, "champion")
    assert len(champion) == 24
    assert (champion["kl_nats"] >= 0).all()
    for system in ("candidate", "reference"):
        columns = ["prompt", "response", "reward", "length_tokens", "kl_nats", "truncated", "judge_gold"]
        assert rows_of(with_champion, system)[columns].equals(rows_of(table, system)[columns])
    check_evaluation(with_champion)


def test_the_kl_of_an_evaluation_is_that_of_torch(parts):
    model, tokenizer = tiny.base()
    model = load_adapter(model, parts / "policy" / "adapter")
    load_adapter(model, parts / "champion" / "adapter", REWARD)
    prompts = list(tiny.pairs()["prompt"][:4])

    class Watched(Scorer):
        def scores(self, batch):
            seen.append(batch)
            return super().scores(batch)

    seen = []
    scorer = Watched(model, [Member(scalar_head(16, 0), REWARD)], tokenizer.eos_token_id)
    rows = answer(
        model, tokenizer, scorer, POLICY, prompts, tiny.config(), draw_uniforms(4, 10, torch.Generator().manual_seed(0))
    )
    batch, query = seen[0], seen[0].input_ids.shape[1] - seen[0].response_mask.shape[1]
    plain = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask.long()}
    with torch.no_grad():
        p = model(**plain, position_ids=batch.position_ids).logits[:, query - 1 : -1].log_softmax(-1)
        q = tiny.base()[0](**plain, position_ids=batch.position_ids).logits[:, query - 1 : -1].log_softmax(-1)
    tokens = torch.nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    expected = (tokens * batch.response_mask).sum(1).tolist()  # about 75 nats
    assert rows["kl_nats"].tolist() == pytest.approx(expected, rel=1e-5)


def test_the_kl_of_a_few_answers_is_kept_token_by_token(parts, tmp_path):
    table = run(parts, tmp_path / "out")
    answers = json.loads((tmp_path / "out" / "token_kl.json").read_text())["answers"]
    candidate = rows_of(table, "candidate").set_index(["prompt_id", "sample"])
    assert len({(one["prompt_id"], one["sample"]) for one in answers}) == len(answers) == 5
    end = tiny.base()[1].eos_token
    for one in answers:
        row = candidate.loc[(one["prompt_id"], one["sample"])]
        assert "".join(one["tokens"]).removesuffix(end).strip() == row["response"]
        assert (one["tokens"][-1] == end) == (not row["truncated"])
        assert len(one["tokens"]) == len(one["nats"]) == row["length_tokens"]
        # each token is rounded to four decimals
        assert sum(one["nats"]) == pytest.approx(row["kl_nats"], abs=1e-4 * len(one["nats"]))
    assert max(max(one["nats"]) for one in answers) > 0.01
    most = candidate["kl_nats"].idxmax()
    assert most in {(one["prompt_id"], one["sample"]) for one in answers}


def test_prompts_come_in_the_order_of_their_hashes_up_to_the_number_asked(tmp_path):
    path = tiny.folder() / "preferences.parquet"
    few, many = (prompts_asked(path, tiny.config(evaluation={"prompts": number})) for number in (4, 999))
    assert len(many) == 32
    assert few == many[:4]
    assert [prompt_id(prompt) for prompt in many] == sorted(prompt_id(prompt) for prompt in many)
    pairs = tiny.pairs()
    pairs[pairs["split"] != "test"].to_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match="no prompt in split 'test'"):
        prompts_asked(tmp_path / "none.parquet", tiny.config())


def test_with_rotation_each_look_asks_the_next_prompts_and_comes_round(tmp_path):
    path = tiny.folder() / "preferences.parquet"
    every = prompts_asked(path, tiny.config(evaluation={"prompts": 999}))
    rotating = tiny.config(evaluation={"prompts": 12, "rotation": True})
    looks = [prompts_asked(path, rotating, look) for look in range(1, 9)]
    assert [
        prompt for asked in looks for prompt in asked
    ] == every * 3  # 8 looks at 12 of 32 prompts: three times round
    assert all(len(set(asked)) == 12 for asked in looks)
    still = tiny.config(evaluation={"prompts": 12})
    assert prompts_asked(path, still, 5) == prompts_asked(path, still, 1) == looks[0]
    assert prompts_asked(path, tiny.config(evaluation={"prompts": 999, "rotation": True}), 2) == every


def test_a_look_with_rotation_is_answered_on_its_prompts(parts, tmp_path):
    rows = run(parts, tmp_path / "out", look=2, evaluation={"prompts": 4, "samples": 1, "rotation": True})
    every = prompts_asked(tiny.folder() / "preferences.parquet", tiny.config(evaluation={"prompts": 999}))
    assert set(rows["prompt"]) == set(every[4:8])


def test_the_anchor_answers_beside_the_champion_and_changes_nobodys_answers(parts, tmp_path):
    both = run(parts, tmp_path / "both", champion="champion", anchor="still")
    alone = run(parts, tmp_path / "alone", champion="champion")
    columns = ["prompt_id", "sample", "response", "reward", "kl_nats"]
    for system in ("candidate", "reference", "champion"):
        assert rows_of(both, system)[columns].equals(rows_of(alone, system)[columns])
    anchor = rows_of(both, "anchor")
    assert len(anchor) == 24
    assert anchor["kl_nats"].max() < 1e-6  # this one is the base model still
    check_evaluation(both)


def test_the_answers_are_at_the_policys_temperature(parts, table, tmp_path):
    """Near zero sampling is nearly greedy: of most answers both samples begin with the same word."""
    alike = []
    for rows in (run(parts, tmp_path / "out", text={"temperature": 0.01}), table):
        first = rows.assign(first=rows["response"].str[:2])
        both = first.pivot_table(index=["system", "prompt_id"], columns="sample", values="first", aggfunc="first")
        alike.append((both[0] == both[1]).mean())
    assert alike[0] > alike[1] + 0.25


def test_each_system_draws_numbers_of_its_own(parts, tmp_path):
    rows = run(
        parts, tmp_path / "out", policy="still"
    )  # the reference itself, so that the same draws are the same text
    answers = [list(rows_of(rows, system)["response"]) for system in ("candidate", "reference")]
    assert len(answers[0]) == len(answers[1]) == 24
    assert answers[0] != answers[1]
