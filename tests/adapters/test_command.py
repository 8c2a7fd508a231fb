"""A command line that is stopped."""

import subprocess
import sys

import pytest

from tests.helpers.project import ROOT

HELD = """
import atexit, sys, threading
from adapters import command

command.HELD_UP = 0.5
atexit.register(lambda: print("the server is stopped", flush=True))
if sys.argv[1] == "held":
    threading.Thread(target=threading.Event().wait).start()  # as a pool's thread that nobody tells to end


def work():
    raise KeyboardInterrupt


sys.exit(command.guarded(work))
"""


@pytest.mark.parametrize("way", ["held", "free"])
def test_a_command_that_was_stopped_ends_although_a_thread_does_not(way):
    command = [sys.executable, "-c", HELD, way]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert done.stdout == "the server is stopped\n"
    assert done.stderr == "stopped by Ctrl-C; the same command goes on from here\n"
