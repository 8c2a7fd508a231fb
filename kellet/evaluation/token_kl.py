"""token_kl.json: where along a few answers of the candidate its KL from the reference stands, token by token.

    answers  [{rule, prompt_id, sample, tokens, nats}]: the rule that chose the answer (kellet/evaluation/highlights.py), its tokens'
             texts, which joined are the answer, and the full KL at the prefix before each (kellet/models/kl.py), nats

Full KL is of the whole next-token distribution, so a token stands dark where the policy would go elsewhere than the
reference, whether or not this sample did.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kellet.evaluation.highlights import choose

TRACES = ["token_ids", "token_kl"]
"""Columns of the candidate's rows, one array ``(tokens,)`` an answer, that the evaluation file does not keep."""
DIGITS = 4
"""Decimals of a nat that are kept."""


def token_kl(rows: pd.DataFrame, tokenizer: Any) -> dict[str, Any]:
    """The content of token_kl.json, from an evaluation's rows with the columns TRACES."""
    chosen = choose(rows)
    mine = rows[(rows["system"] == "candidate") & rows["prompt_id"].isin([one.prompt_id for one in chosen])]
    by_key = {(row["prompt_id"], row["sample"]): row for row in mine.to_dict("records")}
    answers = []
    for rule, prompt_id, sample in chosen:
        row = by_key[prompt_id, sample]
        nats = [round(float(one), DIGITS) for one in row["token_kl"]]
        tokens = pieces(tokenizer, row["token_ids"].tolist())
        answers.append({"rule": rule, "prompt_id": prompt_id, "sample": sample, "tokens": tokens, "nats": nats})
    return {"answers": answers}


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Texts of the tokens, one for each of ``ids``; joined they are the decoded answer.

    A character whose bytes several tokens share stands at the last of them, and the others are empty.
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
