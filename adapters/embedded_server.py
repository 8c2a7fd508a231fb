"""The server that Prefect starts by itself, out of the terminal's reach.

Ctrl-C goes to every process of the terminal's foreground group. A server that belongs to it dies at once, before the
training has finished its iteration, saved and given back its slot, and every call after that waits for it in vain.
"""

import subprocess
from functools import partial
from typing import Any


def outlive_ctrl_c() -> None:
    """From now on Prefect starts its embedded server in a process group of its own; with a server of yours, nothing.

    The server still ends with the process that started it, and one that outlives it is swept up by the next retraining
    (adapters/cleanup.py).
    """
    from prefect.settings import PREFECT_API_URL

    if PREFECT_API_URL.value():
        return
    from prefect.server.api import server

    class _Subprocess:
        """The module ``subprocess``, whose Popen begins a process group."""

        Popen = partial(subprocess.Popen, process_group=0)

        def __getattr__(self, name: str) -> Any:
            return getattr(subprocess, name)

    vars(server)["subprocess"] = _Subprocess()
