"""A small evaluation that has no judge column yet, for the tests of what fills one."""

import pandas as pd

from kellet.evaluation.file import check_evaluation

SYSTEMS = ("candidate", "reference", "champion")


def evaluation(prompts=40, samples=2, equal=(), systems=SYSTEMS[:2]):
    """The candidate's answers are longer; to the prompts numbered in ``equal`` all systems answer alike."""
    more = {system: " more" * (3 - number) for number, system in enumerate(SYSTEMS)}
    rows = [
        {
            "prompt_id": f"p{prompt:02}",
            "prompt": f"Question {prompt}?",
            "system": system,
            "sample": sample,
            "response": f"answer {prompt} {sample}" + ("" if prompt in equal else more[system]),
            "reward": float(prompt + sample),
            "length_tokens": 5,
        }
        for prompt in range(prompts)
        for system in systems
        for sample in range(samples)
    ]
    return check_evaluation(pd.DataFrame(rows))
