"""Atomic writing, so that a kill at any moment leaves either the old state or the new one, and content hashes."""

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kellet.errors import InputError, KelletError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""A write that the disk, a quota, the process's limit of a file's size or a mount does not take."""
BLOCK = 1 << 20
"""Bytes of a file that are hashed at once."""
_RUST = re.compile(r"os error (\d+)")
"""How libraries in Rust, such as safetensors, end the message of an error that is no OSError."""


def content_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes, or of a folder's relative names and bytes in sorted order."""
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as content:  # weights may be larger than memory
            while block := content.read(BLOCK):
                digest.update(block)
        digest.update(b"\0")
    return digest.hexdigest()


def value_hash(value: Any) -> str:
    """SHA-256 (hex) of a JSON-able value, independent of the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is flushed to disk and renamed over ``path``.

    Raises InputError when the folder cannot be written, KelletError when the disk is full; the old file is kept then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    except OSError as error:
        raise _not_writable(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
        _flush(path.parent)
    except Exception as error:
        if (full := _no_room(path, error)) is not None:
            raise full from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside ``path``; on success it takes the place of ``path``.

    On Linux the two are exchanged in one step, so that a kill at any moment leaves one of them at ``path``. Elsewhere
    there is a moment between two renames; an interrupt in it puts the old folder back. Raises InputError when the
    parent folder cannot be written, KelletError when the disk is full; the old folder is kept then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise _not_writable(path, error) from error
    old = temporary.with_name(temporary.name + ".old")
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _flush(file)
        temporary.chmod(0o755)
        if not (path.is_dir() and _exchange(temporary, path)):
            if path.exists():
                path.replace(old)
            temporary.replace(path)
        _flush(path.parent)
    except Exception as error:
        if (full := _no_room(path, error)) is not None:
            raise full from error
        raise
    finally:
        if old.exists() and not path.exists():
            old.replace(path)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders in one step; False where the system cannot (Linux's renameat2 with RENAME_EXCHANGE)."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):  # no Linux, or a C library before 2018
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of <fcntl.h> and <linux/fs.h>
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file that Kellet wrote."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; NaN and infinity become null."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(_finite(value), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line; NaN and infinity become null. Not atomic: for files of a folder that is."""
    path.write_text("".join(json.dumps(_finite(row), ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def _finite(value: Any) -> Any:
    """``value`` with every non-finite float replaced by None, because JSON has no NaN."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not (abs(value) < float("inf")):
        return None
    return value


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _no_room(path: Path, error: Exception) -> KelletError | None:
    """The error to raise in place of one that says that the disk is full; None for any other."""
    told = _RUST.search(str(error))
    number = getattr(error, "errno", None) or (int(told[1]) if told else None)
    if number not in NO_ROOM:
        return None
    return KelletError(f"cannot write {path}: {os.strerror(number)}; what was there is kept; make room and start again")


def _not_writable(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {path}: {error.strerror or error}; choose a folder that you may write to")
