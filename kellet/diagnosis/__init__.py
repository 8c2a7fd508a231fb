"""Diagnosis: why a run came out as it did.

In: what of evaluation, history, preferences and card is at hand, ours or imported logs. Out: thirteen hypotheses with
their evidence, an explanation, two recommended changes (diagnosis.json).
Open first: diagnose.py, then hypothesis.py and one of the three files of hypotheses.
"""
