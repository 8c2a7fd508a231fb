"""The public names of a room, loaded when they are asked for: importing the room itself loads nothing."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def lazily(room: str, home: Mapping[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of the package ``room``; ``home`` says in which module each public name is (PEP 562)."""

    def getattr_of_room(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(import_module(home[name]), name)

    return getattr_of_room
