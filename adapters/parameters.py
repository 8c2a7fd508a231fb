"""The parameters of a retraining and of its arms; the data section has to be the one that DVC reads."""

from pathlib import Path

import yaml

from kellet.config.data import Data
from kellet.config.file import check_base_path, flatten, load_config
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
    _require_same_data(config.data, load_config(tracked).data, tracked)
    return config


def params_file(name: str) -> Path:
    """The parameter file whose data section describes the data set ``name`` to DVC (dvc.yaml, stage prepare)."""
    data_sets = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]["prepare"]["foreach"]
    if name not in data_sets:
        raise ConfigError(
            f"data.name {name!r} is none of dvc.yaml's data sets ({', '.join(data_sets)}); add it to the stage prepare"
        )
    return Path(data_sets[name]["params"])


def _require_same_data(given: Data, tracked: Data, file: Path) -> None:
    flat = (flatten(data.model_dump(mode="json"), "data.") for data in (given, tracked))
    ours, theirs = ({key: value for key, value in values.items() if value != {}} for values in flat)
    for key in [*ours, *theirs]:
        if ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"{key} is {ours.get(key)!r} here and {theirs.get(key)!r} in {file}: data settings belong to DVC; edit "
                f"{key} in {file} (or in a profile of its own, listed in dvc.yaml)"
            )
