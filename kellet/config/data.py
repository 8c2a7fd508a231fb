"""The section ``data`` of the parameters: what the preferences are, what is refused, how they are split.

DVC tracks it by file. kellet/config/run.py has the whole configuration.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(pattern=r"^[^\W_][\w.-]*$", max_length=200)]
"""Names a folder: letters, figures, ``_``, ``.``, ``-``; the first a letter or figure, so it is no path elsewhere."""
Column = Literal[
    "prompt",
    "chosen",
    "rejected",
    "answer_a",
    "answer_b",
    "preferred",
    "annotator",
    "created_at",
    "margin",
    "input",
    "system",
    "history",
    "tools",
    "status",
]


class Section(BaseModel):
    """Frozen, and an unknown key is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class World(Section):
    """The support world (kellet/data/world.py): how the default preferences are made."""

    seed: int = 0
    """Seed of prompts, answers and labels."""
    prompts: Count = 2600
    """Distinct customer messages."""
    pairs_per_prompt: Count = 2
    """Pairs of answers judged for each message."""
    annotators: Count = 8
    """People who label, each with a different length bias."""
    length_bias: float = 1.0
    """Mean λ: logits that an annotator adds for every 10 words that an answer is longer."""
    length_bias_spread: Annotated[float, Field(ge=0)] = 0.25
    """Standard deviation of λ between annotators, in the same unit."""
    gold_weight: Positive = 3.0
    """Logits for one unit of gold helpfulness."""


class Validation(Section):
    """Limits of the Great Expectations suites (kellet/data/suite.py)."""

    max_prompt_chars: Count = 8000
    """Longer prompts go to quarantine."""
    max_answer_chars: Count = 8000
    """Longer answers go to quarantine."""
    min_pairs: Count = 200
    """Fewer accepted pairs than this fail the table."""
    max_quarantined: Share = 0.2
    """A larger share of quarantined rows fails the table."""
    longer_preferred_warn: tuple[Share, Share] = (0.35, 0.65)
    """Outside this band of the share of pairs whose longer answer (words) was chosen, a warning is given."""
    longer_preferred_fail: tuple[Share, Share] = (0.10, 0.90)
    """Outside this band the table fails."""

    @model_validator(mode="after")
    def _bands_are_nested(self) -> "Validation":
        (warn_low, warn_high), (fail_low, fail_high) = self.longer_preferred_warn, self.longer_preferred_fail
        if not fail_low <= warn_low < warn_high <= fail_high:
            raise ValueError("longer_preferred_warn must be a band inside longer_preferred_fail, each as [low, high]")
        return self


class Split(Section):
    """Shares of the prompts; a prompt's split follows from its hash, so it never moves when data are added."""

    validation: Share = 0.16
    """For the reward model's card."""
    test: Share = 0.12
    """For the evaluation of policies."""
    normalise: bool = False
    """Hash prompts without differences in case, white space and invisible characters: near copies share a split."""


class Prompts(Section):
    """Prompts without answers (kellet/data/prompts.py), for PPO and evaluation in place of the preferences' prompts."""

    train: tuple[str, ...] = ()
    """Raw files of the prompts that PPO asks, relative to the project root; none: those of the preferences."""
    test: tuple[str, ...] = ()
    """Raw files of the prompts that evaluation asks."""
    column: str = "prompt"
    """Their column: texts or lists of messages."""
    conversation: bool = False
    """Each text is what a user says first, rendered as a conversation; in hh-rlhf's form without a chat template."""

    @model_validator(mode="after")
    def _both_or_none(self) -> "Prompts":
        if bool(self.train) != bool(self.test):
            raise ValueError("prompts.train and prompts.test are given together, or neither")
        return self


class Data(Section):
    """What the preferences are. DVC tracks this whole section."""

    name: Name = "support"
    """Names the folder data/prepared/NAME and the DVC stage prepare@NAME."""
    source: Literal["world", "files"] = "world"
    """``world``: synthesised into the first of ``files``; ``files``: they are given."""
    files: Annotated[tuple[str, ...], Field(min_length=1)] = ("data/raw/support.jsonl.gz",)
    """Raw preference files (.jsonl, .jsonl.gz, .csv, .parquet) or folders of them, relative to the project root."""
    columns: dict[Column, str] = Field(default_factory=dict)
    """Column of the contract -> its name in the files, where it has another, such as {prompt: question}.

    Beside the columns of the table: input (follows the prompt), system and history (stand before it), tools, status.
    """
    preferred_values: dict[str, Literal["a", "b", "tie"]] = Field(default_factory=dict)
    """Who wins by each value of ``preferred``, where values have several readings, such as {"0": b, "1": a}.

    Numbers on either side of a middle: {"<4": a, "4": tie, ">4": b}.
    """
    ignored: tuple[str, ...] = ()
    """Columns that hold text which is no part of prompt or answers, and scores that say nothing of who won."""
    prompt_from: Literal["beginning"] | None = None
    """``beginning``: where no column holds the prompt, it is the words with which both answers begin."""
    disagreement: Literal["keep", "weights", "majority", "drop"] = "keep"
    """Several judgements of the same two answers: keep all, weigh, vote or drop (kellet/data/annotators.py)."""
    world: World = World()
    """How the support world is made; read when ``source`` is ``world``."""
    validation: Validation = Validation()
    """What is refused, row by row and as a whole."""
    split: Split = Split()
    """Training, validation, test."""
    prompts: Prompts = Prompts()
    """Other prompts for PPO and evaluation than the preferences have."""

    @field_validator("preferred_values", mode="before")
    @classmethod
    def _values_are_texts(cls, values: Any) -> Any:
        """YAML reads 0 and true as a number and a bool."""
        if not isinstance(values, dict):
            return values
        return {str(key).lower() if isinstance(key, bool) else str(key): side for key, side in values.items()}

    @model_validator(mode="after")
    def _the_world_judges_its_own_prompts(self) -> "Data":
        if self.prompts.train and self.source == "world":
            raise ValueError(
                "prompts from files need source: files; the support world knows the truth of its own prompts only"
            )
        return self
