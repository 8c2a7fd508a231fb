"""Reward model: LoRA adapters and scalar heads, fitted to preferences by Bradley-Terry.

In: the prepared table and a base model. Out: a folder with adapters, heads and card.json, and a ``Scorer`` of responses.
Open first: train.py (the stage), loss.py (the equations), card.py (what it learned to pay for).
"""
