"""What the command lines of adapters/ and flows/ share."""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable

from kellet.errors import KelletError
from kellet.terminal import harmless_logs, harmless_output

INTERRUPTED = 128 + signal.SIGINT
HELD_UP = 30.0
"""Seconds after which a command that was stopped is ended although a thread still runs."""


def guarded(work: Callable[[], int | None]) -> int:
    """The exit code of ``work``, None being 0; an error raised on purpose is one line on stderr and its own code.

    So is Ctrl-C, with 130, as a shell counts it. Text of files is escaped on its way out (kellet/terminal.py).
    """
    harmless_logs()
    with harmless_output():
        try:
            return work() or 0
        except KelletError as error:
            sys.stdout.flush()
            sys.stderr.write(f"error: {error}\n")
            return error.exit_code
        except KeyboardInterrupt:
            sys.stdout.flush()
            sys.stderr.write("stopped by Ctrl-C; the same command goes on from here\n")
            _end_within(HELD_UP)
            return INTERRUPTED


def _end_within(seconds: float) -> None:
    """End this process with INTERRUPTED where it has not ended by itself by then, its exit functions run.

    Ctrl-C that comes while a pool starts a thread leaves one behind that nobody tells to end (Python 3.11 registers it
    after the start, concurrent/futures/thread.py), and the interpreter's own end waits for it for ever.
    """

    def end() -> None:
        atexit._run_exitfuncs()  # Prefect's embedded server among them
        os._exit(INTERRUPTED)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
