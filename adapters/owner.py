"""A name for a process, written on what it runs: later one can see whether that process is still alive."""

import os
import re
import socket

import psutil

VARIABLE = "KELLET_OWNER"
NAME = re.compile(r"owner:(?P<host>.+):(?P<pid>\d{1,9}):(?P<start>\d{1,12})", re.ASCII)


def me() -> str:
    """The name of this process, ``owner:HOST:PID:START``; START, in seconds since 1970, differs for a reused PID."""
    return f"owner:{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.0f}"


def sign_children() -> None:
    """Put the name into the environment, which child processes inherit; Prefect's embedded server is one of them."""
    os.environ[VARIABLE] = me()


def is_gone(owner: str) -> bool:
    """Whether the process ran on this host and has ended. Processes of other hosts cannot be seen: False.

    So it is for a name that Kellet did not give: who uses the tag `owner` for something else keeps their runs.
    """
    name = NAME.fullmatch(owner)
    if name is None or name["host"] != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(name["pid"]))
        return bool(process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - float(name["start"])) > 1.5)
    except psutil.NoSuchProcess:
        return True
