"""What the tests on a real MLflow registry share."""

import pytest


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    """One database for all tests of a file, each with a model of its own: creating it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"
