"""How TRL, OpenRLHF and verl name what they log: each name, what it is by its source, its estimator and its unit.

The names were read in the sources: TRL v0.7.11 to v1.9.0 and main of July 2026, OpenRLHF v0.2.9 to v0.10.0 and main of
August 2026, verl v0.1 to v0.7.0 and main of January 2026. Where a version is named, the other versions have another
name. KL is never trusted by its name: k1 = log π - log π_ref of the sampled tokens, k2 = k1²/2,
k3 = exp(-k1) - 1 + k1 (Schulman 2020). None of the trainers logs the full KL by default.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

Estimator = Literal["k1", "k2", "k3", "full"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
REWARD = "objective/reward"
PER_TOKEN = "objective/kl_per_token"  # noqa: S105 -- a metric
LENGTH = "tokens/response_mean"
BETA = "objective/kl_coef"
APPROXKL = "ppo/policy/approxkl"
LOSS_BETA = "actor/kl_coef"
"""verl's β of a KL in the loss, beside advantages that are divided by their spread: no price of reward."""
KL = "KL"
"""Stands for the metric of KL in nats per response, whose name has the estimator: ``objective/kl_k1``."""


def kl_metric(estimator: Estimator) -> str:
    """Kellet's metric for an estimate of the KL of a response."""
    return "objective/kl" if estimator == "full" else f"objective/kl_{estimator}"


@dataclass(frozen=True)
class Name:
    """One metric of a trainer."""

    theirs: str
    ours: str
    """Kellet's metric, KL for nats per response, or empty: known, and not taken."""
    why: str
    """What it is by the source, with its unit, and in which versions; or why it is not taken."""
    estimator: Estimator | None = None
    """Of a KL: what the trainer's default settings log."""
    coefficient: str = ""
    """Of a KL: the trainer's metric of the β that weighs this KL."""

    fixed: bool = False
    """Of a KL: no setting of the trainer changes its estimator."""

    @property
    def metric(self) -> str:
        """Kellet's metric, with the estimator of a KL in its name."""
        return kl_metric(self.estimator or "k1") if self.ours == KL else self.ours


@dataclass(frozen=True)
class Trainer:
    """How a trainer names its metrics. Of several names for one of ours the first is preferred."""

    title: str
    markers: tuple[frozenset[str], ...]
    """Its logs are recognised by all the metrics of one of these sets."""
    names: tuple[Name, ...]

    def name(self, theirs: str) -> Name | None:
        """The entry of a metric; None for one that is not known."""
        return next((name for name in self.names if name.theirs == theirs), None)

    def recognised(self, keys: Collection[str]) -> bool:
        """Whether a log with these metrics is this trainer's."""
        return any(marker <= set(keys) for marker in self.markers)


def _markers(*sets: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(names.split()) for names in sets)


TRL_PPO = Trainer(
    "TRL PPOTrainer",
    _markers("objective/scores", "ppo/mean_scores", "ppo/policy/policykl"),
    (
        Name("objective/scores", REWARD, "mean score of a response without the penalty (0.9 on, also old RLOOTrainer)"),
        Name("env/reward_mean", REWARD, "mean reward as given to step() (up to 0.11)"),
        Name("ppo/mean_scores", REWARD, "mean score after scaling and clipping (up to 0.11)"),
        Name("env/reward_std", "objective/reward_std", "over responses (up to 0.11)"),
        Name("ppo/std_scores", "objective/reward_std", "over responses, after scaling and clipping (up to 0.11)"),
        Name(
            "objective/kl",
            KL,
            "nats per response: sum over tokens; kl_estimator, kl_penalty",
            "k1",
            "objective/kl_coef",
        ),
        Name("objective/kl_coef", BETA, "β of this step (up to 0.11)"),
        Name("objective/rlhf_reward", "objective/score_with_kl", "score less β·KL"),
        Name(
            "policy/approxkl_avg", APPROXKL, "k2 of the update per token, padding counted: half the squared log ratio"
        ),
        Name("ppo/policy/approxkl", APPROXKL, "k2 of the update, nats per token (up to 0.11)"),
        Name("policy/clipfrac_avg", "ppo/policy/clipfrac", "share of tokens"),
        Name("ppo/policy/clipfrac", "ppo/policy/clipfrac", "share of tokens (up to 0.11)"),
        Name("loss/value_avg", "ppo/value/loss", "half the clipped squared error"),
        Name("ppo/loss/value", "ppo/value/loss", "half the clipped squared error (up to 0.11)"),
        Name("ppo/val/var_explained", "ppo/value/explained_variance", "1 - squared error / variance (up to 0.11)"),
        Name("tokens/responses_len_mean", LENGTH, "tokens (up to 0.11)"),
        Name("ppo/policy/entropy", "objective/entropy", "nats per token (up to 0.11)"),
        Name("episode", "episodes", "responses sampled so far"),
        Name("objective/non_score_reward", "", "the penalty -β·KL of a response; β is computed from it"),
        Name("ppo/mean_non_score_reward", "", "the penalty per token; β is logged beside it"),
        Name("ppo/policy/policykl", "", "k1 of the update: may be negative, zero in the first minibatch"),
        Name("objective/entropy", "", "-log π of the sampled tokens summed over a response, not entropy per token"),
        Name("policy/entropy_avg", "", "entropy per position, padding counted"),
        Name("val/ratio", "", "mean ratio of the probabilities in the update"),
        Name("val/ratio_var", "", "its variance"),
        Name("val/num_eos_tokens", "", "count of end tokens in the batch"),
        Name("val/clipfrac_avg", "", "of the value head"),
        Name("beta", "", "temperature of OnlineDPOTrainer; β is computed from the penalty"),
    ),
)
_GRPO_NAMES = (
    Name("reward", REWARD, "mean weighted sum of the reward functions, KL left out"),
    Name("reward_std", "objective/reward_std", "over the batch (1.0 on), mean within prompts (before)"),
    Name("completions/mean_length", LENGTH, "tokens (0.17 on)"),
    Name("completion_length", LENGTH, "tokens (up to 0.16)"),
    Name("completions/clipped_ratio", "tokens/truncated_share", "share of completions without an end (0.17 on)"),
    Name("clip_ratio/region_mean", "ppo/policy/clipfrac", "share of tokens (0.17 on)"),
    Name("clip_ratio", "ppo/policy/clipfrac", "share of tokens (0.16, and with Liger)"),
    Name("entropy", "objective/entropy", "nats per token"),
    Name("grad_norm", "ppo/grad_norm", "before clipping"),
    Name("completions/mean_terminated_length", "", "length of the ended completions only: without the cut ones"),
    Name("completions/truncated_fraction", "", "of the distillation trainers"),
)
TRL_GRPO = Trainer(
    "TRL GRPOTrainer or RLOOTrainer",
    _markers("completions/mean_length", "completion_length reward"),
    (
        Name("kl", PER_TOKEN, "nats per token; GRPOTrainer has k3, RLOOTrainer k1 (--trainer trl-rloo)", "k3"),
        *_GRPO_NAMES,
    ),
)
TRL_RLOO = Trainer(
    "TRL RLOOTrainer",
    (),  # its names are GRPOTrainer's, so it has to be named
    (Name("kl", PER_TOKEN, "nats per token (0.22 on)", "k1"), *_GRPO_NAMES),
)
OPENRLHF = Trainer(
    "OpenRLHF",
    _markers("ppo_clip_ratio", "rollout/reward_mean", "policy_loss response_length"),
    (
        Name("rollout/reward_mean", REWARD, "mean score of a response (0.9.8 on)"),
        Name("reward", REWARD, "mean score of a response, penalty left out (before 0.9.8, and beside it since)"),
        Name("rollout/reward_std", "objective/reward_std", "over responses (0.9.8 on)"),
        Name(
            "logprobs_diff",
            PER_TOKEN,
            "log π - log π_ref, nats per token, whatever the estimator (0.9.5 on)",
            "k1",
            fixed=True,
        ),
        Name("kl", PER_TOKEN, "nats per token; algo.kl.estimator, kl_estimator", "k1"),
        Name("rollout/response_length_mean", LENGTH, "tokens (0.9.8 on)"),
        Name("response_length", LENGTH, "tokens (before 0.9.8, and beside it since)"),
        Name("rollout/truncated_rate", "tokens/truncated_share", "share of responses (0.9.8 on)"),
        Name("response_clip_ratio", "tokens/truncated_share", "share of responses (0.8, 0.9)"),
        Name("ppo_clip_ratio", "ppo/policy/clipfrac", "share of tokens (0.8 on)"),
        Name("entropy_loss", "objective/entropy", "entropy, nats per token"),
        Name("actor_grad_norm", "ppo/grad_norm", "before clipping"),
        Name("ppo_kl", "", "k1 of the update: may be negative, zero in the first minibatch; no measure of its size"),
        Name("vllm_kl", "", "k1 between the sampler and the policy, not from the reference"),
        Name("return", "", "reward less the penalty, after the advantage estimator has shaped it"),
        Name("total_length", "", "prompt and response"),
    ),
)
VERL = Trainer(
    "verl",
    _markers("critic/score/mean"),
    (
        Name("critic/score/mean", REWARD, "mean score of a response, KL left out"),
        Name("critic/rewards/mean", "objective/score_with_kl", "score less β·KL where use_kl_in_reward is set"),
        Name(
            "actor/reward_kl_penalty",
            PER_TOKEN,
            "the KL in the reward, nats per token; algorithm.kl_penalty (0.4 on)",
            "k1",
            "actor/reward_kl_penalty_coeff",
        ),
        Name("critic/kl", PER_TOKEN, "the KL in the reward, nats per token (up to 0.3)", "k1", "critic/kl_coeff"),
        Name("critic/kld", PER_TOKEN, "the KL in the reward, nats per token (0.1, Megatron)", "k1", "critic/kl_coef"),
        Name(
            "actor/kl_loss",
            PER_TOKEN,
            "the KL in the loss, nats per token; kl_loss_type is low_var_kl; 0.6 divides it by the micro-batches, "
            "0.7 sums it over the minibatches",
            "k3",
        ),
        Name("actor/reward_kl_penalty_coeff", BETA, "β of the KL in the reward (0.4 on)"),
        Name("critic/kl_coeff", BETA, "β of the KL in the reward (up to 0.3)"),
        Name("critic/kl_coef", BETA, "β of the KL in the reward (0.1, Megatron)"),
        Name(
            LOSS_BETA,
            "",
            "β of the KL in the loss: a price in normalised advantage, not in units of the reward; only --map "
            "objective/kl_coef=actor/kl_coef takes it",
        ),
        Name("response_length/mean", LENGTH, "tokens"),
        Name("response_length/clip_ratio", "tokens/truncated_share", "share of responses as long as the limit"),
        Name("actor/pg_clipfrac", "ppo/policy/clipfrac", "share of tokens"),
        Name("actor/entropy", "objective/entropy", "nats per token (0.5 on)"),
        Name("actor/entropy_loss", "objective/entropy", "entropy, nats per token (up to 0.4)"),
        Name("actor/grad_norm", "ppo/grad_norm", "before clipping"),
        Name("critic/vf_explained_var", "ppo/value/explained_variance", "over tokens"),
        Name(
            "actor/ppo_kl",
            "",
            "k1 of the update: may be negative, zero by construction in the first minibatch; no measure of its size",
        ),
        Name("response_length_non_aborted/mean", "", "without the aborted responses"),
    ),
)
TRAINERS = {"trl-ppo": TRL_PPO, "trl-grpo": TRL_GRPO, "trl-rloo": TRL_RLOO, "openrlhf": OPENRLHF, "verl": VERL}
"""By the value of ``--trainer``."""
MAPPED = Trainer("the names given with --map", (), ())
"""Where no trainer is recognised and --map says what is what."""
