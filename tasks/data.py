"""The data set as a Prefect task: DVC brings it up to date."""

from pathlib import Path

from prefect import task

from adapters.dvc import Dataset, dvc, fetch_raw, is_busy, locked_md5, read_dataset, remove_half_written_data
from adapters.log import logger
from kellet.config.run import Config


@task(name="data", retries=20, retry_delay_seconds=3, retry_condition_fn=is_busy)
def prepare_data(config: Config) -> Dataset:
    """Bring data/prepared/NAME up to date with its parameters and raw files, and push it to the default remote.

    Raises DataError with the message of the failing check; the last good data then stay as they were.
    """
    name = config.data.name
    fetch_raw(config)
    dvc("repro", f"prepare@{name}")
    remove_half_written_data(name)
    dvc("push", "--quiet", f"prepare@{name}")
    data = read_dataset(name, Path("data/prepared") / name, locked_md5(name))
    for warning in data.summary.get("warnings", ()):
        logger().warning("data %s: %s", name, warning)
    logger().info("data %s", data)
    return data
