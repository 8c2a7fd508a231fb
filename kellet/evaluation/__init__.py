"""Evaluation: every system answers the held-out prompts, and people or a model may judge the answers.

In: reference, candidate and champion, a reward model, a judge; or files of answers from elsewhere.
Out: evaluation.parquet, one answer a row; blind sheets; what a judging model's verdicts are worth.
Open first: evaluate.py (the stage), file.py (the columns and what is refused), samples.py (other trainers' answers),
endpoint_judge.py (a model that judges).
"""
