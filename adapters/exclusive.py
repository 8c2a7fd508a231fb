"""One retraining at a time.

Hosts that share a Prefect server wait for each other through its global concurrency limit. On one host a file lock is
taken first, because the operating system releases it whatever kills the process. Prefect's slot would stay taken for
ever: the embedded server that keeps its lease in memory dies with the process. So whoever holds the file lock frees a
slot that was left taken.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import AcquireReturnProxy, FileLock, Timeout
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.concurrency.sync import concurrency
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL

from adapters import owner
from adapters.log import logger
from adapters.settings import LOCKS

LIMIT = "retrain"
LEASE = 60.0
"""Seconds without renewal after which a server that outlives the process frees its slot."""


@contextmanager
def one_at_a_time(patience: float = 24 * 3600) -> Iterator[None]:
    """Hold the only slot. Waits up to ``patience`` seconds for other retrainings to end, then raises TimeoutError."""
    with get_client(sync_client=True) as client:
        _sign(client)
        with _host_lock(patience):
            client.upsert_global_concurrency_limit_by_name(LIMIT, limit=1)
            if not PREFECT_API_URL.value():
                client.update_global_concurrency_limit(LIMIT, GlobalConcurrencyLimitUpdate(active_slots=0))
            with concurrency(
                LIMIT,
                occupy=1,
                strict=True,
                timeout_seconds=patience,
                lease_duration=LEASE,
                raise_on_lease_renewal_failure=False,  # or a laptop that was suspended would lose its training
            ):
                yield


def _host_lock(patience: float) -> "AcquireReturnProxy[FileLock]":
    """Take the lock of this host, and log it when that means waiting; as a context manager the result releases it."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCKS / f"{LIMIT}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        logger().info("another retraining runs on this host; waiting for it to end")
        return lock.acquire(timeout=patience, poll_interval=1.0)


def _sign(client: SyncPrefectClient) -> None:
    """Tag the flow run with this process: after a kill, adapters/cleanup.py sees that it is gone."""
    if flow_run.id:
        client.update_flow_run(flow_run.id, tags=[*flow_run.tags, owner.me()])
