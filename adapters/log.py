"""What a retraining shows while it runs: log lines, progress, pages in Prefect's interface, errors in one line."""

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import httpx
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException
from prefect.logging import get_run_logger

from kellet.errors import KelletError
from kellet.markdown import plain
from kellet.mask import masked
from kellet.progress import Progress
from kellet.terminal import harmless_logs, harmless_text

if TYPE_CHECKING:
    from uuid import UUID

    LoggerAdapter = logging.LoggerAdapter[logging.Logger]
else:
    LoggerAdapter = logging.LoggerAdapter

SHOWN = (
    "objective/reward",
    "objective/kl",
    "tokens/response_mean",
    "base/loss",
    "reward_model/loss",
    "reward_model/accuracy",
)
"""Metrics of a step that a progress line shows, where the step has them."""


def logger() -> logging.Logger | LoggerAdapter:
    """The logger of the running Prefect task or flow, or a plain one outside of both."""
    if TaskRunContext.get() or FlowRunContext.get():
        return get_run_logger()
    return logging.getLogger("kellet")


def progress(stage: str, artifact_every: float = 2.0, line_every: float = 10.0) -> Progress:
    """Report steps as a progress artifact of the task run and, less often, as log lines; intervals in seconds.

    A server that cannot be reached never stops a training: that is said once, and log lines go on.
    """
    start = time.monotonic()
    last_artifact, last_line = float("-inf"), start
    key = f"{stage.replace('_', '-')}-progress"
    artifact: UUID | None = None
    if TaskRunContext.get():
        artifact = _shown(lambda: cast("UUID", create_progress_artifact(0.0, key=key)))

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        nonlocal artifact, last_artifact, last_line
        now = time.monotonic()
        if artifact and (now - last_artifact >= artifact_every or done == total):
            last_artifact, share = now, 100.0 * done / max(total, 1)
            artifact = _shown(partial(_update, artifact, share))
        if now - last_line >= line_every or done == total:
            last_line = now
            values = "".join(f", {name} {metrics[name]:.3g}" for name in SHOWN if name in metrics)
            seconds = (now - start) / max(done, 1) * (total - done)
            left = f", {seconds:.0f} s left" if done < total else ""
            logger().info("%s %d/%d%s%s", stage, done, total, values, left)

    return report


def _update(artifact: "UUID", share: float) -> "UUID":
    update_progress_artifact(artifact, progress=share)
    return artifact


def _shown(show: Callable[[], "UUID"]) -> "UUID | None":
    """What ``show`` gives; None, and a warning, where Prefect's server fails."""
    try:
        return show()
    except (httpx.HTTPError, PrefectException) as error:
        logger().warning("progress is no longer shown in Prefect (%s); the work goes on", error or type(error).__name__)
        return None


def show_markdown(text: str, key: str, description: str | None = None) -> None:
    """Show Markdown beside the running task in Prefect's user interface; outside of a task do nothing.

    What comes from files stands in it by :func:`kellet.markdown.plain`.
    """
    if TaskRunContext.get():
        shown = harmless_text(masked(text))
        create_markdown_artifact(shown, key=_artifact_key(key), description=_described(description))


def show_table(rows: list[dict[str, Any]], key: str, description: str | None = None) -> None:
    """Show a table beside the running task in Prefect's user interface; outside of a task do nothing."""
    if TaskRunContext.get():
        cells = [{column: _cell(value) for column, value in row.items()} for row in rows]
        create_table_artifact(cells, key=_artifact_key(key), description=_described(description))


def _cell(value: Any) -> Any:
    return plain(masked(value)) if isinstance(value, str) else value


def _described(text: str | None) -> str | None:
    """Prefect renders descriptions as Markdown too."""
    return None if text is None else plain(masked(text))


def _artifact_key(name: str) -> str:
    """Prefect takes letters, digits and dashes."""
    return "".join(letter if letter.isalnum() else "-" for letter in name.lower())


class _Concise(logging.Filter):
    """Leave out tracebacks of errors raised on purpose, that a task is done, and what each level says of Ctrl-C.

    The message of such an error says what to do, and the command says once that it was stopped.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, KelletError):
            record.msg, record.args = harmless_text(f"{type(error).__name__}: {error}"), ()
            record.exc_info = record.exc_text = None
        message = record.getMessage()
        done = record.name == "prefect.task_runs" and message == "Finished in state Completed()"
        return not (done or "Execution was aborted by an interrupt signal" in message)


# At import, because none of our functions is called first in a worker's process.
harmless_logs()
for _name in ("prefect.flow_runs", "prefect.task_runs"):
    logging.getLogger(_name).addFilter(_Concise())
