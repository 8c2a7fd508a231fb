"""Reading and writing parameter files.

A file may name another with ``extends:`` and give only what differs; the ``data`` section is then taken over whole or
replaced whole, because DVC tracks it by file. ``--set section.key=value`` overrides one value, read as YAML.
"""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from kellet.config.run import Config
from kellet.errors import ConfigError
from kellet.mask import masked_values


def load_config(path: Path, overrides: tuple[str, ...] = ()) -> Config:
    """Read a parameter file, apply ``section.key=value`` overrides, and validate.

    Raises ConfigError when the file is missing or not YAML, when a key is unknown (the nearest known one is named),
    or when a value is out of range.
    """
    values = _read(path, ())
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator or not key.strip():
            raise ConfigError(f"--set got {override!r}; it takes section.key=value, such as policy.kl.target=3")
        _set(values, key.strip().split("."), _yaml(text, f"--set {override}"))
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        where = "" if str(path) == os.devnull else f"{path}: "  # the built-in parameters stand in for a file
        raise ConfigError(where + "; ".join(_explain(item) for item in error.errors())) from error


def dump_config(config: Config) -> str:
    """The resolved configuration as YAML that :func:`load_config` reads back, credentials masked (kellet/mask.py)."""
    return yaml.safe_dump(masked_values(config.model_dump(mode="json")), sort_keys=False, allow_unicode=True)


def check_base_path(config: Config) -> None:
    """Raise ConfigError when ``base_model.path`` or ``reward_model.base`` looks like a folder and holds no model."""
    named = {
        "base_model.path": (config.base_model.path, "to train one"),
        "reward_model.base": (config.reward_model.base, "for the policy's"),
    }
    for key, (path, null) in named.items():
        if path is None:
            continue
        local = Path(path).expanduser()
        if local.exists() and not (local / "config.json").exists():
            raise ConfigError(f"{key} {path!r} has no config.json; give the folder of a transformers causal LM")
        looks_local = path.startswith((".", "/", "~")) or path.count("/") != 1
        if looks_local and not local.exists():
            raise ConfigError(f"{key} {path!r} does not exist; give a folder, a hub name, or null {null}")


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ConfigError(f"{path}: 'extends' goes round in a circle; remove it from one of the files")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read parameters from {path}: {error}; give a YAML file with --params") from error
    values = _yaml(text, str(path)) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected 'section: ...' at the top, got {type(values).__name__}")
    parent = values.pop("extends", None)
    if parent is None:
        return values
    return _merge(_read(path.parent / str(parent), (*seen, path.resolve())), values, top=True)


def _yaml(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: not valid YAML: {error}") from error


def _merge(under: dict[str, Any], over: dict[str, Any], top: bool = False) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict) and not (top and key == "data")
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _set(values: dict[str, Any], keys: list[str], value: Any) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {'.'.join(keys)}: {key} is a value ({inner!r}), not a section")
        values = inner
    values[keys[-1]] = value


def _explain(error: Any) -> str:
    """One pydantic error as a sentence; an unknown key names the nearest known one."""
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return f"{where or 'parameters'}: {error['msg']}, got {error['input']!r}"
    known = known_keys()
    by_name = {key.rsplit(".", 1)[-1]: key for key in reversed(known)}
    near = difflib.get_close_matches(where, known, n=1, cutoff=0.5) or [
        by_name[name] for name in difflib.get_close_matches(where.rsplit(".", 1)[-1], by_name, n=1)
    ]
    return f"unknown parameter {where!r}" + (f"; did you mean {near[0]!r}?" if near else "; see params.yaml")


def known_keys(section: type[BaseModel] = Config, prefix: str = "") -> list[str]:
    """Every parameter as ``section.key``, sections included."""
    keys = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += known_keys(field.annotation, f"{prefix}{name}.")
    return keys


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as ``section.key``: value; an empty section counts as a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, Mapping) and value
        flat |= flatten(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": value}
    return flat
