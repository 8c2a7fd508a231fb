"""The sections of the parameters that decide what is trained: text, base model, reward model, policy."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kellet.config.data import Count, Positive, Section, Share


class Text(Section):
    """How prompts and responses become tokens."""

    prompt_template: str = "{prompt}\n"
    """The text that the model continues; must contain ``{prompt}``."""
    chat: bool = False
    """Give every prompt, not conversations alone, to the tokenizer's chat template: what an instruct model was trained
    on. A dialogue that is written out as in hh-rlhf becomes its messages, other text a message of the user;
    ``prompt_template`` is then not used."""
    max_prompt_tokens: Count = 48
    """Longer prompts lose their beginning, conversations their oldest turns (kellet/models/long_prompt.py)."""
    max_response_tokens: Count = 96
    """Tokens of a response, end of sequence included; longer training answers lose their end."""
    max_cut_prompts: Share = 1.0
    """Largest share of prompts that may be longer than max_prompt_tokens; beyond it a stage stops before it trains."""
    max_cut_responses: Share = 1.0
    """Largest share of the preferences' answers that may be longer than max_response_tokens; beyond it the reward
    model is not trained: it would read them as finished, and their length stands at the limit."""
    temperature: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    """Part of the policy and of the reference: π = softmax(logits / temperature), the same in sampling,
    log-probabilities, KL, evaluation, chat, serving and export. Small instruct models need less than 1."""

    @model_validator(mode="after")
    def _template_has_a_slot(self) -> "Text":
        if "{prompt}" not in self.prompt_template:
            raise ValueError("prompt_template must contain {prompt}")
        return self


class BaseLM(Section):
    """The base model, which is also the reference policy."""

    path: str | None = None
    """A local folder or hub name of a causal LM; null trains a small Llama on the training texts."""
    quantise: Literal["none", "4bit"] = "none"
    """``4bit``: the base's linear layers in NF4 (QLoRA, Dettmers et al. 2023); needs bitsandbytes."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of frozen weights and activations: auto is bfloat16 on a GPU that supports it, else float32. A CPU
    with bfloat16 instructions trains nearly three times as fast in it; a CPU without them is refused."""
    full_precision_output: bool = True
    """Logits of a bfloat16 base in float32, by a copy of its output layer. False saves that copy, 4 bytes for each
    number of vocabulary times width, and rounds logits to bfloat16, which shows as KL (docs/measured/precision.md)."""
    gradient_checkpointing: bool = False
    """Compute the layers again in the backward pass: far less memory for activations, about a third more time."""
    vocab_size: Annotated[int, Field(ge=300)] = 1024
    """Tokens of the BPE tokenizer (the trained model only, like all that follow)."""
    layers: Count = 2
    """Transformer blocks."""
    width: Count = 160
    """Size of the hidden state; a multiple of 2 · heads."""
    heads: Count = 4
    """Attention heads of each block."""
    steps: Count = 420
    """Optimizer steps."""
    batch_size: Count = 32
    """Texts per step."""
    learning_rate: Positive = 4e-3
    """Peak of a cosine schedule with linear warm-up (AdamW)."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "BaseLM":
        if self.width % (2 * self.heads):
            raise ValueError(f"width ({self.width}) must be a multiple of 2 * heads ({2 * self.heads})")
        return self


class Lora(Section):
    """Low-rank adaptation (Hu et al. 2021)."""

    rank: Count = 8
    """Rank of each update; more is a more flexible adapter."""
    alpha: Positive = 16.0
    """Scale: the adapter's output is multiplied by alpha / rank."""
    dropout: Share = 0.0
    """Share of the adapter's inputs that is dropped while the reward model is trained; PPO drops none."""


class Ensemble(Section):
    """Several reward models on one base, each with its adapter and head; where they differ, the reward is uncertain."""

    members: Count = 1
    """Reward models; with two or more, each is fitted to a bootstrap resample of the training prompts."""
    score: Literal["mean", "minimum", "mean_minus_std"] = "mean"
    """The policy's reward, of the members' rewards (Coste et al. 2023: the latter two distrust disagreement)."""
    std_coef: Annotated[float, Field(ge=0)] = 1.0
    """mean_minus_std: standard deviations subtracted from the mean."""


class RewardModel(Section):
    """Reward model (kellet/reward/model.py): Bradley-Terry on pairs."""

    base: str | None = None
    """Another base for reward model and judge, a local folder or hub name, with its own tokenizer and chat template
    (kellet/reward/own_base.py); null is the policy's, in memory once. It is loaded as ``base_model`` says
    (``dtype``, ``quantise``); its length covariate and the limits of ``text`` are then in its own tokens."""
    length_control: Literal["none", "covariate", "two_head"] = "covariate"
    """``covariate``: P(chosen) = σ(Δr + γ·Δlength), γ dropped when scoring; ``two_head``: a second head drawn to
    length, dropped when scoring (ODIN, Chen et al. 2024)."""
    two_head_weight: Positive = 1.0
    """two_head: weight of the losses that separate the two heads, λ_L = λ_O of ODIN."""
    require_lift: bool = True
    """Stop the run when the lift over 'always the longer one' is not shown to be above zero."""
    lora: Lora = Lora()
    ensemble: Ensemble = Ensemble()
    epochs: Count = 2
    """Passes over the training pairs."""
    batch_size: Count = 16
    """Pairs per step."""
    micro_batch_size: Count | None = None
    """Pairs in one forward and backward pass; a step sums the gradients of its passes. Null: all its pairs at once."""
    learning_rate: Positive = 1e-3
    """Of adapter and head (AdamW); falls linearly to a tenth."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Of adapter and head; γ has none."""
    margin_scale: Annotated[float, Field(ge=0)] = 0.0
    """Logits by which one unit of a pair's ``margin`` separates its answers (Llama 2, eq. 2); 0 ignores the column."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of labels that is assumed to be wrong."""
    centring: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the mean of (r⁺ + r⁻)², which holds rewards near zero (Eisenstein et al. 2023 use 0.01)."""
    calibrate: bool = False
    """Divide rewards by the temperature that fits the held-out pairs best, so that one logit is one logit."""
    checkpoint_every: Count = 200
    """Steps between two checkpoints; a stopped training resumes from the newest."""

    @model_validator(mode="after")
    def _two_heads_need_the_whole_batch(self) -> "RewardModel":
        if self.length_control == "two_head" and self.micro_batch_size is not None:
            raise ValueError("length_control two_head correlates rewards over the batch; set micro_batch_size to null")
        return self


class KL(Section):
    """The KL penalty and its controller (kellet/models/kl.py)."""

    controller: Literal["fixed", "adaptive", "dual"] = "adaptive"
    """``fixed``: β stays; ``adaptive``, ``dual``: β follows the KL towards ``target`` (``dual``: by its logarithm)."""
    penalty: Literal["reward", "loss_k2", "loss_full"] = "reward"
    """``reward``: β·k1 is subtracted from each token's reward; ``loss_*``: β times the estimator is added to the loss,
    over the advantages' standard deviation so that β keeps its unit; it misses a token's effect on later prefixes."""
    init_coef: Positive = 0.15
    """β at the start (and throughout when fixed): reward units per nat."""
    target: Positive = 3.0
    """Adaptive, dual: the mean full KL to hold, nats per response."""
    horizon: Positive = 300.0
    """Responses; adaptive: an iteration moves β by at most 0.2·batch_size/horizon of itself (Ziegler et al. 2019);
    dual: log β by at most batch_size/horizon."""
    min_coef: Positive = 1e-3
    """Dual: the least β, reward units per nat."""
    max_coef: Positive = 10.0
    """Dual: the largest β, reward units per nat."""

    @model_validator(mode="after")
    def _start_is_within_the_bounds(self) -> "KL":
        if self.controller == "dual" and not self.min_coef <= self.init_coef <= self.max_coef:
            raise ValueError(f"init_coef ({self.init_coef}) must lie between min_coef and max_coef")
        return self


class Score(Section):
    """What PPO maximises, computed from raw scores (kellet/policy/score.py); by default the reward model's score."""

    function: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")] | None = None
    """``module:function`` that takes lists of prompts and responses and returns a list of scores; null for none."""
    function_weight: float = 1.0
    """Weight of the function's score."""
    reward_weight: float = 1.0
    """Weight of the reward model's score beside the function's; 0 uses the function alone."""
    shaping: Literal["none", "standardised", "gain"] = "none"
    """``standardised``: over mean and spread of the reference's answers (Ziegler et al. 2019); ``gain``: sigmoid of the
    gain over an answer of the reference to the same prompt (PAR, Fu et al. 2025)."""
    clip: Positive | None = None
    """The shaped score is clipped to ± this; null for no limit."""
    overlong_tokens: Annotated[int, Field(ge=0)] = 0
    """Width, tokens, of the ramp of a penalty that ends at max_response_tokens (Yu et al. 2025); 0 for none."""
    overlong_penalty: Positive = 1.0
    """The penalty at the end of that ramp, score units."""
    missing_eos_penalty: Annotated[float, Field(ge=0)] = 0.0
    """Subtracted from the score of an answer that was cut off, score units."""


Alarm = Literal[
    "kl_tail", "controller_at_clip", "entropy_collapse", "value_blind", "all_truncated", "reward_with_length"
]


class VLLM(Section):
    """The vLLM server of ``policy.sampler: vllm`` (kellet/policy/vllm_sampler.py, docs/use/scale.md)."""

    endpoint: Annotated[str, Field(pattern=r"^https?://[^\s@/?#]+(/[^\s@?#]*)?$")] = "http://127.0.0.1:8000"
    """Its address, without a name or password; its key is read from VLLM_API_KEY in the environment."""
    adapters: str | None = None
    """Folder for the policy's adapters, at the same path on the server's machine; null: beside the policy."""
    concurrency: Count = 64
    """Responses that are asked for at the same time."""
    timeout_s: Positive = 600.0
    """Seconds until a request that is not answered is made again."""
    max_gap: Positive = 0.1
    """Largest mean difference of the server's and the trainer's log-probabilities, nats per token; beyond it the run
    stops. Two engines in bfloat16 differ by some hundredths, another base or adapter by more than one."""


class Policy(Section):
    """PPO (kellet/policy/ppo.py, kellet/policy/train.py)."""

    iterations: Count = 30
    """Rounds of sampling and updating."""
    batch_size: Count = 64
    """Responses sampled for each iteration."""
    minibatch_size: Count = 32
    """Responses in one optimizer step; divides batch_size."""
    micro_batch_size: Count | None = None
    """Responses in one forward and backward pass; the gradient is that of the minibatch. Null: as many as make 1,024
    tokens on a CPU, which is fastest so, else the whole minibatch."""
    epochs: Count = 2
    """Passes over each batch."""
    learning_rate: Positive = 1e-3
    """Of adapter and value head (Adam), constant."""
    gamma: Share = 1.0
    """Discount per token; 1 values the reward at the end the same from every token."""
    lam: Share = 0.95
    """λ of generalised advantage estimation."""
    clip_range: Positive = 0.2
    """ε of the clipped surrogate."""
    value_clip_range: Positive = 0.2
    """Beyond this distance from its old value, reward units, moving a value further gains nothing."""
    value_coef: Positive = 0.1
    """Weight of the value loss."""
    critic_warmup: Annotated[int, Field(ge=0)] = 0
    """First iterations in which only the value head learns and the policy stays the reference."""
    max_grad_norm: Positive = 1.0
    """The gradient is scaled down to this Euclidean norm."""
    stop_kl: Positive | None = None
    """Largest KL of an iteration's update, nats per response (k3 on the minibatch at hand, measured before each step):
    beyond it this step and the rest are skipped. Null: half of policy.kl.target. The first step of an iteration begins
    at 0 and is bounded by the learning rate alone."""
    checkpoint_every: Count = 5
    """Iterations between two checkpoints; a killed training resumes from the newest."""
    alarm_patience: Annotated[int, Field(ge=3)] = 10
    """Iterations that a condition must last before its alarm is given, where a single bad iteration means nothing."""
    stop_on: tuple[Alarm, ...] = ()
    """Alarms (kellet/policy/alarms.py) that end the training, with a checkpoint; the others only warn."""
    sampler: Literal["builtin", "vllm"] = "builtin"
    """What samples the policy's answers in training: Kellet's own loop, or a vLLM server that loads the adapter."""
    vllm: VLLM = VLLM()
    lora: Lora = Lora()
    kl: KL = KL()
    score: Score = Score()

    @property
    def largest_step(self) -> float:
        """``stop_kl``, or half of the KL that the controller holds, nats per response."""
        return self.kl.target / 2 if self.stop_kl is None else self.stop_kl

    @model_validator(mode="after")
    def _minibatches_divide_the_batch(self) -> "Policy":
        if self.batch_size % self.minibatch_size:
            raise ValueError(f"batch_size ({self.batch_size}) must be a multiple of minibatch_size")
        return self
