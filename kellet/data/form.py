"""How one preference file is read: names of the contract, names that are understood, and the decision itself."""

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kellet.config.data import Data
from kellet.data.account import Entry
from kellet.data.answer_names import other
from kellet.data.judgements import Scale
from kellet.data.survey import escaped

PAIR, COMPARISON = ("chosen", "rejected"), ("answer_a", "answer_b", "preferred")
OPTIONAL = ("annotator", "created_at", "margin")
BESIDE = ("input", "system", "history", "tools", "status")
"""Parts of the prompt that have a column of their own, and the state of a judgement."""
NAMES = ("prompt", *PAIR, *COMPARISON, *OPTIONAL, *BESIDE)
"""The columns of the contract; ``data.columns`` and ``--map`` say which column of a foreign file is which."""
PROMPTS = re.findall(
    r"\w+",
    "instruction question query input history context post user user_message user_input user_prompt customer_message "
    "message messages text conversation conversations dialogue dialog problem request question_full_text",
)
"""Other names of the prompt; of several that have a value, none is preferred."""
PREFERRED = re.findall(
    r"\w+",
    "preference winner choice comparison pairwise pw label labels vote verdict judgement judgment overall_preference "
    "preference_strength better_response_id better better_response best best_response preferred_response "
    "preferred_answer preferred_output preferred_model selected selected_response human_preference human_choice accept",
)
"""Other names of the column that says who won."""
SYSTEMS = {"system", "system_prompt", "system_message", "system_instruction"}
METADATA = set(
    re.findall(
        r"\w+",
        "comment comments rationale rationales feedback explanation explanations critique critiques note notes reason "
        "reasons reasoning justification justifications labelling labeling metadata meta moderation suggestion "
        "judgment judgement judge",
    )
)
"""Words of a name that says text beside the pair, such as why somebody judged so."""
LABELS = ("label", "preferred")
"""Columns of a judgement beside chosen and rejected, which do not need one; the table checks look at them."""


class Said(NamedTuple):
    """What the parameters say of how files are read (kellet/config/data.py)."""

    columns: Mapping[str, str] = {}
    preferred_values: Mapping[str, str] = {}
    ignored: Sequence[str] = ()
    prompt_from: str | None = None

    @classmethod
    def of(cls, data: Data) -> "Said":
        """What the section ``data`` says."""
        return cls(
            {str(ours): theirs for ours, theirs in data.columns.items()},
            data.preferred_values,
            data.ignored,
            data.prompt_from,
        )


class Form(NamedTuple):
    """How a file is read."""

    names: dict[str, str]
    """Column of the contract -> column of the file."""
    comparison: bool
    """Two answers and who won, rather than chosen and rejected."""
    implicit: str
    """Where the prompt is when no column holds it: ``dialogue`` (hh-rlhf), ``beginning`` (common to both answers).

    ``repeated``: a column holds it, and both answers begin with it again.
    """
    history_is_text: bool = False
    """What was said before stands in a text, and so does the prompt; else both are messages."""
    scale: Scale | None = None
    """How ``preferred`` is read."""
    account: tuple[Entry, ...] = ()
    """What became of each column."""
    ignored: tuple[str, ...] = ()
    """Columns that hold text and are left out because the parameters say so."""
    notes: tuple[str, ...] = ()
    """What is not usual about the file."""

    def renamed(self) -> dict[str, str]:
        """The columns whose name in the file is another, and those that are parts of the prompt."""
        return {ours: theirs for ours, theirs in self.names.items() if ours != theirs or ours in BESIDE}

    def parameters(self) -> dict[str, Any]:
        """The reading as keys of the section ``data``, which lead to the same reading."""
        reading = self.scale.reading if self.scale else None
        values = dict(reading.sides) if reading and not reading.by_words else {}
        if reading and reading.middle is not None:
            middle = f"{reading.middle:g}"
            values |= {f"<{middle}": reading.low, middle: "tie", f">{middle}": other(reading.low)}
        told: dict[str, Any] = {"columns": self.renamed(), "preferred_values": values, "ignored": list(self.ignored)}
        told["prompt_from"] = "beginning" if self.implicit == "beginning" else None
        return {key: value for key, value in told.items() if value}

    def options(self) -> str:
        """The reading as options of ``kellet validate``; empty where none are needed."""
        told = self.parameters()
        maps = [f"--map {shlex.quote(f'{ours}={theirs}')}" for ours, theirs in told.get("columns", {}).items()]
        values = [f"{value}={side}" for value, side in told.get("preferred_values", {}).items()]
        if any("," in value for value in values):
            maps += [f"--map-values {shlex.quote(value)}" for value in values]
        elif values:
            maps.append(f"--map-values {shlex.quote(','.join(values))}")
        maps += [f"--ignore {shlex.quote(name)}" for name in self.ignored]
        return escaped(" ".join([*maps, *(["--set data.prompt_from=beginning"] if "prompt_from" in told else [])]))
