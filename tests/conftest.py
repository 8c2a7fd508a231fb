"""Switches of the tests' own process: no network, no telemetry, nothing in the user's Prefect home."""

import os
import signal
import tempfile

import pytest
from hypothesis import settings

# Each run tries the same examples, however slow the machine; --hypothesis-profile=default tries others.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

# Started in the background a shell has Ctrl-C ignored, and Python then installs no handler for it.
signal.signal(signal.SIGINT, signal.default_int_handler)

os.environ.update(
    {
        "DO_NOT_TRACK": "true",
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_HOME": tempfile.mkdtemp(prefix="kellet-prefect-"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """How hard the tests of resuming try."""
    parser.addoption("--kills", type=int, default=2, help="random moments at which test_resume kills a training")
