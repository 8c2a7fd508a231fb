"""Remedies: what the recommended changes do, measured.

In: arms (the baseline, each change alone, both), each with its evaluation. Out: effects with intervals, and which arm
the next retraining should take.
Open first: measure.py.
"""
