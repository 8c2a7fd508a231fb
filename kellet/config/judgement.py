"""The sections of the parameters that decide how a policy is judged: evaluation and gate."""

from typing import Annotated, Any, Literal

from pydantic import Field

from kellet.config.data import Count, Positive, Section, Share


class Evaluation(Section):
    """Held-out evaluation (kellet/evaluation/evaluate.py)."""

    prompts: Count = 256
    """Test prompts; all when there are fewer."""
    samples: Count = 2
    """Answers of each system to each prompt; the length slope needs two or more."""
    spot_checks: Annotated[int, Field(ge=0)] = 40
    """Support world: pairs that simulated reviewers judge blind (column judge_human)."""
    batch_size: Count = 64
    """Prompts answered at once."""
    rotation: bool = False
    """Each look of a programme asks the next ``prompts`` test prompts, from the first again after the last; else all
    looks ask the same ones."""
    judge: bool = False
    """Train a second reward model on the validation pairs (kellet/reward/judge_model.py); it fills judge_reward."""


Criterion = Literal[
    "reward_gain",
    "length_inflation",
    "controlled_gain",
    "kl_budget",
    "kl_price",
    "independent_judge",
    "reward_trust",
    "degeneration",
    "style_shift",
]


class Gate(Section):
    """The promotion gate (kellet/gate/verdict.py): every criterion must pass, each at level alpha."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    """One-sided level of each criterion's interval."""
    min_gain: float = 0.0
    """reward_gain: the lower bound must exceed this, reward units."""
    length_tolerance: Annotated[float, Field(ge=0)] = 0.10
    """length_inflation: the upper bound of candidate/reference mean length must not exceed 1 + this."""
    length_bandwidth: Annotated[float, Field(gt=0, le=1)] = 0.2
    """controlled_gain: answers are about equally long when their lengths differ by less than this share of the mean."""
    kl_budget: Positive = 8.0
    """kl_budget: upper bound of the mean full KL, nats per response."""
    kl_tail_budget: Positive = 20.0
    """kl_budget: the 95th percentile of KL, nats per response."""
    kl_price_floor: float = 0.0
    """kl_price: the lower bound of the gain per nat must exceed this, reward units per nat; β is a natural floor."""
    judge: str = "judge_human"
    """independent_judge: the column of the evaluation file that the policy was not optimised against."""
    model_judge: str | None = None
    """independent_judge: the column of a model that judged all pairs, where ``judge`` is people's, who judged some of
    them, drawn at random. It makes the interval of the win rate by people shorter (Angelopoulos et al. 2023)."""
    judges_for_information: tuple[str, ...] = ()
    """independent_judge: other judge columns, which are reported and do not decide. A column that is in the evaluation
    and neither here nor named as judge leaves the verdict open."""
    judge_margin: Annotated[float, Field(ge=0, lt=0.5)] = 0.10
    """independent_judge: the lower bound of the win rate must exceed 0.5 - this; an interval below 0.5 blocks."""
    judge_error: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """independent_judge: known share of comparisons that the judge gets wrong; the win rate is corrected for it."""
    degeneration_tolerance: Share = 0.05
    """degeneration: shares (truncated, empty, repeated, duplicate) may exceed the reference's by this."""
    style_shift: Literal["warn", "block"] = "warn"
    """style_shift: the verdict where the gain is shown to come from style: ``warn`` inconclusive, ``block`` block."""
    anchor_margin: Annotated[float, Field(ge=0)] = 0.2
    """The reward gain over the anchor must exceed minus this, in standard deviations of the reward of the anchor's
    answers to one prompt. The anchor is the champion that was last shown better than the anchor before it."""
    programme: bool = True
    """Each verdict is a look of a programme, at the level that earlier looks leave for it (kellet/gate/programme.py);
    false: each stands alone at ``alpha``, and repeated looks are not accounted for."""
    programme_level: Annotated[float, Field(gt=0, lt=0.5)] = 0.10
    """False discovery rate of a programme: the share of its promotions that may be expected to be wrong; before the
    first one, the probability of any is at most half of this."""
    required: tuple[Criterion, ...] = (
        "reward_gain",
        "length_inflation",
        "controlled_gain",
        "kl_budget",
        "degeneration",
    )
    """Criteria that must pass. One that is not required may be absent, and counts when it is present."""
    resamples: Annotated[int, Field(ge=200)] = 2000
    """Bootstrap resamples, over prompts."""
    seed: int = 0
    """Seed of the bootstrap."""

    @property
    def intervals(self) -> dict[str, Any]:
        """Level, resamples and seed, as the statistics take them (kellet/stats/bootstrap.py)."""
        return {"alpha": self.alpha, "resamples": self.resamples, "seed": self.seed}
