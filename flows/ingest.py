"""``python -m flows.ingest FILE --params FILE``: a batch of preferences joins a data set, or nothing is changed."""

import sys
from pathlib import Path

from prefect import flow

from adapters.clone import is_ingested
from adapters.events import announce_batch
from adapters.exclusive import one_at_a_time
from adapters.parameters import load
from flows.cli import run_ingest
from tasks.cleanup import clean_up
from tasks.ingest import check_batch, stage_batch, take_over


@flow(name="ingest", flow_run_name="ingest-{file}")
def ingest(file: str, params: str, publish: bool = False, then: str | None = None) -> str:
    """Validate a batch of preferences, show what it changes, version it with DVC and git, and let a retraining follow.

    Reads: the batch, the parameter file of the data set, its raw data through DVC.
    Writes: the batch into the folder that ``data.files`` lists, its .dvc file and dvc.lock as a commit, the prepared
    data, the DVC remote; with ``publish`` the commit to the branch's upstream.
    Follows: the event ``kellet.data.ingested``, and a run of the deployment ``then`` (such as retrain/manual).
    Repeats: the same batch again changes nothing. A batch that fails, or a kill before the end, leaves data, git and
    remote as they were; the same command completes it.
    Raises: InputError (2) for bad parameters or a project with uncommitted changes, DataError (2) for a bad batch.
    """
    config = load(params)
    with one_at_a_time():
        clean_up(config.tracking)
        batch = check_batch(Path(file), config)
        if not is_ingested(batch, config):
            take_over(batch, stage_batch(batch, config), config, publish)
    announce_batch(config, params, then)
    return f"{batch.target} is part of the data set {config.data.name}"


if __name__ == "__main__":
    sys.exit(run_ingest(ingest, ingest.__doc__))
