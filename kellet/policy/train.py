"""Train the policy: sample, score, penalise drift from the reference, update by PPO; again.

One trunk plays policy, reference, value and reward (kellet/models/trunk.py). Legend: B responses, of which a process
samples N; R response tokens. The KL in the reward is k1 at β; what is reported, what moves the controller and what the
gate reads is the full KL, in nats per response. The metrics of an iteration are described in docs/reference/metrics.md.

Every ``policy.checkpoint_every`` iterations the state is saved (kellet/policy/state.py): a training that is killed and
started again by the same command ends in the same bytes.
"""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kellet.config.run import Config
from kellet.data.prompts import prompts_of
from kellet.errors import DataError, KelletError, TrainingStopped
from kellet.files import atomic_folder, value_hash, write_json_lines
from kellet.interrupt import held_back
from kellet.manifest import check_manifest, write_manifest
from kellet.models.architecture import text_config
from kellet.models.checkpoint import Checkpoints, origin_of
from kellet.models.devices import Devices, full_linear
from kellet.models.heads import save_head, scalar_head
from kellet.models.sampling import draw_uniforms, generate_text, truncated
from kellet.models.tokens import TokenBatch, encode_prompts, encode_queries, end_tokens, tell_cut
from kellet.models.trunk import adapter_tensors, add_adapter, load_base, save_adapter
from kellet.policy.alarms import alarms
from kellet.policy.controller import (
    AdaptiveKLController,
    DualKLController,
    FixedKLController,
    KLController,
    warn_of_short_reach,
)
from kellet.policy.floor import floor_of
from kellet.policy.metrics import IterationMetrics, describe_lengths, describe_objective
from kellet.policy.rollout import Rollout, Sampler, builtin_sampler, join, score_rollout
from kellet.policy.score import RawScore, objective, reference_baseline, reference_scores
from kellet.policy.score_function import function_hash
from kellet.policy.state import Training
from kellet.policy.update import token_rewards, update
from kellet.policy.vllm_sampler import VLLMSampler, require_same_distribution
from kellet.progress import Progress, quiet
from kellet.reward.model import Reread
from kellet.reward.own_base import load_reward_model

SAMPLES = 32
"""Prompts of the training split whose greedy answers are kept in samples.jsonl."""
PARAMETERS: dict[str, Any] = {"seed": True, "text": True, "policy": True, "base_model": {"quantise", "dtype"}}
"""The parameters that decide a training; base and reward model are identified by the hash of their content."""
FREE = {
    "policy": {"checkpoint_every", "stop_on", "alarm_patience", "vllm"},
    "text": {"max_cut_prompts", "max_cut_responses"},
}
"""Parameters that may change between a kill and the next start."""
logger = logging.getLogger(__name__)


class PPOModels(NamedTuple):
    """The models of a PPO training; policy and reference are one trunk, and mostly the reward model too."""

    trunk: Any
    """Causal LM; its adapter ``default`` is the policy."""
    tokenizer: Any
    scorer: Callable[[TokenBatch], Tensor]
    """B responses -> (B,) rewards."""
    value_head: nn.Linear
    """Hidden width H -> 1."""
    reread: Reread | None = None
    """Gives the policy's responses in the scorer's tokens, where those are others."""


class Queries(NamedTuple):
    """The N prompts of an iteration that this process answers."""

    prompts: list[str]
    ids: list[list[int]]
    """Their tokens."""
    cut: int
    """How many of them were longer than text.max_prompt_tokens."""
    uniforms: Tensor
    """(N, max_response_tokens) random numbers that decide the policy's tokens."""
    reference_uniforms: Tensor | None
    """The same for the reference's answers, with policy.score.shaping gain."""


def train_policy(
    config: Config,
    preferences: Path,
    base: Path | str,
    reward_model: Path,
    out: Path,
    progress: Progress = quiet,
    reward_base: Path | str | None = None,
) -> None:
    """Run PPO from ``base`` against ``reward_model`` on the prompts of the training split.

    ``reward_base``: the base that the reward model was trained on, where it is another (kellet/reward/own_base.py).
    ``out`` gets adapter/, value_head.safetensors, history.jsonl and samples.jsonl; until then, checkpoints stand in
    OUT.checkpoints beside it. Raises DataError when the training split has fewer prompts than one batch, InputError
    when the checkpoints are of another training.
    """
    warn_of_short_reach(config)
    prompts = prompts_of(preferences, "train")
    if len(prompts) < config.policy.batch_size:
        raise DataError(
            f"{preferences} has {len(prompts)} training prompts, policy.batch_size is {config.policy.batch_size}; "
            "bring more prompts or set a smaller batch"
        )
    parameters = config.model_dump(mode="json", include=PARAMETERS, exclude=FREE)
    judged_on = {} if reward_base is None else {"reward_base": reward_base}
    origin = origin_of(parameters, base=base, reward_model=reward_model, **judged_on)
    origin["content"]["prompts"] = value_hash(prompts)  # nothing else of the preferences is read
    if config.policy.score.function:
        origin["content"]["score_function"] = function_hash(config.policy.score.function)
    checkpoints = Checkpoints(out, origin)
    checkpoints.newest()  # refuses one of another training before a model is loaded
    check_manifest(reward_model, base=reward_base or base)
    devices = Devices(unused=config.policy.critic_warmup > 0)
    trunk, tokenizer = load_base(base, config.base_model, devices.device, config.text.temperature)
    asked = encode_queries(tokenizer, prompts, config.text)  # what cannot be encoded is refused before any training
    tell_cut(sum(query.cut for query in asked), len(asked), "prompts", config.text, str(preferences))
    trunk = add_adapter(trunk, config.policy.lora, config.seed)
    loaded = load_reward_model(trunk, tokenizer, reward_model, config, base, reward_base, devices.device)
    scorer, reward_tokenizer = loaded
    if reward_tokenizer is not tokenizer:
        encode_prompts(reward_tokenizer, prompts, config.text)
    value_head = scalar_head(text_config(trunk).hidden_size, config.seed)
    scorer.to(devices.device)
    models = PPOModels(trunk, tokenizer, scorer, value_head, scorer.reread)
    if config.policy.sampler == "vllm":
        adapters = Path(config.policy.vllm.adapters or f"{out}.adapters")
        sampler = VLLMSampler(config.policy.vllm, config.text.temperature, adapters, devices)
        history = ppo(config, models, prompts, progress, checkpoints, devices, sampler)
        sampler.close()
    else:
        history = ppo(config, models, prompts, progress, checkpoints, devices)
    shown = prompts[:SAMPLES]
    answers = devices.run(lambda: generate_text(trunk, tokenizer, shown, config.text, seed=None))
    adapter, head = adapter_tensors(trunk), full_linear(value_head)
    if not devices.main:
        return
    with atomic_folder(out) as folder:
        save_adapter(trunk, folder / "adapter", tensors=adapter)
        save_head(head, folder / "value_head.safetensors")
        write_json_lines(folder / "history.jsonl", history)
        rows = zip(shown, answers, strict=True)
        samples = [{"prompt": prompt, "response": answer} for prompt, answer in rows]
        write_json_lines(folder / "samples.jsonl", samples)
        write_manifest(folder, "policy", base=base, reward_model=reward_model)
    checkpoints.remove()


def ppo(
    config: Config,
    models: PPOModels,
    prompts: Sequence[str],
    progress: Progress = quiet,
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
    sampler: Sampler = builtin_sampler,
) -> list[IterationMetrics]:
    """The training loop; trains the policy's adapter and the value head in place, returns the history.

    With ``checkpoints`` it goes on from the newest, writes its own, and saves before it gives way to Ctrl-C or SIGTERM.
    Every process of the training calls it.
    """
    settings, devices = config.policy, devices or Devices(unused=config.policy.critic_warmup > 0)
    devices.share(settings.batch_size, "policy.batch_size")  # refuses a batch that the processes cannot share
    weights = [p for part in (models.trunk, models.value_head) for p in part.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=settings.learning_rate)
    training = Training(
        models.trunk,
        models.value_head,
        devices.prepare(optimizer, models.trunk, models.value_head),
        torch.Generator().manual_seed(config.seed),
        build_controller(config),
        devices,
        sampler=sampler,
    )
    if checkpoints and (checkpoint := checkpoints.newest()):
        training.restore(checkpoint)
    devices.agree(len(training.history), "the checkpoint that they go on from")
    models.trunk.eval()  # dropout would make the first ratio differ from one
    raw_score = RawScore(settings.score, models.scorer, models.tokenizer, models.reread)
    if settings.score.shaping == "standardised" and training.baseline is None:
        of_reference = (models.trunk, raw_score, prompts, config.text, config.seed, settings.batch_size)
        training.baseline = devices.run(partial(reference_baseline, *of_reference))
    training.kl_floor = floor_of(training, models.tokenizer, prompts, config)
    ringing = alarms(training.history, config)
    with held_back() as stopping:
        for done in range(len(training.history) + 1, settings.iterations + 1):
            if fatal := [f"{name}: {ringing[name]}" for name in settings.stop_on if name in ringing]:
                if checkpoints:
                    training.save(checkpoints)
                raise TrainingStopped(f"policy.stop_on after iteration {done - 1}: {'; '.join(fatal)}")
            metrics = iterate(config, training, raw_score, prompts)
            ringing, before = alarms(training.history, config), ringing
            if devices.main:
                progress(done, settings.iterations, {k: v for k, v in metrics.items() if v is not None})
                for name in ringing.keys() - before.keys():
                    logger.warning("iteration %d, %s: %s", done, name, ringing[name])
            stop = devices.any(stopping())
            if checkpoints and (stop or done % settings.checkpoint_every == 0):
                training.save(checkpoints)
            if stop:
                break
    if len(training.history) < settings.iterations:
        raise KelletError(
            f"stopped after iteration {len(training.history)} of {settings.iterations}; start again to go on"
        )
    return training.history


def iterate(config: Config, training: Training, raw_score: RawScore, prompts: Sequence[str]) -> IterationMetrics:
    """One iteration of PPO: sample, score, reward, update, move β; its metrics join the history and are returned."""
    settings, devices, tokenizer = config.policy, training.devices, raw_score.tokenizer
    iteration, kl_coef = len(training.history) + 1, training.controller.value
    started = time.monotonic()

    queries = sample_queries(config, training, tokenizer, prompts)
    local, sampled = devices.run(partial(collect, config, training, raw_score, queries))
    rollout = join(devices.gather(local), tokenizer.pad_token_id)
    mask, ended = rollout.batch.response_mask, ~truncated(rollout.batch, end_tokens(tokenizer))
    scored = time.monotonic()

    metrics: IterationMetrics = {"iteration": iteration, "episodes": iteration * settings.batch_size}
    metrics["objective/reward"] = float(rollout.raw_scores.mean())
    metrics["objective/reward_std"] = float(rollout.raw_scores.std(correction=0))
    metrics |= describe_objective(rollout.objective, rollout.kl_k1, rollout.kl_full, rollout.entropy, mask, kl_coef)
    metrics |= describe_lengths(mask, ended, config.text.max_response_tokens)
    metrics["tokens/prompts_cut_share"] = devices.sum({"cut": queries.cut})["cut"] / settings.batch_size
    if settings.sampler == "vllm":
        gap = require_same_distribution(rollout.sampled_logprobs, rollout.logprobs, mask, settings.vllm)
        metrics["sampler/logprob_gap"] = gap

    rewards = token_rewards(settings, rollout, kl_coef)
    metrics |= update(settings, training, rollout, rewards, ended)
    if iteration > settings.critic_warmup:
        training.controller.update(float(metrics["objective/kl"] or 0.0), settings.batch_size)

    at_clip = training.controller.at_clip
    metrics["objective/kl_floor"] = training.kl_floor
    metrics["objective/kl_target"] = None if at_clip is None else settings.kl.target
    metrics["objective/kl_coef_at_clip"] = None if at_clip is None else float(at_clip)
    metrics["time/sample_s"], metrics["time/score_s"] = sampled - started, scored - sampled
    metrics["time/update_s"] = time.monotonic() - scored
    training.history.append(metrics)
    return metrics


def sample_queries(config: Config, training: Training, tokenizer: Any, prompts: Sequence[str]) -> Queries:
    """The next prompts of a random order in which every prompt comes once before any comes again."""
    size, generator = config.policy.batch_size, training.generator
    while len(training.order) < size:
        training.order = torch.cat([training.order, torch.randperm(len(prompts), generator=generator)])
    index, training.order = training.order[:size], training.order[size:]
    # every process draws for all B responses, so that the numbers do not depend on the count of processes
    rows = training.devices.share(size, "policy.batch_size")
    draw = partial(draw_uniforms, size, config.text.max_response_tokens, generator)
    uniforms = draw()[rows]
    reference_uniforms = draw()[rows] if config.policy.score.shaping == "gain" else None
    chosen = [prompts[i] for i in index[rows]]
    queries = encode_queries(tokenizer, chosen, config.text)
    cut = sum(query.cut for query in queries)
    return Queries(chosen, [query.ids for query in queries], cut, uniforms, reference_uniforms)


def collect(config: Config, training: Training, raw_score: RawScore, queries: Queries) -> tuple[Rollout, float]:
    """Sample and score the responses of this process; its rollout, and the time at which sampling was done."""
    trunk, tokenizer, limit = training.trunk, raw_score.tokenizer, config.text.max_response_tokens
    answers = training.sampler(trunk, tokenizer, queries.ids, limit, queries.uniforms)
    batch = answers.batch
    reference = None
    if queries.reference_uniforms is not None:
        reference = reference_scores(trunk, raw_score, queries.ids, queries.prompts, queries.reference_uniforms)
    sampled = time.monotonic()
    score = partial(raw_score, prompts=queries.prompts)
    rollout = score_rollout(trunk, score, training.value_head, answers)
    ends, baseline = end_tokens(tokenizer), training.baseline
    shaped = objective(config.policy.score, rollout.raw_scores, batch, reference, baseline, ends, limit)
    return rollout._replace(objective=shaped), sampled


def build_controller(config: Config) -> KLController:
    """The controller of β that ``policy.kl`` asks for."""
    settings = config.policy.kl
    if settings.controller == "fixed":
        return FixedKLController(settings.init_coef)
    if settings.controller == "dual":
        bounds = (settings.min_coef, settings.max_coef)
        return DualKLController(settings.init_coef, settings.target, settings.horizon, bounds)
    return AdaptiveKLController(settings.init_coef, settings.target, settings.horizon)
