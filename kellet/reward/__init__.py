"""Reward model: LoRA adapters and scalar heads, fitted to preferences by Bradley-Terry.

In: the prepared table and a base model. Out: a folder with adapters, heads and card.json; a ``Scorer`` of responses.

Open first: train.py (the stage), fitting.py (a step), loss.py (the equations), card.py (what the reward pays for).
"""
