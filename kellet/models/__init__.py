"""Language models: one trunk in memory that plays policy, reference, value and reward model.

In: a transformers folder or hub name, texts. Out: token tensors, hidden states, sampled responses, KL per token,
adapters and checkpoints on disk.
Open first: trunk.py (the four parts), tokens.py (shapes and masks), sampling.py.
"""
