"""One retraining at a time.

Prefect's global concurrency limit says so to every host that shares a server. On one host a file lock stands before
it, because it ends with its process, whatever kills it: Prefect's own slot would stay taken for ever, since the lease
behind it lives in the memory of an embedded server that dies as well. Who holds the file lock may therefore free it.
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
"""Seconds after which a server that lives on frees the slot of a process that does not renew it."""


@contextmanager
def one_at_a_time(patience: float = 24 * 3600) -> Iterator[None]:
    """Wait up to ``patience`` seconds for other retrainings to end, then hold the slot; TimeoutError after that."""
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
                raise_on_lease_renewal_failure=False,  # a suspended laptop must not lose its training
            ):
                yield


def _host_lock(patience: float) -> "AcquireReturnProxy[FileLock]":
    """Take the lock of this host, saying so when that means waiting; the result releases it as a context manager."""
    LOCKS.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCKS / f"{LIMIT}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        logger().info("another retraining runs on this host; waiting for it to end")
        return lock.acquire(timeout=patience, poll_interval=1.0)


def _sign(client: SyncPrefectClient) -> None:
    """Write this process on the flow run, for adapters/cleanup.py after a kill."""
    if flow_run.id:
        client.update_flow_run(flow_run.id, tags=[*flow_run.tags, owner.me()])
