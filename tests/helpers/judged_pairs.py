"""Evaluations of which it is known who is better and who is longer, for the tests of `kellet judge`."""

import pandas as pd

from kellet.evaluation.file import check_evaluation


def rows_of(groups, people=True, samples=1, systems=("reference",), **more):
    """A checked evaluation; ``groups``: (prompts, quality of the candidate less the other's, its extra words) each.

    Every answer says its quality; people prefer the better one, whatever its length.
    """
    rows = []
    for count, quality, words in groups:
        for _ in range(count):
            prompt = len(rows) // ((1 + len(systems)) * samples)
            for sample in range(samples):
                for system in ("candidate", *systems):
                    ours = system == "candidate"
                    worth, extra = (quality, max(words, 0)) if ours else (0, max(-words, 0))
                    text = f"quality {worth} answer {sample} of {system}" + " word" * extra
                    row = {"prompt_id": f"p{prompt:04}", "prompt": f"Question {prompt}?", "system": system}
                    row |= {"sample": sample, "response": text, "reward": float(prompt % 5)}
                    row |= {"length_tokens": len(text.split()), **more}
                    rows.append(row | ({"judge_human": float(worth)} if people else {}))
    return check_evaluation(pd.DataFrame(rows))
