"""Keeping in a parameter file what a person has confirmed, beside what the file says already.

Only keys of the section ``data`` are written; all other text of the file, comments included, stays as it is.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from kellet.errors import ConfigError, InputError
from kellet.files import atomic_file

INDENT = "  "


def as_yaml(values: Mapping[str, Any]) -> str:
    """Keys of the section data as the lines of a parameter file."""
    return "data:\n" + "".join(_line(key, value, INDENT) for key, value in values.items())


def keep_data(path: Path, values: Mapping[str, Any]) -> None:
    """Set keys of the section ``data`` in a parameter file.

    Raises InputError, and leaves the file as it is, where the section stands in another file (``extends``) or is
    written in a way that cannot be changed safely; the message has the lines to add by hand.
    """
    try:
        text = path.read_text(encoding="utf-8")
        before = yaml.safe_load(text) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read parameters from {path}: {error}; give a YAML file with --params") from error
    lines = text.splitlines(keepends=True)
    start = next((n for n, line in enumerate(lines) if re.match(r"data:\s*(#.*)?$", line)), None)
    if isinstance(before.get("data"), dict) and start is not None:
        after = "".join(_changed(lines, start, values))
        if _same(after, {**before, "data": {**before["data"], **values}}):
            with atomic_file(path) as temporary:
                temporary.write_text(after, encoding="utf-8")
            return
    raise InputError(
        f"{path} has no section data of its own that can be changed safely, and stays as it is; add this where the "
        f"section stands:\n{as_yaml(values)}"
    )


def _changed(lines: list[str], start: int, values: Mapping[str, Any]) -> list[str]:
    end = next((n for n in range(start + 1, len(lines)) if re.match(r"[^\s#]", lines[n])), len(lines))
    inside = lines[start + 1 : end]
    indent = next((match[0] for line in inside if (match := re.match(r" +(?=[^\s#])", line))), INDENT)
    for key, value in values.items():
        at = next((n for n, line in enumerate(inside) if re.match(rf"{indent}{key}\s*:", line)), None)
        stop = at
        if at is not None:
            stop = next((n for n in range(at + 1, len(inside)) if re.match(rf"{indent}[^\s]", inside[n])), len(inside))
            while stop > at + 1 and (not inside[stop - 1].strip() or inside[stop - 1].lstrip().startswith("#")):
                stop -= 1
        inside[slice(at, stop) if at is not None else slice(0, 0)] = [_line(key, value, indent)]
    return [*lines[: start + 1], *inside, *lines[end:]]


def _line(key: str, value: Any, indent: str) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, sort_keys=False, width=1_000_000)
    return f"{indent}{key}: {text.removesuffix('...' + chr(10)).strip()}\n"


def _same(text: str, wanted: Any) -> bool:
    try:
        return bool(yaml.safe_load(text) == wanted)
    except yaml.YAMLError:
        return False
