"""A command in a terminal of its own, in which Ctrl-C is typed: the kernel sends SIGINT to every process there."""

import fcntl
import os
import subprocess
import sys
import termios
import time
from pathlib import Path

from tests.helpers import project


class Terminal:
    """``python -m MODULE ARGUMENTS`` in ``root``, on a pseudo-terminal."""

    def __init__(self, root: Path, *arguments: str, module: str = "flows.retrain") -> None:
        self.screen, slave = os.openpty()
        self.said = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=root,
            env=project.environment(root, COLUMNS="200", TERM="dumb"),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)

    def read(self) -> str:
        """What is on the screen by now and was not read before; empty at the end."""
        try:
            text = os.read(self.screen, 4096).decode("utf-8", "replace")
        except OSError:  # how Linux says that the last process has closed the terminal
            return ""
        self.said += text
        return text

    def wait_for(self, moment: str) -> None:
        """Read until ``moment`` is on the screen."""
        while moment not in self.said:
            if not self.read():
                raise AssertionError(f"it ended without saying {moment!r}:\n{self.said}")

    def interrupt(self) -> tuple[int, str, float]:
        """Type Ctrl-C once; exit code, what was printed from then on, and seconds until the end."""
        before, started = len(self.said), time.monotonic()
        os.write(self.screen, b"\x03")
        while self.read():
            pass
        code = self.process.wait(timeout=300)
        os.close(self.screen)
        return code, self.said[before:], time.monotonic() - started
