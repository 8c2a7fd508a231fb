"""Held-out evaluation: every system answers the same test prompts, and each answer is one row of the evaluation file.

``reward`` is the reward model's, ``kl_nats`` the full KL of the response from the reference (nats per response), and
each judge fills a column ``judge_*``. In the support world ``judge_gold`` is the true helpfulness of every answer, for
verification, and ``judge_human`` the scores of simulated reviewers on a small blind sample; training sees neither.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from kellet.config.run import Config
from kellet.data.prompts import prompts_of
from kellet.errors import DataError
from kellet.evaluation.file import prompt_id
from kellet.evaluation.token_kl import TRACES, token_kl
from kellet.files import atomic_folder, write_json
from kellet.manifest import check_manifest, write_manifest
from kellet.models import kl
from kellet.models.devices import Devices
from kellet.models.finite import require_finite_scores
from kellet.models.next_token import policy_vs_reference
from kellet.models.sampling import draw_uniforms, sample_states, truncated
from kellet.models.seeds import derived_seed
from kellet.models.tokens import TokenBatch, decode, encode_prompts, encode_queries, end_tokens, tell_cut
from kellet.models.trunk import POLICY, all_response_states, load_adapter, load_base, use_adapter
from kellet.progress import Progress, quiet
from kellet.reward.judge_model import COLUMN, judge_scores
from kellet.reward.model import Scorer
from kellet.reward.own_base import load_reward_model

CHAMPION, ANCHOR = "champion", "anchor"
REVIEWER_NOISE = 0.2
"""Standard deviation of a simulated reviewer's error, in units of gold."""


class Models(NamedTuple):
    """The models that an evaluation needs, by their folders."""

    base: Path | str
    """The base model, which is also the reference; a hub name is allowed."""
    reward_model: Path
    policy: Path
    """The candidate, as train_policy wrote it on this base."""
    champion: Path | None = None
    """The present champion, another policy on this base."""
    judge: Path | None = None
    """The second reward model, as train_judge wrote it; it fills the column ``judge_reward``."""
    anchor: Path | None = None
    """The champion that was last shown better than the anchor before it, where that is not the champion."""
    reward_base: Path | str | None = None
    """The base of the reward model and of the judge, where it is another (kellet/reward/own_base.py)."""


def evaluate(
    config: Config, preferences: Path, models: Models, out: Path, progress: Progress = quiet, look: int = 1
) -> None:
    """Let candidate, reference and, if given, champion and anchor answer the test prompts of ``preferences``.

    ``look``: which look of a programme this is for; with ``evaluation.rotation`` each asks other prompts.
    Writes evaluation.parquet and token_kl.json into ``out``. Raises DataError when there is no test prompt.
    """
    prompts = prompts_asked(preferences, config, look)
    reward_base = models.reward_base or models.base
    check_manifest(models.reward_model, base=reward_base)
    check_manifest(models.policy, base=models.base, reward_model=models.reward_model)
    # each of a reward model, or labels, of its own
    for other, base in ((models.champion, models.base), (models.anchor, models.base), (models.judge, reward_base)):
        if other is not None:
            check_manifest(other, base=base)
    devices = Devices()
    model, tokenizer = load_base(models.base, config.base_model, devices.device, config.text.temperature)
    asked = encode_queries(tokenizer, prompts, config.text)  # what cannot be encoded is refused before any sampling
    tell_cut(sum(query.cut for query in asked), len(asked), "prompts", config.text, str(preferences))
    model = load_adapter(model, models.policy / "adapter")
    scorer, reward_tokenizer = load_reward_model(
        model, tokenizer, models.reward_model, config, models.base, models.reward_base, devices.device
    )
    if reward_tokenizer is not tokenizer:
        encode_prompts(reward_tokenizer, prompts, config.text)
    systems: dict[str, str | None] = {"candidate": POLICY, "reference": None}
    for name, rival in ((CHAMPION, models.champion), (ANCHOR, models.anchor)):
        if rival is not None:
            load_adapter(model, rival / "adapter", name)
            systems[name] = name
    devices.place(model, scorer)
    size, limit = config.evaluation.batch_size, config.text.max_response_tokens
    total = len(systems) * config.evaluation.samples * -(-len(prompts) // size)
    rows: list[pd.DataFrame | None] = []
    for system, adapter in systems.items():
        # Each system has its own random stream, so adding a champion does not change the other systems' answers.
        generator = torch.Generator().manual_seed(derived_seed(config.seed, system))
        for number in range(config.evaluation.samples):
            for begin in range(0, len(prompts), size):
                part = prompts[begin : begin + size]
                uniforms = draw_uniforms(len(part), limit, generator)  # by every process, so that their number is free
                if len(rows) % devices.count != devices.rank:
                    rows.append(None)
                    continue
                answers = answer(model, tokenizer, scorer, adapter, part, config, uniforms)
                rows.append(answers.assign(system=system, sample=number))
                progress(len(rows), total, {})
    shares = devices.gather(rows)
    if not devices.main:
        return
    table = pd.concat([shares[place % devices.count][place] for place in range(total)], ignore_index=True)
    highlights = token_kl(table, tokenizer)
    table = table.drop(columns=TRACES)
    if models.judge is not None:
        table[COLUMN] = judge_scores(scorer.model, reward_tokenizer, table, models.judge, config)
    if config.data.source == "world":
        table = judge_by_world(table, config)
    with atomic_folder(out) as folder:
        table.to_parquet(folder / "evaluation.parquet", index=False)
        write_json(folder / "token_kl.json", highlights)
        made_of = {name: source for name, source in models._asdict().items() if source is not None}
        write_manifest(folder, "evaluation", **made_of)


def prompts_asked(preferences: Path, config: Config, look: int = 1) -> list[str]:
    """Up to ``evaluation.prompts`` prompts of the test split (kellet/data/prompts.py), in the order of their hashes.

    With ``evaluation.rotation`` look 2 begins where look 1 ended, and so on; after the last prompt comes the first.
    """
    prompts = sorted(prompts_of(preferences, "test"), key=prompt_id)
    if not prompts:
        raise DataError(f"{preferences} has no prompt in split 'test'; prepare it again with more prompts")
    count = min(config.evaluation.prompts, len(prompts))
    start = (look - 1) * count if config.evaluation.rotation else 0
    return [prompts[(start + place) % len(prompts)] for place in range(count)]


@torch.no_grad()
def answer(
    model: Any,
    tokenizer: Any,
    scorer: Scorer,
    adapter: str | None,
    prompts: list[str],
    config: Config,
    uniforms: torch.Tensor,
) -> pd.DataFrame:
    """Sample one answer of a system to each prompt: a row each with reward, length, KL and whether it was cut.

    ``uniforms`` (prompts, max_response_tokens) decide the tokens. The columns TRACES hold each answer's tokens and the
    KL at each of them (null for the reference).
    """
    queries = encode_prompts(tokenizer, prompts, config.text)
    with use_adapter(model, adapter):
        batch, states = sample_states(model, tokenizer, queries, uniforms.shape[1], uniforms)
        if adapter is not None and states.dtype != torch.float32:  # half precision: see score_rollout
            states = all_response_states(model, batch)
    scored = scorer.scores_of_policy(batch, prompts)
    require_finite_scores(scored.reward, prompts, "the reward model")
    nats = None if adapter is None else _kl_from_reference(model, batch, states)
    return pd.DataFrame(
        {
            "prompt_id": [prompt_id(prompt) for prompt in prompts],
            "prompt": prompts,
            "response": decode(tokenizer, batch.responses, batch.response_mask),
            "reward": scored.reward.double().numpy(),
            "reward_std": None if scored.std is None else scored.std.double().numpy(),
            "length_tokens": batch.response_mask.sum(1).numpy(),
            "kl_nats": None if nats is None else kl.per_response(nats, batch.response_mask).double().numpy(),
            "truncated": truncated(batch, end_tokens(tokenizer)).numpy(),
            "token_ids": _traces(batch.responses, batch),
            "token_kl": None if nats is None else _traces(nats, batch),
        }
    ).astype({"kl_nats": "float64", "reward_std": "float64"})


def judge_by_world(table: pd.DataFrame, config: Config) -> pd.DataFrame:
    """Add ``judge_gold`` to every row and, on a blind sample of prompts, ``judge_human`` to one answer a system."""
    from kellet.data.world import gold

    judged = table.assign(
        judge_gold=[gold(prompt, response) for prompt, response in zip(table["prompt"], table["response"], strict=True)]
    )
    rng = np.random.default_rng([config.seed, 7])
    ids = sorted(judged["prompt_id"].unique())
    drawn = rng.choice(ids, size=min(config.evaluation.spot_checks, len(ids)), replace=False)
    noise = rng.normal(0.0, REVIEWER_NOISE, size=len(judged))
    reviewed = judged["prompt_id"].isin(list(drawn)) & (judged["sample"] == 0)
    return judged.assign(judge_human=(judged["judge_gold"] + noise).where(reviewed))


def _kl_from_reference(model: Any, batch: TokenBatch, states: torch.Tensor) -> torch.Tensor:
    """(B, R) full KL from the reference at each response token, nats; ``states`` are the policy's hidden states."""
    with use_adapter(model, None):
        ref_states = all_response_states(model, batch)
    return policy_vs_reference(model, states, ref_states, batch).kl_full.cpu()


def _traces(values: torch.Tensor, batch: TokenBatch) -> list[Any]:
    """Split (B, R) into one array (tokens,) for each response, without padding."""
    return [row[kept].cpu().numpy() for row, kept in zip(values, batch.response_mask, strict=True)]
