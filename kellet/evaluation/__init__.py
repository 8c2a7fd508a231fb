"""Evaluation: every system answers the held-out prompts, and people may judge the answers.

In: reference, candidate and champion, a reward model, a judge; or files of answers from elsewhere.
Out: evaluation.parquet, one answer a row; blind sheets.
Open first: evaluate.py (the stage), file.py (the columns and what is refused), samples.py (other trainers' answers).
"""
