"""Arms at once: the task runner, and worker processes that share the cores and end with the flow.

Each arm needs a process. A process has one torch generator for weights and dropout, so two trainings in threads would
draw from each other's random numbers. In processes the arms give the same bytes as one after the other.
"""

import importlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from kellet.errors import InputError

_ONE_AT_A_TIME = threading.Lock()
CORES_PER_ARM = 2
"""Cores for each arm that runs at the same time."""


def room(arms: int) -> int:
    """Arms that run at once by default."""
    return max(1, min(arms, (os.cpu_count() or 1) // CORES_PER_ARM))


def task_runner(workers: int, named: str | None) -> TaskRunner[Any]:
    """Processes, or the runner ``named`` as MODULE:NAME: a class or an instance, such as prefect_dask:DaskTaskRunner.

    Raises InputError for a name that is not a task runner, and for threads, which share torch's generator.
    """
    if named is None:
        threads = max(1, (os.cpu_count() or 1) // workers)
        return ProcessPoolTaskRunner(workers, initializer=begin_worker, initargs=(os.getpid(), threads))
    module, colon, name = named.partition(":")
    try:
        value = getattr(importlib.import_module(module), name) if colon else None
    except (ImportError, AttributeError) as error:
        raise InputError(f"--runner {named!r} cannot be had: {error}; install its package, or leave it out") from error
    runner = value() if isinstance(value, type) else value
    if not isinstance(runner, TaskRunner) or isinstance(runner, ThreadPoolTaskRunner):
        raise InputError(
            f"--runner got {named!r}; it takes MODULE:NAME of a Prefect task runner with a process for each task, such "
            "as prefect_dask:DaskTaskRunner"
        )
    return runner


def begin_worker(parent: int, threads: int) -> None:
    """Give a worker process its share of the cores, and end it when the flow's process is gone.

    Otherwise a worker would go on training after the flow was killed, beside the worker of the next command.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


@contextmanager
def alone() -> Iterator[None]:
    """Let the arms of one process wait for each other.

    The lock is a global of this module, not of the task's: a task is pickled with the globals that it uses, and a lock
    cannot be pickled.
    """
    with _ONE_AT_A_TIME:
        yield


@contextmanager
def one_server() -> Iterator[None]:
    """Let worker processes use the flow's Prefect server, also where that is embedded in the flow's process."""
    with get_client(sync_client=True) as client, temporary_settings({PREFECT_API_URL: str(client.api_url)}):
        yield


def _follow(parent: int, every: float = 0.5) -> None:
    """End this process when it has another parent, as an orphan has; look every so many seconds."""
    while os.getppid() == parent:
        time.sleep(every)
    os._exit(1)
