"""token_kl.json: the candidate's KL from the reference, token by token, for a few answers.

    answers  a list of {rule, prompt_id, sample, tokens, nats}
    rule     the rule that chose the answer (kellet/evaluation/highlights.py)
    tokens   the texts of its tokens; joined they are the answer
    nats     the full KL at the prefix before each token (kellet/models/kl.py)

Full KL compares the whole next-token distributions: it is high wherever the policy would probably go on differently
than the reference, whether or not this sample did.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kellet.evaluation.highlights import choose

TRACES = ["token_ids", "token_kl"]
"""Columns with one array ``(tokens,)`` for each answer, which are dropped before the evaluation file is written."""
DIGITS = 4
"""Decimals of a nat that are written."""


def token_kl(rows: pd.DataFrame, tokenizer: Any) -> dict[str, Any]:
    """The content of token_kl.json, from an evaluation's rows with the columns TRACES."""
    chosen = choose(rows)
    candidate = rows[(rows["system"] == "candidate") & rows["prompt_id"].isin([one.prompt_id for one in chosen])]
    by_key = {(row["prompt_id"], row["sample"]): row for row in candidate.to_dict("records")}
    answers = []
    for rule, prompt_id, sample in chosen:
        row = by_key[prompt_id, sample]
        nats = [round(float(value), DIGITS) for value in row["token_kl"]]
        tokens = pieces(tokenizer, row["token_ids"].tolist())
        answers.append({"rule": rule, "prompt_id": prompt_id, "sample": sample, "tokens": tokens, "nats": nats})
    return {"answers": answers}


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Texts of the tokens, one for each of ``ids``; joined they are the decoded answer.

    A character whose bytes are spread over several tokens is the text of the last of them; the others are empty.
    """
    parts, shown = [], ""
    for end in range(1, len(ids) + 1):
        text = tokenizer.decode(ids[:end], clean_up_tokenization_spaces=False)
        if text.endswith("\N{REPLACEMENT CHARACTER}") and end < len(ids):
            parts.append("")
            continue
        parts.append(text[len(shown) :])
        shown = text
    return parts
