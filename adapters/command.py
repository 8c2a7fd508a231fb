"""What the command lines of adapters/ and flows/ share."""

import sys
from collections.abc import Callable

from kellet.errors import KelletError


def guarded(work: Callable[[], int]) -> int:
    """The exit code of ``work``; an error raised on purpose becomes one line on stderr and its own exit code."""
    try:
        return work()
    except KelletError as error:
        sys.stdout.flush()
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
