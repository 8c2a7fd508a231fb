"""What the command lines of adapters/ and flows/ share."""

import signal
import sys
from collections.abc import Callable

from kellet.errors import KelletError
from kellet.terminal import harmless_logs, harmless_output

INTERRUPTED = 128 + signal.SIGINT


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
            return INTERRUPTED
