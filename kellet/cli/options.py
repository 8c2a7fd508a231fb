"""What the verbs of the command line share: errors as exit codes, parameters, and the places of files.

The places are conventions: data/prepared/NAME for the data set data.name, and below --run (default runs/NAME of the
run's name) base/, reward_model/, policy/, evaluation/evaluation.parquet, gate.json and report.html.
"""

import errno
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kellet.errors import InputError, KelletError, NotPromoted

if TYPE_CHECKING:
    from kellet.config.data import Data
    from kellet.config.run import Config

FILE = click.Path(path_type=Path)
PARAMS = Path("params.yaml")


class Verbs(click.Group):
    """Errors raised on purpose become ``error: message`` and their exit code; the verbs stand in their own order."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Name the verbs as they are defined."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb. A path that cannot be used, or a model that a library does not find, is bad input."""
        try:
            return super().invoke(ctx)
        except KelletError as error:
            which = "" if first_process() else f"process {os.environ['RANK']}: "
            click.echo(f"{which}{'not promoted' if isinstance(error, NotPromoted) else 'error'}: {error}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno is not None and (error.errno == errno.EPIPE or error.filename is None):
                raise
            told = f"{error.filename}: {error.strerror}; give a path that exists and is yours"
            click.echo(f"error: {error if error.errno is None else told}", err=True)
            ctx.exit(2)


def with_params(optional: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """--params and --set, given on as ``config``; when ``optional``, defaults stand in for a missing params.yaml."""

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        @wraps(verb)
        def load(params: Path, overrides: tuple[str, ...], **options: Any) -> None:
            from kellet.config.file import load_config

            built_in = optional and params == PARAMS and not params.exists()
            verb(load_config(Path(os.devnull) if built_in else params, overrides), **options)

        change = "Change one parameter, section.key=value; may be given several times."
        load = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=change)(load)
        told = "Parameter file" + (" (built-in parameters where there is none)." if optional else ".")
        return click.option("--params", type=FILE, default=PARAMS, show_default=True, help=told)(load)

    return decorate


def mapped_columns(data: "Data", mapped: tuple[str, ...]) -> "Data":
    """``data`` with the columns of --map. Raises InputError for what is not OURS=THEIRS, or no column of ours."""
    from kellet.data.columns import NAMES

    pairs = [text.partition("=") for text in mapped]
    for (ours, equals, theirs), text in zip(pairs, mapped, strict=True):
        if not equals or not theirs or ours not in NAMES:
            raise InputError(f"--map got {text!r}; it takes OURS=THEIRS, OURS being one of {', '.join(NAMES)}")
    return data.model_copy(update={"columns": {**data.columns, **{ours: theirs for ours, _, theirs in pairs}}})


def path_option(name: str, default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add an option for a file or folder that has a conventional place."""
    return click.option(name, type=FILE, help=f"Default: {default}.")


run_option = path_option("--run", "runs/NAME of the parameter name")
preferences_option = path_option("--preferences", "data/prepared/NAME/preferences.parquet, NAME being data.name")
base_option = path_option("--base", "base_model.path if set, else RUN/base")


def run_folder(config: "Config", run: Path | None) -> Path:
    """--run, or runs/NAME."""
    return run or Path("runs", config.name)


def prepared_folder(config: "Config") -> Path:
    """data/prepared/NAME."""
    return Path("data/prepared", config.data.name)


def there(path: Path, verb: str) -> Path:
    """``path`` if it exists. Raises InputError naming the verb that makes it."""
    if not path.exists():
        raise InputError(f"{path} does not exist; make it with 'kellet {verb}', or name another place (see --help)")
    return path


def evaluation_of(config: "Config", run: Path | None) -> Path:
    """The evaluation of a run: RUN/evaluation/evaluation.parquet, or RUN/evaluation.parquet as the flow leaves it."""
    folder = run_folder(config, run)
    places = (folder / "evaluation/evaluation.parquet", folder / "evaluation.parquet")
    return there(next((place for place in places if place.exists()), places[0]), "evaluate")


def own_folder(path: Path, marker: str) -> Path:
    """``path``, a folder that a verb will replace as a whole.

    Raises InputError when it is a file, or holds other things than an earlier result, which has the file ``marker``.
    """
    if path.exists() and not (path / marker).is_file() and (path.is_file() or any(path.iterdir())):
        raise InputError(f"{path} is in use and holds no {marker} of an earlier run; name a new or an empty folder")
    return path


def table_of(config: "Config", preferences: Path | None) -> Path:
    """The prepared table, which must exist."""
    return there(preferences or prepared_folder(config) / "preferences.parquet", "prepare")


def base_of(config: "Config", run: Path | None, base: Path | None) -> Path:
    """The base model: --base, else base_model.path, else RUN/base; a local one must exist."""
    from kellet.config.file import check_base_path

    if base is None and config.base_model.path is not None:
        check_base_path(config)
        return Path(config.base_model.path).expanduser()
    return there(base or run_folder(config, run) / "base", "train-base")


def in_project(module: str, *arguments: str, read: bool = False) -> str:
    """Run a module of the project that speaks to DVC or MLflow, which kellet does not; leave with its code if it fails.

    Gives what it printed when ``read``, else it prints for itself. Raises InputError outside a project.
    """
    if not Path(*module.split(".")).with_suffix(".py").is_file():
        raise InputError(
            f"{Path.cwd()} is no project of Kellet ({module.replace('.', '/')}.py is missing); run this in its root"
        )
    import subprocess
    import sys

    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE if read else None, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return str(done.stdout or "")


def first_process() -> bool:
    """Whether this is the process that tells, of those that ``accelerate launch`` has started; without it, it is."""
    return os.environ.get("RANK", "0") == "0"


def warn(sentences: list[str]) -> None:
    """Say warnings on standard error, once for all processes."""
    for sentence in sentences if first_process() else []:
        click.echo(f"warning: {sentence}", err=True)
