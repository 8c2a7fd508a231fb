"""Answers that a candidate is judged by once more: those of its earlier evaluations and those of a new one.

Nothing that was drawn is dropped, so nobody can draw again until a good sample comes. The answers to a prompt that one
file holds are compared with each other only: each file's reward may have a scale of its own. A file that repeats known
answers (people have judged some of them since, or more samples were added) continues the earlier ones.
"""

from collections.abc import Sequence

import pandas as pd

from kellet.evaluation.file import CLUSTER, DRAW

PROMPT = ["prompt_id", "prompt"]
ANSWER = ["system", "sample"]
SAME = 1e-6
"""Rewards that differ by less than this share are the same, written with fewer digits."""


def join(evaluations: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """All answers of checked evaluations of one candidate, oldest first; some of them may be joined ones.

    Answers to a prompt that were drawn anew keep apart from the earlier ones under ``prompt_id#2``, ``#3``, …; its text
    says that they belong to the same prompt. Where a later file repeats an answer, the later values count, and a
    judge's score that it lacks is kept. A prompt has the cluster that the last file with one gives it.
    """
    if len(evaluations) == 1:
        return evaluations[0]
    joined = _plain(evaluations[0])
    for later in map(_plain, evaluations[1:]):
        for _, rows in later.groupby(DRAW):
            joined = _add(joined, rows.assign(**{DRAW: _draws(joined, rows.drop(columns=DRAW))}))
    if CLUSTER in joined:
        labels = joined[CLUSTER].where(joined[CLUSTER] != "")
        joined[CLUSTER] = labels.groupby([joined[name] for name in PROMPT]).transform("last").fillna("")
    again = joined[DRAW] > 1
    joined["prompt_id"] = joined["prompt_id"].where(~again, joined["prompt_id"] + "#" + joined[DRAW].astype(str))
    return joined


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """With the prompts' own ids, and the column ``draw``."""
    if DRAW not in rows:
        return rows.assign(**{DRAW: 1})
    ids = [name.removesuffix(f"#{draw}") for name, draw in zip(rows["prompt_id"], rows[DRAW], strict=True)]
    return rows.assign(prompt_id=ids)


def _draws(known: pd.DataFrame, rows: pd.DataFrame) -> "pd.Series[int]":
    """Which draw of its prompt each new row belongs to.

    It is an earlier draw when all answers of the two with the same system and sample number have the same text, and
    either the same reward or the new rows hold all of the earlier draw: scored anew.
    """
    both = rows.merge(known, on=[*PROMPT, *ANSWER], suffixes=("", "_known"))
    both["same_text"] = both["response"] == both["response_known"]
    scale = both[["reward", "reward_known"]].abs().max(axis=1)
    both["same_reward"] = (both["reward"] - both["reward_known"]).abs() <= SAME * scale
    shared = both.groupby([*PROMPT, DRAW], sort=False)
    continued = shared[["same_text", "same_reward"]].all()
    whole = shared.size() == known.groupby([*PROMPT, DRAW]).size().reindex(continued.index)
    continued = continued[continued["same_text"] & (continued["same_reward"] | whole)].reset_index()
    earliest = continued.groupby(PROMPT)[DRAW].min()
    following = known.groupby(PROMPT)[DRAW].max() + 1
    keys = pd.MultiIndex.from_frame(rows[PROMPT])
    numbers = earliest.reindex(keys).fillna(following.reindex(keys)).fillna(1)
    return pd.Series(numbers.to_numpy(int), index=rows.index)


def _add(known: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Both, one row for each answer: its last value that is not null in each column."""
    key = [*PROMPT, DRAW, *ANSWER]
    return pd.concat([known, rows], ignore_index=True).groupby(key, sort=False, as_index=False).last()
