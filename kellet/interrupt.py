"""Ctrl-C and SIGTERM while training: finish the step, save, then end as the signal asks."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def held_back() -> Iterator[Callable[[], bool]]:
    """Inside, the first signal only makes the yielded function return True; a second one acts at once.

    On leaving, a signal that was held back is delivered to its former handler: Ctrl-C becomes KeyboardInterrupt,
    SIGTERM ends the process or does what a flow engine has set. Only the main thread can handle signals; in another
    thread nothing is held back. A signal that was ignored stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    received: list[int] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def hold(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        received.append(number)
        restore()

    for number in before:
        signal.signal(number, hold)
    try:
        yield lambda: bool(received)
    finally:
        restore()
    for held in received:
        signal.raise_signal(held)
