"""Cleaning up after a killed process, as the Prefect task that flows begin with."""

from prefect import task

from adapters.cleanup import crash_dead_flow_runs, end_dead_mlflow_runs, remove_half_written, stop_orphaned_servers
from adapters.log import logger
from kellet.config.run import Tracking


@task(name="clean-up", retries=3, retry_delay_seconds=2)
def clean_up(tracking: Tracking) -> None:
    """Close the runs of dead processes of this host in Prefect and MLflow, and remove half-written files."""
    counts = {
        "embedded servers": stop_orphaned_servers(),
        "Prefect runs": crash_dead_flow_runs(),
        "MLflow runs": end_dead_mlflow_runs(tracking),
        "half-written files": remove_half_written(),
    }
    if any(counts.values()):
        removed = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        logger().warning("cleaned up after a killed process: %s", removed)
