"""The rows of an evaluation as arrays, one record for each system, and how two systems compare by a judge.

Legend: N = answers of a system; all answers to one prompt are a cluster.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kellet.config.judgement import Gate
from kellet.data.conversation import as_text, last_message, messages_of
from kellet.stats.bootstrap import Codes, Estimate, Floats, mean_difference
from kellet.stats.win_rate import corrected, win_rate


class Answers(NamedTuple):
    """One system's answers ``(N,)``, sorted by prompt and sample; NaN where a value is unknown."""

    prompt: Codes
    """The prompt's number from 0, the same for all systems."""
    sample: Codes
    reward: Floats
    reward_std: Floats
    """Standard deviation of the reward between the members of an ensemble."""
    length: Floats
    """Tokens."""
    kl: Floats
    """Full KL of the response from the reference, nats."""
    truncated: Floats
    query: list[str]
    """The prompt's text; a conversation written out."""
    response: list[str]
    judges: dict[str, Floats]
    """By column ``judge_*``: scores, higher is better."""
    group: Codes | None = None
    """The number of the cluster that the prompt belongs to; None where each prompt is one (:func:`clusters_of`)."""


def clusters_of(rows: pd.DataFrame) -> Codes | None:
    """Number of each row's cluster: what shares a label of the column ``cluster``, or its prompt's text.

    The same text under two ids is asked twice and is no second piece of evidence; two labels that share a text are one
    cluster. None where each prompt is a cluster of its own.
    """
    ids = pd.factorize(rows["prompt_id"])[0]
    labels = [rows["prompt"]]
    if "cluster" in rows:
        labels.append(rows["cluster"].where(rows["cluster"] != ""))
    size = int(ids.max()) + 1
    joined, edges = size, []  # nodes: prompts, then texts, then clusters; an edge joins a prompt to its text or cluster
    for label in labels:
        numbers = pd.factorize(label)[0]  # -1: no cluster
        edges.append(np.column_stack([ids, joined + numbers])[numbers >= 0])
        joined += int(numbers.max()) + 1
    ends = np.concatenate(edges)
    graph = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(joined, joined))
    groups = connected_components(graph, directed=False)[1][:size]
    return None if len(np.unique(groups)) == size else groups[ids].astype(np.int64)


def intervals(answers: Answers, gate: Gate) -> dict[str, Any]:
    """Level, resamples, seed and clusters, as statistics of all rows of ``answers`` take them."""
    return {**gate.intervals, "group": answers.group}


def answers_of(rows: pd.DataFrame) -> dict[str, Answers]:
    """Split checked rows (:func:`kellet.evaluation.file.check_evaluation`) by system."""
    codes = pd.factorize(rows["prompt_id"], sort=True)[0].astype(np.int64)
    judges = [str(name) for name in rows.columns if str(name).startswith("judge_")]
    groups = clusters_of(rows)
    split = {}
    for system in rows["system"].unique():
        selected = (rows["system"] == system).to_numpy()
        part = rows[selected]
        unknown = np.full(len(part), np.nan)

        def numbers(name: str, part: pd.DataFrame = part, unknown: Floats = unknown) -> Floats:
            return part[name].to_numpy(np.float64) if name in part.columns else unknown

        split[str(system)] = Answers(
            codes[selected],
            part["sample"].to_numpy(np.int64),
            numbers("reward"),
            numbers("reward_std"),
            numbers("length_tokens"),
            numbers("kl_nats"),
            numbers("truncated"),
            [_asked(prompt) for prompt in part["prompt"]],
            part["response"].tolist(),
            {name: numbers(name) for name in judges},
            None if groups is None else groups[selected],
        )
    return split


def _asked(prompt: str) -> str:
    """What a person asked: a conversation of one message is that message."""
    messages = messages_of(prompt)
    return last_message(prompt) if messages is not None and len(messages) == 1 else as_text(prompt)


def answered_by(answers: Answers, other: Answers) -> Answers:
    """The answers to prompts that the other system has answered too."""
    kept = np.isin(answers.prompt, other.prompt)
    if kept.all():
        return answers

    def of(values: Any) -> Any:
        if isinstance(values, dict):
            return {name: of(column) for name, column in values.items()}
        if isinstance(values, list):
            return [value for value, keep in zip(values, kept, strict=True) if keep]
        return None if values is None else values[kept]

    return Answers(*(of(values) for values in answers))


def pairs(a: Answers, b: Answers) -> tuple[Codes, Codes]:
    """Indices of the rows of a and of b that answer the same prompt with the same sample number."""
    samples = int(max(a.sample.max(), b.sample.max())) + 1
    keys = (a.prompt * samples + a.sample, b.prompt * samples + b.sample)
    _, rows_a, rows_b = np.intersect1d(*keys, assume_unique=True, return_indices=True)
    return rows_a, rows_b


def wins(a: Floats, b: Floats) -> Floats:
    """1 where b is higher, 0 where a is higher, 0.5 where they tie."""
    won: npt.NDArray[np.float64] = 0.5 + 0.5 * np.sign(b - a)
    return won


def win_rate_by(a: Answers, b: Answers, name: str, gate: Gate) -> dict[str, Estimate]:
    """Win rate and mean gain of b over a by the judge in column ``name``, over the pairs in which it scored both.

    Empty when there is no such pair. The win rate of ``gate.judge`` is corrected for ``gate.judge_error``.
    """
    rows_a, rows_b = pairs_scored_by(a, b, name)
    if not len(rows_a):
        return {}
    score_a, score_b, prompt = a.judges[name][rows_a], b.judges[name][rows_b], a.prompt[rows_a]
    group = None if a.group is None else a.group[rows_a]
    rate = win_rate(wins(score_a, score_b), prompt, alpha=gate.alpha, group=group)
    return {
        "win_rate": corrected(rate, gate.judge_error) if name == gate.judge else rate,
        "mean_gain": mean_difference(score_a, score_b, prompt, prompt, **gate.intervals, group=group),
    }


def pairs_scored_by(a: Answers, b: Answers, name: str) -> tuple[Any, Any]:
    """The :func:`pairs` of which the judge in column ``name`` scored both answers."""
    rows_a, rows_b = pairs(a, b)
    if name not in a.judges:
        return rows_a[:0], rows_b[:0]
    scored = ~np.isnan(a.judges[name][rows_a]) & ~np.isnan(b.judges[name][rows_b])
    return rows_a[scored], rows_b[scored]
