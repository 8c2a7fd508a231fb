"""Diagnosis: why a run came out as it did.

In: evaluation, history, preferences and card, as far as they are at hand, from Kellet or from imported logs.
Out: thirteen hypotheses with their evidence, an explanation, two recommended changes (diagnosis.json).
Open first: diagnose.py, then hypothesis.py and one of the files of hypotheses (reward_, ppo_, kl_).
"""
