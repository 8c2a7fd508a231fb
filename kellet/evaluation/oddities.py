"""What is odd in the figures of an evaluation: a code for 'no value' is refused, the rest is said aloud."""

import re

import numpy as np
import numpy.typing as npt
import pandas as pd

from kellet.evaluation.cells import At, refuse
from kellet.evaluation.columns import JUDGE, STD
from kellet.evaluation.lengths import ENOUGH, SPECIAL, notes_on_lengths
from kellet.stats.words import word_count

CODES = tuple(sign * (10**digits - 1) for digits in range(2, 7) for sign in (-1, 1))
"""-99, 999, -9999, …: what tables have where there is no value."""
FAR = 5
"""A code is one where it is this many times the range of all other values away from them."""
MOST_ALIKE = 10
"""From so many answers on it is told that all are the same, or all scores."""
NEARLY_ALL = 0.9
WIDER = 1.25
"""Answers of which the longest has this many times the words of the shortest do not all have one length in tokens."""
_SPECIAL = re.compile(
    r"(?:</s>|<pad>|<eos>|\[PAD\]|\[SEP\]|<\|(?:im_end|endoftext|eot_id|end|end_of_text)\|>|<end_of_turn>)\s*$"
)
_RANK = re.compile(r"(?:^|_)(?:rank|ranks|ranking|place|position)(?:_|$)")


def refuse_codes(rows: pd.DataFrame, at: At) -> None:
    """Raise DataError for a score or a KL that is a code for 'no value'."""
    for name in ("reward", "kl_nats", *(name for name in rows.columns if name.startswith(JUDGE))):
        values = rows[name].to_numpy(np.float64)
        code = code_in(values)
        if code is not None:
            why = (
                "far from every other value of the column, as a code for 'no value' is; leave such cells empty (or the "
                "rows out, where it is the reward), or clip the figure if it is one"
            )
            refuse(values == code, name, rows[name], why, at)


def refuse_lost_answers(rows: pd.DataFrame, at: At) -> None:
    """Raise DataError where all answers of one system are empty but most have a length, and another's are not empty."""
    empty = rows["response"].str.strip().eq("")
    for system, part in empty.groupby(rows["system"], sort=False):
        own = (rows["system"] == system).to_numpy()
        lost = own & empty.to_numpy() & (rows["length_tokens"] > SPECIAL).to_numpy()
        if len(part) >= MOST_ALIKE and part.all() and not empty.all() and 2 * lost.sum() > own.sum():
            why = f"empty, as every answer of the {system}, although it has a length; write the answers, or no length"
            refuse(lost, "response", rows["response"], why, at)


def refuse_padded_lengths(rows: pd.DataFrame, at: At) -> None:
    """Raise DataError where one length stands in every row although the answers differ in words and were not all cut.

    It is the width that a batch was padded to. A longer policy would pass as one that kept its length.
    """
    if rows["length_tokens"].nunique() != 1:
        return
    words = np.array([word_count(text) for text in rows["response"]], float)
    cut = (rows["truncated"] == 1).to_numpy()
    if len(set(words)) >= ENOUGH and words.max() >= WIDER * max(1.0, words.min()) and not cut.all():
        why = (
            f"the same in every row, although the answers have {words.min():g} to {words.max():g} words: the width of "
            "a padded batch; give the tokens of each answer without padding (samples may leave it out and count words)"
        )
        refuse(~cut, "length_tokens", rows["length_tokens"], why, at)


def code_in(values: npt.NDArray[np.float64]) -> float | None:
    """The one of CODES that is in ``values`` and far from all that are none."""
    others = values[~np.isin(values, CODES) & ~np.isnan(values)]
    if not len(others):
        return None
    low, high = float(others.min()), float(others.max())
    far = FAR * max(high - low, 1e-12 + abs(high) / FAR)
    return next((code for code in CODES if (values == code).any() and not low - far <= code <= high + far), None)


def longer_by_words(rows: pd.DataFrame) -> list[str]:
    """A sentence where the candidate's answers are longer by their words and not by ``length_tokens``."""
    sides = [rows[rows["system"] == name] for name in ("candidate", "reference")]
    words, tokens = (
        [float(np.mean(values)) for values in both]
        for both in (
            [[word_count(text) for text in side["response"]] for side in sides],
            [side["length_tokens"] for side in sides],
        )
    )
    if min(*words, *tokens) <= 0 or words[0] / words[1] < WIDER * tokens[0] / tokens[1] or words[0] < WIDER * words[1]:
        return []
    by_words, by_tokens = (100 * (both[0] / both[1] - 1) for both in (words, tokens))
    return [
        f"by their words the candidate's answers are {by_words:.0f}% longer than the reference's, by length_tokens "
        f"{by_tokens:+.0f}%: are both counted alike, without padding and prompt?"
    ]


def unmeasured_kl(rows: pd.DataFrame) -> bool:
    """Whether the candidate's KL is exactly 0 in every answer, although its answers are not the reference's.

    A policy that answers otherwise has another distribution, of which no KL is zero.
    """
    sides = {name: rows[rows["system"] == name] for name in ("candidate", "reference")}
    kl = sides["candidate"]["kl_nats"].to_numpy(np.float64)
    answers = [set(zip(side["prompt_id"], side["response"], strict=True)) for side in sides.values()]
    return len(kl) >= MOST_ALIKE and bool((kl == 0).all()) and not answers[0] & answers[1]


def repeats_prompt(rows: pd.DataFrame) -> bool:
    """Whether nearly all answers begin with their prompt, as pipelines write them that return the full text."""
    prompts = [prompt.strip() for prompt in rows["prompt"]]
    begins = [
        bool(prompt) and response.lstrip().startswith(prompt)
        for prompt, response in zip(prompts, rows["response"], strict=True)
    ]
    return len(begins) >= ENOUGH and sum(begins) >= NEARLY_ALL * len(begins)


def odd_texts(rows: pd.DataFrame) -> list[str]:
    """What is odd about the answers of one system or file, as the end of a sentence that names it."""
    found = []
    if repeats_prompt(rows):
        found.append("begin with their prompts, which are then counted and compared as answers; leave the prompts out")
    ends = [match[0] for response in rows["response"] if (match := _SPECIAL.search(response))]
    if ends and 2 * len(ends) > len(rows):
        found.append(f"end with special tokens ({ends[0][:20]!r}); decode them with skip_special_tokens=True")
    return found


def oddities(rows: pd.DataFrame) -> list[str]:
    """A sentence on each thing in checked rows that is probably not meant."""
    notes = notes_on_lengths(rows) + longer_by_words(rows)
    for system, part in rows.groupby("system", sort=False):
        notes += [f"answers of the {system} {odd}" for odd in odd_texts(part)]
        texts = set(part["response"])
        if len(part) >= MOST_ALIKE and len(texts) == 1:
            shown = repr(texts.pop()[:40])
            notes.append(f"all {len(part):,} answers of the {system} are {shown if shown != repr('') else 'empty'}")
    for name in (name for name in rows.columns if name.startswith(JUDGE) or name == STD):
        scores = rows[name].dropna()
        if not len(scores):
            notes.append(f"column {name!r} has no figure in any row")
        elif name != STD and len(scores) >= MOST_ALIKE and scores.nunique() == 1:
            notes.append(f"every score in column {name!r} is {scores.iloc[0]:g}: it does not tell answers apart")
        if _RANK.search(name.lower()):
            notes.append(f"column {name!r} is read as scores, of which higher is better; of ranks the lowest is best")
    return notes
