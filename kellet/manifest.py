"""manifest.json: what a folder that Kellet wrote is made of, and the hash of every file in it.

    kind      what it is: reward_model, policy, served_model, …
    made_of   what it was made from: base, and for a policy the reward model; each a hash by file, or a hub's name
    files     name -> SHA-256 of every file when the folder was written

A reward model or a policy is an adapter: beside another base, tokenizer or chat template it is another model. So
whoever loads one holds it against what it belongs to, and against what was written.
"""

import json
import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from kellet.errors import DataError
from kellet.files import content_hash, read_json, write_json

FILE = "manifest.json"
NAMED = 4
"""Differences that an error names."""
MODEL_FILES = {"config.json", "generation_config.json", "adapter_config.json", "reward_model.json"}
"""Files beside the weights that decide what a model computes, or when it ends."""
TOKENIZER_FILES = {
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja", "chat_template.json"),
}
logger = logging.getLogger(__name__)


def write_manifest(folder: Path, kind: str, **made_of: Path | str) -> None:
    """Write the manifest of ``folder``, whose other files are complete; it was made from the folders ``made_of``."""
    files = {name: content_hash(folder / name) for name in _names(folder)}
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
    manifest = _read(folder)
    _require_unchanged(folder, manifest["files"])
    deciding = (str(file.relative_to(folder)) for file in _deciding(folder))
    _require_none_added(folder, [name for name in deciding if name not in manifest["files"]])
    made_of = manifest["made_of"]
    for name, source in beside.items():
        if source is not None and name in made_of:
            _compare(folder, name, made_of[name], content_of(Path(source)), source)


def check_whole(folder: Path, *besides: str) -> None:
    """Raise DataError where ``folder`` has not the very files of its manifest: none changed, missing or added.

    ``besides`` may stand in it too.
    """
    if not (folder / FILE).is_file():
        raise DataError(f"{folder} has no {FILE}, so its files cannot be checked; copy it again, or make it again")
    files = _read(folder)["files"]
    _require_unchanged(folder, files)
    _require_none_added(folder, [name for name in _names(folder) if name not in files and name not in besides])


def check_base(base: Path | str) -> None:
    """Raise DataError where a base model's folder has a manifest and is not what it says; others are as they are."""
    if (Path(base) / FILE).is_file():
        check_manifest(Path(base))


def check_file(file: Path) -> None:
    """Raise DataError where the manifest beside ``file`` has another hash of it; without one nothing is known."""
    folder = file.parent
    if not (folder / FILE).is_file():
        return
    files = _read(folder)["files"]
    if file.name in files and not _is(file, files[file.name]):
        raise DataError(
            f"{file} is not what was written: {FILE} beside it has another hash; copy it again or make it again, or "
            "give a changed copy another folder"
        )


def check_evaluated(evaluation: Path | None, history: Path | None, card: Path | None) -> None:
    """Raise DataError where an evaluation was not made by the policy of ``history`` and the reward model of ``card``.

    They are compared where the folders of all of them have manifests, as training and evaluation write them.
    """
    if evaluation is None or not (evaluation.parent / FILE).is_file():
        return
    parts = {"policy": history, "reward_model": card}
    known = {name: file.parent for name, file in parts.items() if file and (file.parent / FILE).is_file()}
    check_manifest(evaluation.parent, **known)


def renew(file: Path) -> None:
    """Put the hash of a file that a verb wrote anew into the manifest beside it, where that lists it."""
    if (file.parent / FILE).is_file():
        manifest = read_json(file.parent / FILE)
        if file.name in manifest["files"]:
            manifest["files"][file.name] = content_hash(file)
            write_json(file.parent / FILE, manifest)


def _read(folder: Path) -> dict[str, dict[str, Any]]:
    try:
        manifest = read_json(folder / FILE)
        return {part: dict(manifest[part]) for part in ("files", "made_of")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / FILE} is damaged ({error}); make {folder} again, or copy it again") from error


def _require_unchanged(folder: Path, files: dict[str, str]) -> None:
    changed = [name for name, digest in files.items() if not _is(folder / name, digest)]
    if changed:
        raise DataError(
            f"{folder} is not what was written: {', '.join(changed[:NAMED])} changed or missing (of {len(files)} "
            "files); copy it again, or make it again"
        )


def _require_none_added(folder: Path, added: list[str]) -> None:
    if added:
        raise DataError(
            f"{folder} is not what was written: {', '.join(added[:NAMED])} was added; take it away, or copy it again"
        )


def _compare(folder: Path, name: str, before: Any, now: Any, source: Path | str) -> None:
    if isinstance(before, str) != isinstance(now, str):  # a hub's name beside a folder: nothing to compare by
        logger.warning("%s was made of %s %s; that %s is the same cannot be checked", folder, name, before, source)
        return
    other = [text.split(": checkpoint ")[0] or "name" for text in differences(before, now)]
    if other:
        if (Path(source) / FILE).is_file():  # it may be that one that was changed
            _require_unchanged(Path(source), _read(Path(source))["files"])
        raise DataError(
            f"{folder} was made of another {name.replace('_', ' ')} than {source}: they differ in "
            f"{', '.join(other[:NAMED])}; give the one that it was made of, or make it again"
        )


def _is(file: Path, digest: str) -> bool:
    return file.is_file() and content_hash(file) == digest


def _names(folder: Path) -> list[str]:
    """The files of a folder, in sorted order, without its manifest."""
    names = (str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
    return sorted(name for name in names if name != FILE)


def content_of(path: Path) -> Any:
    """Hash of a file; of a model's folder the hash of each file that decides what it computes; else the name itself."""
    if not path.is_dir():
        return content_hash(path) if path.exists() else str(path)
    return {
        str(file.relative_to(path)): _hash_once(file, file.stat().st_size, file.stat().st_mtime_ns)
        for file in _deciding(path)
    }


def _deciding(folder: Path) -> list[Path]:
    """The files of a model's folder that decide what it computes, or when it ends."""
    wanted = MODEL_FILES | TOKENIZER_FILES
    return sorted(file for file in folder.rglob("*") if file.suffix == ".safetensors" or file.name in wanted)


@cache
def _hash_once(file: Path, size: int, mtime_ns: int) -> str:  # noqa: ARG001  # both say whether the file has changed
    return content_hash(file)


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Each value in which two nested records differ, as ``section.key: checkpoint OLD, now NEW``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{where}.{key}".removeprefix("."))
    elif old != new:
        yield f"{where.removeprefix('parameters.')}: checkpoint {_short(old)}, now {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
