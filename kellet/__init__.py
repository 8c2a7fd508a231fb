"""Kellet: preference-based retraining of a language model, with an honest promotion gate.

The package holds the algorithms, the data checks and the command line. It imports neither prefect, mlflow nor dvc,
and importing it does nothing: no folder, no network, no logging set-up.
"""

__version__ = "0.1.0"
