"""A chat template from a model's folder, tried once with bounds before it is used.

A template is a program. Jinja's sandbox keeps it from files and attributes, not from computing for ever or filling the
memory: nested loops, or ``'%1000000000d' % 1``. So it is run first in a process of its own, with a limit on processor
time and memory. It is tried on a small conversation; a template that waits for another one is not found out.
"""

import multiprocessing
import resource
from multiprocessing.connection import Connection
from typing import Any

from kellet.errors import ConfigError

SECONDS = 10
"""Of processor time for one small conversation; templates of models take milliseconds."""
MEMORY = 2**30
"""Bytes beyond what the process has."""
TRIED = [
    {"role": "user", "content": "Where is my parcel?"},
    {"role": "assistant", "content": "On its way."},
    {"role": "user", "content": "Thank you."},
]


def require_bounded(tokenizer: Any, base: object) -> None:
    """Raise ConfigError when the chat template of ``base`` does not come to an end within SECONDS and MEMORY.

    Nothing is done where there is no template, or no ``fork``. A template that refuses the conversation has ended too.
    """
    if not getattr(tokenizer, "chat_template", None) or "fork" not in multiprocessing.get_all_start_methods():
        return
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_render, args=(tokenizer, sender), daemon=True)
    process.start()
    sender.close()
    ended = receiver.poll(3 * SECONDS) and _received(receiver)
    process.kill()
    process.join()
    receiver.close()
    if not ended:
        raise ConfigError(
            f"the chat template of {str(base)!r} did not render a conversation of three messages within {SECONDS} s of "
            f"processor time and {MEMORY >> 30} GiB of memory; use another template (chat_template.jinja)"
        )


def _received(receiver: Connection) -> bool:
    try:
        return bool(receiver.recv())
    except EOFError:  # the process was ended by its limits
        return False


def _render(tokenizer: Any, sender: Connection) -> None:
    """In the child: limits first, then the template; says True when it came to an end, also to a refusal."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
        pages = int(file.read().split()[0])
    size = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    try:
        tokenizer.apply_chat_template(TRIED, tokenize=False, add_generation_prompt=True)
    except MemoryError:
        sender.send(False)
    except Exception:  # noqa: BLE001  # whatever a template raises, it has ended; who uses it hears what it says
        sender.send(True)
    else:
        sender.send(True)
