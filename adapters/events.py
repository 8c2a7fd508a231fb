"""What others learn from Prefect: that a data set has a new batch."""

from prefect.deployments import run_deployment
from prefect.events import emit_event

from adapters.dvc import locked_md5
from adapters.log import logger
from kellet.config.run import Config

INGESTED = "kellet.data.ingested"


def announce_batch(config: Config, params: str, deployment: str | None) -> None:
    """Emit the event ``kellet.data.ingested``, and start a run of ``deployment`` where one is named."""
    resource = {"prefect.resource.id": f"kellet.data.{config.data.name}"}
    emit_event(INGESTED, resource, payload={"params": params, "md5": locked_md5(config.data.name)})
    if deployment:
        run = run_deployment(deployment, parameters={"params": params}, timeout=0)
        logger().info("started %s: %s", deployment, getattr(run, "name", run))
