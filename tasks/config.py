"""The parameters of a retraining, and the rule that data settings belong to DVC."""

from pathlib import Path
from typing import Any

import yaml

from kellet.config.data import Data
from kellet.config.file import check_base_path, load_config
from kellet.config.run import Config
from kellet.errors import ConfigError


def load(params: str, overrides: tuple[str, ...] = ()) -> Config:
    """Read and check the parameters of a retraining.

    Raises ConfigError for what ``load_config`` (kellet/config/file.py) refuses, outside the project root, and when the
    data section is not the one that DVC reads for ``data.name``.
    """
    if not Path("dvc.yaml").is_file():
        raise ConfigError(f"{Path.cwd()} has no dvc.yaml; run retrainings from the project root")
    config = load_config(Path(params), overrides)
    check_base_path(config)
    tracked = params_file(config.data.name)
    _refuse_other_data(config.data, load_config(tracked).data, tracked)
    return config


def params_file(name: str) -> Path:
    """The parameter file whose data section describes the data set ``name`` to DVC (dvc.yaml, stage prepare)."""
    known = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]["prepare"]["foreach"]
    if name not in known:
        raise ConfigError(
            f"data.name {name!r} is none of dvc.yaml's data sets ({', '.join(known)}); add it to the stage prepare"
        )
    return Path(known[name]["params"])


def _refuse_other_data(given: Data, tracked: Data, file: Path) -> None:
    differing = _differing(given.model_dump(mode="json"), tracked.model_dump(mode="json"), "data")
    if differing:
        key, value, wanted = differing[0]
        raise ConfigError(
            f"{key} is {value!r} here and {wanted!r} in {file}: data settings belong to DVC; edit {key} in {file}"
            " (or in a profile of its own, listed in dvc.yaml)"
        )


def _differing(given: dict[str, Any], tracked: dict[str, Any], prefix: str) -> list[tuple[str, Any, Any]]:
    """(key, given value, tracked value) of every leaf that differs."""
    found: list[tuple[str, Any, Any]] = []
    for key, value in given.items():
        if isinstance(value, dict):
            found += _differing(value, tracked.get(key) or {}, f"{prefix}.{key}")
        elif value != tracked.get(key):
            found.append((f"{prefix}.{key}", value, tracked.get(key)))
    found += [(f"{prefix}.{key}", None, tracked[key]) for key in tracked if key not in given]
    return found
