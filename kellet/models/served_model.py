"""The registered model as MLflow serves it: its folder holds no code, the code is that of the installed package.

    MLmodel            names this module as loader; beside it what MLflow writes about the environment
    manifest.json      the hash of every other file (kellet/manifest.py)
    data/model/base    the base model, as it was trained on
    data/model/policy  the policy's adapter
    data/model/text.json   templates, token limits and temperature: parameters ``text``

Input: a data frame with the column ``prompt``, or a list of prompts. Output: one response for each prompt, sampled with
the parameter ``seed``, or without it greedy: the most probable token at each step.

Whoever may write to the bucket may write all of this, MLmodel included. So what is loaded has to be what was registered
(:func:`check_served`, and the manifest's own hash in the registry, adapters/registered.py).
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from kellet.config.training import Text
from kellet.errors import DataError, InputError
from kellet.files import read_json
from kellet.manifest import check_whole

LOADER = "kellet.models.served_model"
DATA = Path("data/model")
BASE, POLICY, TEXT = DATA / "base", DATA / "policy", DATA / "text.json"
ADDED = ("registered_model_meta",)
"""What MLflow writes into a model's folder when it fetches it: name and version."""
PLAIN = {"", ".json", ".jsonl", ".jinja", ".md", ".model", ".safetensors", ".txt", ".yaml"}
"""Endings of files that hold data alone."""
PICKLED = (*(b"\x80" + bytes([protocol]) for protocol in range(2, 6)), b"PK\x03\x04")
"""How pickles begin, and torch's archives of them."""


class ServedPolicy:
    """A base model with a policy's adapter."""

    def __init__(self, model: Any, tokenizer: Any, text: Text) -> None:
        self.model, self.tokenizer, self.text = model, tokenizer, text

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[str]:
        """Answer each prompt. Raises InputError for what is no text."""
        from kellet.models.sampling import generate_text

        prompts = list(model_input["prompt"] if hasattr(model_input, "columns") else model_input)
        for prompt in prompts:
            if not isinstance(prompt, str):
                raise InputError(f"a prompt is a text; got {type(prompt).__name__} {str(prompt)[:40]!r}")
        return generate_text(self.model, self.tokenizer, prompts, self.text, (params or {}).get("seed"))


def _load_pyfunc(path: str) -> ServedPolicy:
    """MLflow's way in: ``path`` is DATA in the model's folder. Raises DataError where that is not as registered."""
    from kellet.models.sampling import load_policy

    folder = Path(path).parents[len(DATA.parts) - 1]
    text = check_served(folder)
    return ServedPolicy(*load_policy(folder / BASE, folder / POLICY / "adapter", text.temperature), text)


def check_served(folder: Path) -> Text:
    """The parameters ``text`` of a registered model's folder.

    Raises DataError where it is not what was written, would load or run code, or may hold a pickle.
    """
    check_whole(folder, *ADDED)
    _require_plain(folder)
    _require_loader(folder / "MLmodel")
    try:
        return Text.model_validate(read_json(folder / TEXT))
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise DataError(f"{folder / TEXT} cannot be read ({_line(error)}); register the model again") from error


def _require_plain(folder: Path) -> None:
    for file in sorted(folder.rglob("*")):
        if file.is_dir():
            continue
        with file.open("rb") as content:
            start = content.read(4)
        if file.suffix not in PLAIN or start.startswith(PICKLED):
            raise DataError(
                f"{file} may hold code or a pickle; a model of Kellet has weights in safetensors and texts alone"
            )


def _require_loader(file: Path) -> None:
    """Raise DataError where MLmodel would have MLflow load another way, or with more than it was written with."""
    try:
        flavours = dict(yaml.safe_load(file.read_text(encoding="utf-8"))["flavors"])
        settings = dict(flavours.pop("python_function"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{file} is no MLmodel file of Kellet ({_line(error)})") from error
    wanted = {"loader_module": LOADER, "data": str(DATA)}
    free = {"env", "python_version", "streamable"}
    wrong = [name for name, value in wanted.items() if settings.get(name) != value]
    wrong += sorted(name for name, value in settings.items() if value and name not in {*wanted, *free})
    if wrong or flavours:
        named = ", ".join(f"{name}: {settings.get(name)!r}" for name in wrong) or f"flavors: {', '.join(flavours)}"
        raise DataError(f"{file} has {named[:200]}; a model of Kellet is loaded by {LOADER} and brings no code")


def _line(error: Exception) -> str:
    return f"{type(error).__name__} {' '.join(str(error).split())}".strip()[:200]
