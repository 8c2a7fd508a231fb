"""Task runners by name, and workers that end with the flow's process."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

from adapters.parallel import room, task_runner
from kellet.errors import InputError

PROCESSES = ProcessPoolTaskRunner(max_workers=5)
THREADS = ThreadPoolTaskRunner(max_workers=5)


def test_a_runner_is_had_by_its_name():
    assert isinstance(task_runner(2, None), ProcessPoolTaskRunner)
    assert isinstance(task_runner(2, "prefect.task_runners:ProcessPoolTaskRunner"), ProcessPoolTaskRunner)
    assert task_runner(2, f"{__name__}:PROCESSES") is PROCESSES


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("prefect_nowhere:Runner", "cannot be had"),
        ("adapters.parallel:Runner", "cannot be had"),
        ("prefect_dask", "MODULE:NAME"),
        ("builtins:dict", "MODULE:NAME"),
        ("prefect.task_runners:ThreadPoolTaskRunner", "process for each task"),
        (f"{__name__}:THREADS", "process for each task"),
    ],
)
def test_what_is_no_runner_of_processes_is_refused(named, words):
    with pytest.raises(InputError, match=words):
        task_runner(2, named)


@pytest.mark.parametrize(("cores", "arms"), [(1, 1), (2, 1), (4, 2), (6, 3), (64, 3)])
def test_room_is_two_cores_an_arm(cores, arms, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert room(3) == arms


def test_a_worker_ends_with_the_process_that_started_it():
    script = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', "
        "f'from adapters.parallel import begin_worker; begin_worker({os.getpid()}, 1); print(1, flush=True); "
        "import time; time.sleep(60)'], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        worker = psutil.Process(int(parent.stdout.readline()))
        assert worker.is_running()
        parent.send_signal(signal.SIGKILL)
    assert psutil.wait_procs([worker], timeout=20)[1] == []
