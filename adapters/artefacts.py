"""Content-addressed outputs of the stages: what is there is held against its hashes and not computed again.

artifacts/STAGE/KEY is the output of one stage; KEY names everything that decides it: the content of its inputs, the
sections of the parameters that the stage reads, the seed, the source of the code, and the versions of the computing
libraries. In the same folder are a manifest with the hash of each file (kellet/manifest.py) and RECORD, so who deletes
the folder deletes them too, and the stage is computed again.

Prefect's own records of results are not used: one says by itself how it is to be read, by pickle too, and whoever may
write to the folder would have code run.
"""

import ast
import json
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import BaseModel, ValidationError

import kellet
from adapters.log import logger
from adapters.settings import ARTIFACTS, LOCKS
from kellet.config.run import Config
from kellet.errors import DataError
from kellet.files import content_hash, value_hash, write_json
from kellet.manifest import FILE, check_whole
from kellet.policy.score_function import function_hash

RECORD = "artefact.json"
"""The Artefact that a folder was when it was made."""

TIMED = {RECORD, "history.jsonl", FILE}
"""Files that say how long things took, and the one that has their hashes: two runs that end in the same weights differ
in them."""

SECTIONS = {
    "base_model": ("seed", "text", "base_model"),
    "reward_model": ("seed", "text", "base_model", "reward_model"),
    "policy": ("seed", "text", "base_model", "policy"),
    "judge": ("seed", "text", "base_model", "reward_model"),
    "evaluation": ("seed", "text", "base_model", "data", "reward_model", "policy", "evaluation"),
    "answers": (),
    "gate": ("gate",),
    "diagnosis": ("reward_model", "policy", "evaluation", "gate"),
    "report": tuple(Config.model_fields),
    "rescoring": ("text", "base_model", "evaluation"),
    "verdicts": (),
}
"""The parameters that each stage reads."""

MODULES = {
    "base_model": "models.base_model",
    "reward_model": "reward.train",
    "policy": "policy.train",
    "judge": "reward.judge_model",
    "evaluation": "evaluation.evaluate",
    "answers": "evaluation.joined",
    "gate": "gate.verdict",
    "diagnosis": "diagnosis.diagnose",
    "report": "report.page",
    "rescoring": "reward.rescore",
    "verdicts": "evaluation.spot_check",
}
"""The module of kellet in which each stage starts, as ROOM.FILE."""

RETRAINING = ("base_model", "reward_model", "policy", "judge", "evaluation", "answers", "gate", "diagnosis", "report")
"""The stages of a retraining; the others belong to flows/remedies.py and flows/regate.py."""

NEUTRAL = {"config", "errors", "files", "manifest", "progress", "public"}
"""Rooms and modules that carry or move values and decide none: a new parameter's description must not throw away a
trained model."""

LIBRARIES = ("numpy", "peft", "tokenizers", "torch", "transformers")


class Artefact(BaseModel):
    """The output of a stage."""

    stage: str
    path: Path
    hash: str
    """SHA-256 of its content when it was made, TIMED files left out."""
    seconds: float = 0.0
    """Time that making it took."""
    cpu_seconds: float | None = None
    """Processor time of the process that made it, while it did; None where that is not known."""
    version: str = ""
    """The registered version that it was downloaded from."""


def folder(stage: str, config: Config, inputs: Mapping[str, Any]) -> Path:
    """Where the stage's output for these inputs lies.

    ``inputs`` are a Dataset, an Artefact, a string, a mapping of such, or None each.
    """
    # Whether a reward model without lift stops the run does not change the model, nor when checkpoints are written.
    neutral = {
        "reward_model": {"require_lift", "checkpoint_every"},
        "policy": {"checkpoint_every", "stop_on", "alarm_patience"},
    }
    left_out: dict[str, set[str]] = {} if stage == "report" else neutral
    key: dict[str, Any] = {
        "inputs": {name: _content(value) for name, value in inputs.items()},
        "parameters": config.model_dump(mode="json", include=set(SECTIONS[stage]), exclude=left_out),
        "code": code_version(MODULES[stage]),
    }
    if "policy" in SECTIONS[stage] and config.policy.score.function:
        key["score_function"] = function_hash(config.policy.score.function)
    return ARTIFACTS / stage / value_hash(key)[:16]


def make(path: Path, write: Callable[[Path], object]) -> Artefact:
    """Give the artefact at ``path``; ``write(path)`` makes it where it does not exist, atomically, so it is whole.

    A folder without RECORD is what a kill between the two leaves; its time is not known. Processes that want the same
    folder at once (arms of flows/remedies.py that share a stage) wait for the first of them. Raises DataError for a
    folder that is not what was written.
    """
    LOCKS.mkdir(parents=True, exist_ok=True)
    with FileLock(LOCKS / f"{path.parent.name}-{path.name}.lock"):
        if path.is_dir():
            logger().info("%s: already at %s", path.parent.name, path)
            return _kept(path)
        start, processor = time.monotonic(), time.process_time()
        logger().info("%s: computing %s", path.parent.name, path)
        write(path)
        seconds, used = time.monotonic() - start, time.process_time() - processor
        logger().info("%s: done in %.1f s", path.parent.name, seconds)
        return _recorded(path, seconds=round(seconds, 1), cpu_seconds=round(used, 1))


def verify(artefact: Artefact) -> None:
    """Raise DataError where the artefact's files are not those that it was made of, or its hash is not theirs."""
    if ARTIFACTS.resolve() in artefact.path.resolve().parents:
        found = _kept(artefact.path).hash
    else:  # a base model that the parameters name
        found = content_hash(artefact.path)
    if found != artefact.hash:
        raise DataError(
            f"{artefact.path} was changed while this ran: its hash is {found[:12]}, and it was {artefact.hash[:12]}; "
            "give the command again"
        )


def _kept(path: Path) -> Artefact:
    """The artefact that a folder is, held against its manifest and its record."""
    again = f"delete {path}, and the stage is computed again"
    try:
        check_whole(path, RECORD)
    except DataError as error:
        raise DataError(f"{error}; or {again}") from error
    if not (path / RECORD).is_file():
        return _recorded(path)
    try:
        kept = Artefact.model_validate_json((path / RECORD).read_bytes())
    except ValidationError as error:
        raise DataError(f"{path / RECORD} is damaged ({str(error).splitlines()[0]}); {again}") from error
    if kept.hash != (found := _hash(path)):
        raise DataError(f"the files of {path} have the hash {found[:12]}, and {RECORD} says {kept.hash[:12]}; {again}")
    return kept.model_copy(update={"stage": path.parent.name, "path": path})  # the project may have been moved


def _recorded(path: Path, seconds: float = 0.0, cpu_seconds: float | None = None) -> Artefact:
    hash_ = _hash(path)
    artefact = Artefact(stage=path.parent.name, path=path, hash=hash_, seconds=seconds, cpu_seconds=cpu_seconds)
    write_json(path / RECORD, artefact.model_dump(mode="json"))
    return artefact


@cache
def code_version(*modules: str) -> str:
    """Hash of the sources that these modules import, of the data files they name, and of the computing libraries.

    ``modules``: ROOM.FILE each. Files are told apart by their path in the package: reward/train.py is not
    policy/train.py.
    """
    code = {file for module in modules for file in sources(module)}
    text = "".join(file.read_text(encoding="utf-8") for file in code)
    read = {file for file in _package().rglob("*") if file.suffix in {".yaml", ".html", ".css"} and file.name in text}
    named = {str(file.relative_to(_package())): content_hash(file) for file in code | read}
    return value_hash({"files": named, "libraries": {name: version(name) for name in LIBRARIES}})


def sources(module: str) -> set[Path]:
    """The files of kellet that ``module`` (ROOM.FILE) imports, directly or not, itself included, NEUTRAL ones left out.

    Lazy imports inside functions count as well.
    """
    result: set[Path] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        file = _file_of(name)
        if file is None or file in result or name.split(".")[0] in NEUTRAL:
            continue
        result.add(file)
        for room, names in _imports(file.read_text(encoding="utf-8")):
            # `from kellet.gate import criteria` names a file, `from kellet.gate import decide` what __init__ imports
            paths = [".".join(filter(None, (room, name))) for name in names]
            waiting += [path if _file_of(path) else room for path in paths]
    return result


@cache
def _imports(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(module below kellet, imported names) of every import from kellet in a source."""
    result = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "kellet":
            names = tuple(alias.name for alias in node.names)
            result.append((str(node.module).removeprefix("kellet").lstrip("."), names))
        elif isinstance(node, ast.Import):
            names = tuple(alias.name for alias in node.names if alias.name.startswith("kellet."))
            result.append(("", tuple(name.removeprefix("kellet.") for name in names)))
    return tuple(result)


def _file_of(module: str) -> Path | None:
    """The file of ROOM.FILE or ROOM in the package; None where there is none."""
    place = _package().joinpath(*module.split("."))
    places = (place.with_name(f"{place.name}.py"), place / "__init__.py")
    return next((file for file in places if file.is_file()), None) if module else None


def _content(value: Any) -> Any:
    """What decides a stage: the hash of a data set or artefact, a value as it is."""
    if isinstance(value, Mapping):
        return {name: _content(item) for name, item in value.items()}
    return getattr(value, "hash", value)


def _hash(path: Path) -> str:
    """Hash of the names and contents of a folder's files, without those that tell the time."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name not in TIMED)
    return value_hash({str(file.relative_to(path)): _file_hash(file) for file in files})


def _file_hash(file: Path) -> str:
    if file.name == "adapter_config.json":  # peft writes the names of modules as a set, in any order
        values = json.loads(file.read_text(encoding="utf-8"))
        return value_hash({key: sorted(value) if isinstance(value, list) else value for key, value in values.items()})
    return content_hash(file)


def _package() -> Path:
    return Path(kellet.__file__).parent
