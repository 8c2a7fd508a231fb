"""Who runs what: a process's name that outlives it, so that the runs of a dead process can be told from live ones."""

import os
import socket

import psutil

VARIABLE = "KELLET_OWNER"


def me() -> str:
    """Name this process ``owner:HOST:PID:START``; START (seconds since 1970) tells it from later users of the PID."""
    return f"owner:{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def sign_children() -> None:
    """Let the processes that this one starts, Prefect's embedded server among them, name it in their environment."""
    os.environ[VARIABLE] = me()


def is_gone(owner: str) -> bool:
    """Whether this is a process of this host that no longer exists; those of other hosts cannot be seen."""
    _, host, pid, start = owner.rsplit(":", 3)
    if host != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(pid))
        return bool(process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(start)) > 1.5)
    except psutil.NoSuchProcess:
        return True
