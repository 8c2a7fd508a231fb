"""The extras of pyproject.toml: which packages come with them, and the one line where one is missing.

`pip install kellet` brings what judges files: validate, import-logs, spot-check, judge, gate, diagnose, report. What
trains comes with `kellet[train]`, what tracks, versions and schedules with `kellet[flows]`.
"""

from importlib.util import find_spec

from kellet.errors import MissingExtra

TRAINING = ("torch", "transformers", "peft", "accelerate", "safetensors", "tokenizers")
DATA_DOCS = ("great_expectations",)
LEDGER = ("sqlalchemy", "alembic")
FLOWS = ("prefect", "mlflow", "dvc", "psutil", *LEDGER)
EXTRAS = {"train": (*TRAINING, *DATA_DOCS), "flows": FLOWS}
"""Extra -> the names by which its packages are imported."""


def require(what: str, *packages: str) -> None:
    """Raise MissingExtra, naming ``what`` is asked for and the extras, where one of the packages is not installed.

    A package that is there and cannot be imported is another matter, and is not looked for here.
    """
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        extras = ",".join(extra for extra, names in EXTRAS.items() if set(names) & set(missing))
        raise MissingExtra(f"{what} needs {missing[0]}: pip install 'kellet[{extras}]'")
