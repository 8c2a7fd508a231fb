"""What the verbs of the command line share: errors as exit codes, parameters, and the default paths of files.

Defaults: data/prepared/NAME for the data set data.name, and below --run (default runs/NAME of the run's name) base/,
reward_model/, policy/, judge/, evaluation/, export/, gate.json, diagnosis.json and report.html. A finished run, whether
by verbs or by a flow, is read through kellet/report/run.py.
"""

import errno
import os
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kellet.errors import InputError, KelletError, NotPromoted
from kellet.extras import require
from kellet.files import NO_ROOM
from kellet.terminal import harmless_output

if TYPE_CHECKING:
    from kellet.config.data import Data
    from kellet.config.run import Config

FILE = click.Path(path_type=Path)
PARAMS = Path("params.yaml")


class Verbs(click.Group):
    """A group whose verbs turn errors raised on purpose into ``error: message`` and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The verbs in the order of the pipeline, in which main.py adds them."""
        return list(self.commands)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; text of files and models is escaped on its way to the terminal."""
        with harmless_output():
            return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb. An OSError is bad input: a path that cannot be used, a model that a library does not find."""
        try:
            return super().invoke(ctx)
        except KelletError as error:
            which = "" if first_process() else f"process {os.environ['RANK']}: "
            click.echo(f"{which}{'not promoted' if isinstance(error, NotPromoted) else 'error'}: {error}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("stopped by Ctrl-C; a training goes on from its checkpoint by the same command", err=True)
            ctx.exit(128 + signal.SIGINT)
        except OSError as error:
            if error.errno in NO_ROOM and error.filename is None:
                click.echo(f"error: cannot write: {error.strerror}; make room and start again", err=True)
                ctx.exit(1)
            if error.errno is not None and (error.errno == errno.EPIPE or error.filename is None):
                raise
            message = f"{error.filename}: {error.strerror}; give a path that exists and is yours"
            click.echo(f"error: {error if error.errno is None else message}", err=True)
            ctx.exit(2)


def with_params(optional: bool = False) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add --params and --set, which the verb gets as ``config``; if ``optional``, params.yaml may be missing."""

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        @wraps(verb)
        def load(params: Path, overrides: tuple[str, ...], **options: Any) -> None:
            from kellet.config.file import load_config

            built_in = optional and params == PARAMS and not params.exists()
            verb(load_config(Path(os.devnull) if built_in else params, overrides), **options)

        change = "Change one parameter, section.key=value; may be given several times."
        load = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help=change)(load)
        file = "Parameter file" + (" (built-in parameters where there is none)." if optional else ".")
        return click.option("--params", type=FILE, default=PARAMS, show_default=True, help=file)(load)

    return decorate


def needs(*packages: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Say which extra is missing before the verb looks at anything else. Stands above :func:`with_params`."""

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        @wraps(verb)
        def checked(**options: Any) -> None:
            require(click.get_current_context().command_path, *packages)
            verb(**options)

        return checked

    return decorate


def mapped_columns(data: "Data", mapped: tuple[str, ...]) -> "Data":
    """``data`` with the columns of --map. Raises InputError unless each is OURS=THEIRS and OURS one of NAMES."""
    from kellet.data.form import NAMES

    pairs = [text.partition("=") for text in mapped]
    for (ours, equals, theirs), text in zip(pairs, mapped, strict=True):
        if not equals or not theirs or ours not in NAMES:
            raise InputError(f"--map got {text!r}; it takes OURS=THEIRS, OURS being one of {', '.join(NAMES)}")
    return data.model_copy(update={"columns": {**data.columns, **{ours: theirs for ours, _, theirs in pairs}}})


def told_reading(data: "Data", values: tuple[str, ...], ignored: tuple[str, ...], accept: bool) -> "Data":
    """``data`` with --map-values, --ignore and --accept. Raises InputError for a side that is not a, b or tie."""
    given = [part for text in values for part in ([text] if text.count("=") == 1 else text.split(","))]
    sides = {}
    for part in given:
        value, equals, side = part.rpartition("=")
        if not equals or not value.strip() or side.strip() not in ("a", "b", "tie"):
            raise InputError(f"--map-values got {part!r}; it takes VALUE=a, VALUE=b or VALUE=tie, such as 0=b,1=a")
        sides[value.strip()] = side.strip()
    told: dict[str, Any] = {"ignored": (*data.ignored, *ignored)}
    told |= {"preferred_values": {**data.preferred_values, **sides}} if sides else {}
    told |= {"prompt_from": "beginning"} if accept else {}
    return data.model_copy(update=told)


def path_option(name: str, default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add an option for a path; ``default`` says in its help which path is taken without it."""
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


def existing(path: Path, verb: str) -> Path:
    """``path``, which must exist. Raises InputError, naming the verb that makes it, when it does not."""
    if not path.exists():
        raise InputError(f"{path} does not exist; make it with 'kellet {verb}', or name another place (see --help)")
    return path


def evaluation_of(config: "Config", run: Path | None) -> Path:
    """The evaluation of a run, which must exist."""
    from kellet.report.run import file_of

    return existing(file_of(run_folder(config, run), "evaluation.parquet"), "evaluate")


def output_folder(path: Path, marker: str) -> Path:
    """``path``, a folder that a verb will replace as a whole.

    Raises InputError when it is a file, or a folder with content but without the file ``marker``, which every result of
    the verb has.
    """
    if path.exists() and not (path / marker).is_file() and (path.is_file() or any(path.iterdir())):
        raise InputError(f"{path} is in use and holds no {marker} of an earlier run; name a new or an empty folder")
    return path


def table_of(config: "Config", preferences: Path | None) -> Path:
    """The prepared table, which must exist."""
    return existing(preferences or prepared_folder(config) / "preferences.parquet", "prepare")


def base_of(config: "Config", run: Path | None, base: Path | None) -> Path:
    """The base model: --base, else base_model.path, else RUN/base; a local one must exist."""
    from kellet.config.file import check_base_path

    if base is None and config.base_model.path is not None:
        check_base_path(config)
        return Path(config.base_model.path).expanduser()
    return existing(base or run_folder(config, run) / "base", "train-base")


def reward_base_of(config: "Config") -> Path | None:
    """``reward_model.base``; None where the reward model is on the policy's. A local one must exist."""
    from kellet.config.file import check_base_path

    check_base_path(config)
    return None if config.reward_model.base is None else Path(config.reward_model.base).expanduser()


def in_project(module: str, *arguments: str, config: "Config | None" = None, read: bool = False) -> str:
    """Run a module of the project that uses DVC or MLflow, which kellet does not import; exit with its code on failure.

    It gets the section ``tracking`` of ``config`` as a variable of its environment: arguments are seen by everybody on
    the machine, and an address may hold a password. With ``read`` its standard output is returned, else it goes to the
    terminal. Raises InputError outside a project.
    """
    if not Path(*module.split(".")).with_suffix(".py").is_file():
        raise InputError(
            f"{Path.cwd()} is no project of Kellet ({module.replace('.', '/')}.py is missing); run this in its root"
        )
    import subprocess
    import sys

    require(click.get_current_context().command_path, "mlflow", "dvc")
    command = [sys.executable, "-m", module, *arguments]
    from kellet.config.run import TRACKING

    environment = {**os.environ, TRACKING: config.tracking.model_dump_json()} if config else None
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE if read else None, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.returncode)
    return str(done.stdout or "")


def first_process() -> bool:
    """Whether this process prints: rank 0 of those that ``accelerate launch`` started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def warn(sentences: list[str]) -> None:
    """Print warnings on standard error, once for all processes."""
    for sentence in sentences if first_process() else []:
        click.echo(f"warning: {sentence}", err=True)
