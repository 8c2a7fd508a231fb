"""Text on its way to a terminal: what would move the cursor, colour it or turn text around is shown as an escape.

Names and cells of foreign files, file names and what a model says reach standard output and error through here, log
lines and tracebacks too. Standard error, where configuration is quoted, is masked as well (kellet/mask.py).
"""

import io
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from types import TracebackType
from typing import Any, TextIO

from kellet.mask import masked

_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and line feed, DEL, and C1, of which 0x9b begins a sequence
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks, embeddings, overrides and isolates of direction (UAX 9)
    "\u2028\u2029\ufeff\ud800-\udfff\U000e0000-\U000e007f]"  # separators, byte order mark, surrogates, tags
)


def harmless_text(text: str) -> str:
    r"""``text`` with harmful characters as escapes; line feeds and tabs stay.

    Below a blank ``\x1b``, else ``\u009b``: the second kind alone can stand raw in JSON, which reads it back.
    """
    return _HARMFUL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code > 0xFFFF:  # as JSON writes it
        high, low = divmod(code - 0x10000, 0x400)
        return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
    return f"\\x{code:02x}" if code < 0x20 else f"\\u{code:04x}"


class Harmless(io.TextIOBase):
    """A text stream that passes :func:`harmless_text` on to ``below``, and with ``mask`` no credentials."""

    def __init__(self, below: TextIO, mask: bool = False) -> None:
        self.below, self.mask = below, mask

    def write(self, text: str) -> int:
        """Write ``text``, harmful characters as escapes."""
        self.below.write(harmless_text(masked(text) if self.mask else text))
        return len(text)

    def flush(self) -> None:
        """Flush what is below; it stays open when this one is closed."""
        self.below.flush()

    def isatty(self) -> bool:
        """Whether what is below is a terminal."""
        return self.below.isatty()

    def writable(self) -> bool:
        """Always."""
        return True

    def fileno(self) -> int:
        """The descriptor of what is below."""
        return self.below.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of what is below."""
        return self.below.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """How what is below treats what it cannot encode."""
        return self.below.errors


@contextmanager
def harmless_output() -> Iterator[None]:
    """Inside, nothing harmful reaches standard output or standard error, nor does it in a traceback that ends all."""
    sys.excepthook = _show_error
    with redirect_stdout(Harmless(sys.stdout)), redirect_stderr(Harmless(sys.stderr, mask=True)):
        yield


def _show_error(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(harmless_text(masked("".join(traceback.format_exception(kind, error, trace)))))


def harmless_logs() -> None:
    """From now on every log record of this process is harmless and masked, whoever makes and whoever handles it.

    Handlers of Prefect and MLflow keep the stream that they found when they were made, so :func:`harmless_output` does
    not reach them, and Prefect sends records to its server as well.
    """
    make = logging.getLogRecordFactory()
    if getattr(make, "harmless", False):
        return

    def harmless(*values: Any, **named: Any) -> logging.LogRecord:
        record = make(*values, **named)
        try:
            said = record.getMessage()
        except (TypeError, ValueError):  # wrong arguments; logging says so when the record is handled
            return record
        if (shown := harmless_text(masked(said))) != said:
            record.msg, record.args = shown, ()
        if record.exc_info and record.exc_info[0]:
            record.exc_text = harmless_text(masked("".join(traceback.format_exception(*record.exc_info)))).rstrip()
        return record

    vars(harmless)["harmless"] = True
    logging.setLogRecordFactory(harmless)
