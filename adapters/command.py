"""What the command lines of adapters/ and flows/ share."""

import sys
from collections.abc import Callable

from kellet.errors import KelletError


def guarded(work: Callable[[], int | None]) -> int:
    """The exit code of ``work``, None being 0; an error raised on purpose is one line on stderr and its own code."""
    try:
        return work() or 0
    except KelletError as error:
        sys.stdout.flush()
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
