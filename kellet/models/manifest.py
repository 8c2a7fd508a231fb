"""manifest.json: what a trained folder is made of, and the hash of every file in it.

    kind      reward_model or policy
    made_of   what it was trained on: base, and for a policy the reward model; each a hash by file, or a hub's name
    files     name -> SHA-256 of every file when the folder was written

A reward model or a policy is an adapter: beside another base, tokenizer or chat template it is another model. So
whoever loads one holds it against what it belongs to, and against what was written.
"""

import logging
from pathlib import Path
from typing import Any

from kellet.errors import DataError
from kellet.files import content_hash, read_json, write_json
from kellet.models.checkpoint import content_of, differences

FILE = "manifest.json"
NAMED = 4
"""Differences that an error names."""
logger = logging.getLogger(__name__)


def write_manifest(folder: Path, kind: str, **made_of: Path | str) -> None:
    """Write the manifest of ``folder``, whose other files are complete; it was trained on the folders ``made_of``."""
    files = {str(file.relative_to(folder)): content_hash(file) for file in _files(folder)}
    parts = {name: content_of(Path(source)) for name, source in made_of.items()}
    write_json(folder / FILE, {"kind": kind, "made_of": parts, "files": files})


def check_manifest(folder: Path, **beside: Path | str | None) -> None:
    """Raise DataError where ``folder`` is not what was written, or was made of others than it is to be used with.

    ``beside`` are those folders, by the names of :func:`write_manifest`; None is not compared.
    A folder without a manifest, from elsewhere or from an earlier version, cannot be checked, which is logged.
    """
    if not (folder / FILE).is_file():
        logger.warning("%s has no %s: that it belongs to this base cannot be checked", folder, FILE)
        return
    try:
        manifest = read_json(folder / FILE)
        written, made_of = dict(manifest["files"]), dict(manifest["made_of"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / FILE} is damaged ({error}); train {folder} again, or copy it again") from error
    changed = [name for name, digest in written.items() if not _is(folder / name, digest)]
    if changed:
        raise DataError(
            f"{folder} is not what was written: {', '.join(changed[:NAMED])} changed or missing (of {len(written)} "
            "files); copy it again, or train it again"
        )
    for name, source in beside.items():
        if source is None or name not in made_of:
            continue
        _compare(folder, name, made_of[name], content_of(Path(source)), source)


def _compare(folder: Path, name: str, before: Any, now: Any, source: Path | str) -> None:
    if isinstance(before, str) != isinstance(now, str):  # a hub's name beside a folder: nothing to compare by
        logger.warning("%s was made of %s %s; that %s is the same cannot be checked", folder, name, before, source)
        return
    other = [text.split(": checkpoint ")[0] or "name" for text in differences(before, now)]
    if other:
        raise DataError(
            f"{folder} was made of another {name.replace('_', ' ')} than {source}: they differ in "
            f"{', '.join(other[:NAMED])}; give the one that it was trained on, or train it again"
        )


def _is(file: Path, digest: str) -> bool:
    return file.is_file() and content_hash(file) == digest


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.name != FILE)
