"""MLflow runs as Prefect tasks (adapters/tracking.py has what they do)."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from prefect import task

from adapters.artefacts import Artefact
from adapters.dvc import Dataset
from adapters.tracking import closing, log_stage, start_run
from kellet.config.run import Config, Tracking


@contextmanager
def tracked(config: Config, data: Dataset, origin: Mapping[str, str], name: str | None = None) -> Iterator[str]:
    """Open the parent run with parameters, data set and lineage, give its id, and close it with its status.

    ``name``: the run's in MLflow, by default that of the parameters.
    """
    run_id = start_tracking(config, data, origin, name or config.name)
    with closing(config.tracking, run_id):
        yield run_id


@task(name="start-tracking", retries=3, retry_delay_seconds=2)
def start_tracking(config: Config, data: Dataset, origin: Mapping[str, str], name: str) -> str:
    """Open the parent run; gives its id."""
    return start_run(config, data, origin, name)


@task(name="track", retries=3, retry_delay_seconds=2)
def track(tracking: Tracking, run_id: str, artefact: Artefact) -> Artefact:
    """Log a stage as a nested run with its metrics; gives the artefact back."""
    log_stage(tracking, run_id, artefact)
    return artefact
