"""Train the policy: sample, score, penalise drift from the reference, update by PPO; again.

One trunk plays policy, reference, value and reward (kellet/models/trunk.py). Legend: B responses, R response tokens. The KL in
the reward is k1 at β; what is reported, what moves the controller and what the gate reads is the full KL, in nats per
response. Metrics of each iteration are described in docs/reference/metrics.md.

Every ``policy.checkpoint_every`` iterations all that changes is saved (kellet/models/checkpoint.py): a training that is killed
and started again by the same command ends in the same bytes. The reference is never part of it: it stays the base.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kellet.config.run import Config
from kellet.data.prompts import prompts_of
from kellet.errors import DataError, KelletError, TrainingStopped
from kellet.files import atomic_folder, value_hash
from kellet.interrupt import held_back
from kellet.models.architecture import text_config
from kellet.models.checkpoint import Checkpoint, Checkpoints, optimizer_tensors, origin_of, restore_optimizer
from kellet.models.devices import Devices, full_linear, full_tensor, set_weight
from kellet.models.sampling import draw_uniforms, generate_text, sample_states, truncated
from kellet.models.tokens import TokenBatch, encode_prompt
from kellet.models.trunk import (
    adapter_tensors,
    add_adapter,
    load_base,
    save_adapter,
    save_head,
    scalar_head,
)
from kellet.policy.alarms import alarms
from kellet.policy.controller import AdaptiveKLController, DualKLController, FixedKLController, KLController
from kellet.policy.metrics import Metrics, describe_lengths, describe_objective
from kellet.policy.rollout import _reusable, join, score
from kellet.policy.score import Judge, baseline_of, reference_scores, score_of
from kellet.policy.score_function import function_hash
from kellet.policy.update import update
from kellet.progress import Progress, quiet
from kellet.reward.model import load_scorer

SAMPLES = 32
"""Prompts of the training split whose greedy answers are kept in samples.jsonl."""
PARAMETERS: dict[str, Any] = {"seed": True, "text": True, "policy": True, "base_model": {"quantise", "dtype"}}
"""The parameters that decide a training; base and reward model are known by their contents."""
FREE = {"policy": {"checkpoint_every", "stop_on", "alarm_patience"}}
"""Parameters that may change between a kill and the next start."""
logger = logging.getLogger(__name__)


@dataclass
class Training:
    """Everything that changes while a policy is trained."""

    model: Any
    value_head: nn.Linear
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    controller: KLController
    devices: Devices
    order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    """Numbers of the prompts still to be asked in this pass."""
    history: list[Metrics] = field(default_factory=list)
    baseline: tuple[float, float] | None = None
    """Mean and spread of the reference's scores, where scores are standardised by them."""

    def save(self, checkpoints: Checkpoints) -> None:
        """Write a checkpoint of it, on process 0."""
        tensors = {name: full_tensor(each) for name, each in (self._weights() | optimizer_tensors(self.optimizer)).items()}
        if not self.devices.main:
            return
        tensors |= {"generator": self.generator.get_state(), "order": self.order}
        state = {"controller": vars(self.controller), "history": self.history, "baseline": self.baseline}
        checkpoints.save(len(self.history), tensors, state)

    @torch.no_grad()
    def restore(self, checkpoint: Checkpoint) -> None:
        """Become what was saved."""
        for name, weight in self._weights().items():
            set_weight(weight, checkpoint.tensors[name])
        restore_optimizer(self.optimizer, checkpoint.tensors)
        self.generator.set_state(checkpoint.tensors["generator"])
        self.order = checkpoint.tensors["order"]
        vars(self.controller).update(checkpoint.state["controller"])
        self.history, baseline = checkpoint.state["history"], checkpoint.state["baseline"]
        self.baseline = tuple(baseline) if baseline else None

    def _weights(self) -> dict[str, Tensor]:
        policy = {f"policy.{name}": weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        return policy | {f"value_head.{name}": weight for name, weight in self.value_head.named_parameters()}


def train_policy(
    config: Config, preferences: Path, base: Path | str, reward_model: Path, out: Path, progress: Progress = quiet
) -> None:
    """Run PPO from ``base`` against ``reward_model`` on the prompts of the training split.

    ``out`` gets adapter/, value_head.safetensors, history.jsonl and samples.jsonl; until then, OUT.checkpoints beside
    it holds what a second start goes on from. Raises DataError when the training split has fewer prompts than one
    batch, InputError when the checkpoints are of another training.
    """
    prompts = prompts_of(preferences, "train")
    if len(prompts) < config.policy.batch_size:
        raise DataError(
            f"{preferences} has {len(prompts)} training prompts, policy.batch_size is {config.policy.batch_size}; "
            "bring more prompts or set a smaller batch"
        )
    parameters = config.model_dump(mode="json", include=PARAMETERS, exclude=FREE)
    origin = origin_of(parameters, base=base, reward_model=reward_model)
    origin["content"]["prompts"] = value_hash(prompts)  # all that it reads of the preferences
    if config.policy.score.function:
        origin["content"]["score_function"] = function_hash(config.policy.score.function)
    checkpoints = Checkpoints(out, origin)
    checkpoints.newest()  # one of another training is refused before anything is loaded
    devices = Devices(unused=config.policy.critic_warmup > 0)
    model, tokenizer = load_base(base, config.base_model, devices.device)
    model = add_adapter(model, config.policy.lora, config.seed)
    scorer = load_scorer(model, reward_model, tokenizer.eos_token_id)
    value_head = scalar_head(text_config(model).hidden_size, config.seed)
    scorer.to(devices.device)
    history = ppo(config, model, tokenizer, scorer, value_head, prompts, progress, checkpoints, devices)
    shown = prompts[:SAMPLES]
    answers = devices.run(lambda: generate_text(model, tokenizer, shown, config.text, seed=None))
    adapter, head = adapter_tensors(model), full_linear(value_head)
    if not devices.main:
        return
    with atomic_folder(out) as folder:
        save_adapter(model, folder / "adapter", tensors=adapter)
        save_head(head, folder / "value_head.safetensors")
        _write_lines(folder / "history.jsonl", history)
        rows = zip(shown, answers, strict=True)
        _write_lines(folder / "samples.jsonl", [{"prompt": prompt, "response": answer} for prompt, answer in rows])
    checkpoints.remove()


def ppo(
    config: Config,
    model: Any,
    tokenizer: Any,
    scorer: Callable[[TokenBatch], Tensor],
    value_head: nn.Linear,
    prompts: list[str],
    progress: Progress = quiet,
    checkpoints: Checkpoints | None = None,
    devices: Devices | None = None,
) -> list[Metrics]:
    """The training loop; trains the policy adapter of ``model`` and ``value_head`` in place, returns the history.

    With ``checkpoints`` it goes on from the newest, writes its own, and saves before it gives way to Ctrl-C or SIGTERM.
    Every process of the training comes here.
    """
    settings, devices = config.policy, devices or Devices(unused=config.policy.critic_warmup > 0)
    devices.share(settings.batch_size, "policy.batch_size")
    weights = [p for p in (*model.parameters(), *value_head.parameters()) if p.requires_grad]
    training = Training(
        model,
        value_head,
        devices.prepare(torch.optim.Adam(weights, lr=settings.learning_rate), model, value_head),
        torch.Generator().manual_seed(config.seed),
        build_controller(config),
        devices,
    )
    if checkpoints and (checkpoint := checkpoints.newest()):
        training.restore(checkpoint)
    devices.agree(len(training.history), "the checkpoint that they go on from")
    model.eval()  # dropout would make the first ratio differ from one
    judge = Judge(settings.score, scorer, tokenizer)
    if settings.score.shaping == "standardised" and training.baseline is None:
        training.baseline = devices.run(lambda: baseline_of(model, judge, prompts, config.text, config.seed))
    known = alarms(training.history, config)
    with held_back() as stopping:
        for done in range(len(training.history) + 1, settings.iterations + 1):
            if fatal := [f"{name}: {known[name]}" for name in settings.stop_on if name in known]:
                if checkpoints:
                    training.save(checkpoints)
                raise TrainingStopped(f"policy.stop_on after iteration {done - 1}: {'; '.join(fatal)}")
            metrics = iterate(config, training, judge, prompts)
            known, before = alarms(training.history, config), known
            if devices.main:
                progress(done, settings.iterations, {k: v for k, v in metrics.items() if v is not None})
                for name in known.keys() - before.keys():
                    logger.warning("iteration %d, %s: %s", done, name, known[name])
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


def iterate(config: Config, training: Training, judge: Judge, prompts: list[str]) -> Metrics:
    """One iteration: sample, score, update; its metrics are added to the history and given back."""
    settings, generator, kl_coef = config.policy, training.generator, training.controller.value
    devices, tokenizer, limit = training.devices, judge.tokenizer, config.text.max_response_tokens
    while len(training.order) < settings.batch_size:
        training.order = torch.cat([training.order, torch.randperm(len(prompts), generator=generator)])
    index, training.order = training.order[: settings.batch_size], training.order[settings.batch_size :]
    rows, eos = devices.share(settings.batch_size, "policy.batch_size"), tokenizer.eos_token_id
    started = time.monotonic()
    asked = [prompts[i] for i in index[rows]]
    queries = [encode_prompt(tokenizer, prompt, config.text) for prompt in asked]
    uniforms = draw_uniforms(len(index), limit, generator)[rows]
    batch, states = devices.run(lambda: sample_states(training.model, tokenizer, queries, limit, uniforms))
    by_reference = None
    if settings.score.shaping == "gain":
        again = draw_uniforms(len(index), limit, generator)[rows]
        by_reference = devices.run(lambda: reference_scores(training.model, judge, queries, asked, again))
    sampled = time.monotonic()
    own = devices.run(
        lambda: score(
            training.model, lambda answers: judge(answers, asked), training.value_head, batch, _reusable(states)
        )
    )
    raw = own.scores
    own = own._replace(scores=score_of(settings.score, raw, batch, by_reference, training.baseline, eos, limit))
    each = devices.gather((own, raw))
    rollout, raw = join([own for own, _ in each], tokenizer.pad_token_id), torch.cat([raw for _, raw in each])
    scored = time.monotonic()
    iteration, mask = len(training.history) + 1, rollout.batch.response_mask
    metrics: Metrics = {"iteration": iteration, "episodes": iteration * settings.batch_size}
    metrics |= {"objective/reward": float(raw.mean()), "objective/reward_std": float(raw.std(correction=0))}
    metrics |= describe_objective(rollout.scores, rollout.kl_k1, rollout.kl_full, rollout.entropy, mask, kl_coef)
    metrics |= describe_lengths(mask, ~truncated(rollout.batch, eos), limit)
    metrics |= update(
        settings,
        training.model,
        training.value_head,
        training.optimizer,
        rollout,
        kl_coef,
        generator,
        eos,
        frozen=iteration <= settings.critic_warmup,
        devices=devices,
    )
    if iteration > settings.critic_warmup:
        training.controller.update(float(metrics["objective/kl"] or 0.0), settings.batch_size)
    at_clip = training.controller.at_clip
    metrics["objective/kl_target"] = None if at_clip is None else settings.kl.target
    metrics["objective/kl_coef_at_clip"] = None if at_clip is None else float(at_clip)
    metrics["time/sample_s"], metrics["time/score_s"] = sampled - started, scored - sampled
    metrics["time/update_s"] = time.monotonic() - scored
    training.history.append(metrics)
    return metrics


def build_controller(config: Config) -> KLController:
    """The controller of β that ``policy.kl`` asks for."""
    settings = config.policy.kl
    if settings.controller == "fixed":
        return FixedKLController(settings.init_coef)
    if settings.controller == "dual":
        bounds = (settings.min_coef, settings.max_coef)
        return DualKLController(settings.init_coef, settings.target, settings.horizon, bounds)
    return AdaptiveKLController(settings.init_coef, settings.target, settings.horizon)


def _write_lines(path: Path, rows: Any) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
