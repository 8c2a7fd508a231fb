"""Arms at once: which task runner, and what a worker process needs so that it neither outlives nor starves the others.

Threads are no choice: weights and dropout are drawn from torch's one generator of a process, so that two trainings in
one would take each other's numbers. A process for each arm ends in the same bytes as one arm after the other.
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
CORES_EACH = 2
"""Cores from which on there is room for another arm."""


def room(arms: int) -> int:
    """Arms that run at once by default: one for every CORES_EACH cores, at least one."""
    return max(1, min(arms, (os.cpu_count() or 1) // CORES_EACH))


def task_runner(workers: int, named: str | None) -> TaskRunner[Any]:
    """The runner ``named`` as MODULE:NAME (a class or an instance, such as prefect_dask:DaskTaskRunner), or processes.

    Raises InputError for a name that is none, and for threads, which share torch's generator.
    """
    if named is None:
        threads = max(1, (os.cpu_count() or 1) // workers)
        return ProcessPoolTaskRunner(workers, initializer=begin_worker, initargs=(os.getpid(), threads))
    module, colon, name = named.partition(":")
    try:
        found = getattr(importlib.import_module(module), name) if colon else None
    except (ImportError, AttributeError) as error:
        raise InputError(f"--runner {named!r} cannot be had: {error}; install its package, or leave it out") from error
    runner = found() if isinstance(found, type) else found
    if not isinstance(runner, TaskRunner) or isinstance(runner, ThreadPoolTaskRunner):
        raise InputError(
            f"--runner got {named!r}; it takes MODULE:NAME of a Prefect task runner with a process for each task, such "
            "as prefect_dask:DaskTaskRunner"
        )
    return runner


def begin_worker(parent: int, threads: int) -> None:
    """Prepare a worker process: its share of the cores, and its end when the flow's process is gone.

    Without the latter a worker would train on after a kill of the flow, beside the one that the next command starts.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


@contextmanager
def alone() -> Iterator[None]:
    """Let the arms of one process wait for each other.

    The lock stays in this module: a task travels to its worker with the values that its own module names.
    """
    with _ONE_AT_A_TIME:
        yield


@contextmanager
def one_server() -> Iterator[None]:
    """Let workers speak to the server of the flow's process, where that is an embedded one."""
    with get_client(sync_client=True) as client, temporary_settings({PREFECT_API_URL: str(client.api_url)}):
        yield


def _follow(parent: int, every: float = 0.5) -> None:
    while os.getppid() == parent:
        time.sleep(every)
    os._exit(1)
