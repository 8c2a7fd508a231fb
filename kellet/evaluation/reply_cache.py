"""Replies of a judging model, kept so that none is asked for twice: a file of JSON lines that is only added to.

Each line is one reply and the hash of the request that it answers: model, rubric, prompt, both answers, their order
and all settings. So a judging that was killed goes on where it stopped, a rubric that changed asks anew, and one file
serves many evaluations. A line that a kill cut short is not a reply; what follows begins on a new line.
"""

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kellet.errors import InputError, KelletError
from kellet.files import value_hash

Body = dict[str, Any]


@dataclass(frozen=True)
class Reply:
    """What a server answered to one request."""

    text: str
    cut: bool
    """Whether it was cut at the largest number of tokens."""
    prompt_tokens: int | None
    """As the server counts what it was asked (``usage``); None where it does not say."""
    completion_tokens: int | None
    model: str
    """The model that answered, by the server's own word."""


class ReplyCache:
    """The replies in a file, by request. Safe for several threads; for one process, see :func:`opened`."""

    def __init__(self, path: Path) -> None:
        """Read what is there; ``damaged`` counts lines that are no reply. Raises InputError for another file."""
        self.path, self.damaged = path, 0
        self._replies: dict[str, Reply] = {}
        self._lock = threading.Lock()
        try:
            lines = path.read_bytes().split(b"\n") if path.exists() else []
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror or error}; name another --cache") from error
        for line in filter(bytes.strip, lines):
            read = _reply_in(line)
            if read is None:
                self.damaged += 1
            else:
                self._replies[read[0]] = read[1]
        if self.damaged > 1 and not self._replies:
            raise InputError(f"{path} holds no replies of a judge; name another --cache, it is only added to")
        self._whole = not lines or not lines[-1].strip()

    def __len__(self) -> int:
        return len(self._replies)

    def get(self, body: Body) -> Reply | None:
        """The reply to this request, if it is known."""
        return self._replies.get(value_hash(body))

    def add(self, body: Body, reply: Reply) -> None:
        """Keep a reply: it is on the disk when this returns. Raises KelletError where it cannot be written."""
        key = value_hash(body)
        line = json.dumps({"key": key, **asdict(reply), "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())})
        with self._lock:
            try:
                with self.path.open("ab") as file:
                    file.write((b"" if self._whole else b"\n") + line.encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise KelletError(
                    f"cannot write {self.path}: {error.strerror or error}; replies so far are kept; make room and "
                    "start again"
                ) from error
            self._whole = True
            self._replies[key] = reply


@contextmanager
def opened(path: Path) -> Iterator[ReplyCache]:
    """The cache in ``path``, which is made where there is none; nobody else may write to it meanwhile.

    Raises InputError where another process uses it or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock"), timeout=0):
            yield ReplyCache(path)
    except Timeout as error:
        raise InputError(
            f"{path} is in use by another 'kellet judge'; wait until it has ended, or name another --cache"
        ) from error


def _reply_in(line: bytes) -> tuple[str, Reply] | None:
    """Key and reply of a line; None where it is damaged."""
    try:
        row = json.loads(line)
        reply = Reply(**{field.name: row[field.name] for field in fields(Reply)})
        sound = isinstance(row["key"], str) and isinstance(reply.text, str) and isinstance(reply.cut, bool)
    except (ValueError, LookupError, TypeError):
        return None
    return (row["key"], reply) if sound else None
