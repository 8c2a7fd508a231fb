"""A new batch of preferences as Prefect tasks: checked, staged in a clone, taken over by the project."""

from pathlib import Path

from prefect import task

from adapters import clone
from adapters.clone import StagedClone
from adapters.parameters import params_file
from kellet.config.run import Config
from kellet.data import new_batch
from kellet.data.new_batch import IncomingBatch


@task(name="check-batch")
def check_batch(file: Path, config: Config) -> IncomingBatch:
    """Check the batch by itself. Raises DataError when it cannot be used, InputError when the data set takes none."""
    return new_batch.check_batch(file, config.data, params_file(config.data.name))


@task(name="stage-batch")
def stage_batch(batch: IncomingBatch, config: Config) -> StagedClone:
    """Add the batch in a clone of the project, prepare the data set there, and commit."""
    return clone.stage_batch(batch, config)


@task(name="take-over")
def take_over(batch: IncomingBatch, staged: StagedClone, config: Config, publish: bool) -> None:
    """Push the data, and let the project follow the clone; with ``publish`` also the branch's upstream."""
    clone.take_over(batch, staged, config, publish)
