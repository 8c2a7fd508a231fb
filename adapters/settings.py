"""Environment switches and the project's folders.

The switches have to be set before prefect, mlflow or dvc is imported; child processes inherit them. Settings of Prefect
are in prefect.toml. All paths are relative to the project root, where every flow runs.
"""

import os
from pathlib import Path

ARTIFACTS = Path("artifacts")
"""artifacts/STAGE/KEY is the output of a stage for one combination of inputs."""
FETCHED = ARTIFACTS / "registered"
"""Copies of registered models whose files are kept elsewhere, as NAME-VERSION-HASH."""
RUNS = Path("runs")
"""runs/NAME is what a person reads after a retraining."""
LOCKS = Path(".prefect/locks")
"""File locks of this host; the operating system releases them when the process that holds them ends."""

SWITCHES = {
    "DO_NOT_TRACK": "true",  # the word, because MLflow does not understand "1"
    "DVC_NO_ANALYTICS": "1",
    "GIT_PYTHON_REFRESH": "quiet",  # MLflow's GitPython complains at import where git is missing
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",  # adapters/log.py shows progress
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait sleep: docs/measured/speed.md
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",  # not pickle, which runs code when it is read
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "TOKENIZERS_PARALLELISM": "false",
}
for _name, _value in SWITCHES.items():
    os.environ.setdefault(_name, _value)
