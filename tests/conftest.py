"""Switches of the tests' own process: no network, no telemetry, nothing in the user's Prefect home."""

import os
import tempfile

os.environ.update(
    {
        "DO_NOT_TRACK": "true",
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_HOME": tempfile.mkdtemp(prefix="kellet-prefect-"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
)
