"""token_kl.json: where along a few answers of the candidate its KL from the reference stands, token by token.

    answers  [{rule, prompt_id, sample, tokens, nats}]: the rule that chose the answer (kellet/examples.py), its tokens'
             texts, which joined are the answer, and the full KL at the prefix before each (kellet/kl.py), nats

Full KL is of the whole next-token distribution, so a token stands dark where the policy would go elsewhere than the
reference, whether or not this sample did.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from kellet.examples import choose

TRACES = ["token_ids", "token_kl"]
"""Columns of the candidate's rows, one array ``(tokens,)`` an answer, that the evaluation file does not keep."""
DIGITS = 4
"""Decimals of a nat that are kept."""


def token_kl(rows: pd.DataFrame, tokenizer: Any) -> dict[str, Any]:
    """The content of token_kl.json, from an evaluation's rows with the columns TRACES."""
    candidate = rows[rows["system"] == "candidate"].set_index(["prompt_id", "sample"])
    answers = []
    for rule, prompt_id, sample in choose(rows):
        ids, nats = (candidate.at[(prompt_id, sample), name] for name in TRACES)
        told = {"rule": rule, "prompt_id": prompt_id, "sample": sample}
        answers.append(
            told | {"tokens": pieces(tokenizer, ids.tolist()), "nats": [round(float(one), DIGITS) for one in nats]}
        )
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
