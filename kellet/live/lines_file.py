"""A file of JSON lines that grows by whole lines, and of which a part can be replaced."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kellet.errors import DataError
from kellet.files import atomic_file


class LinesFile:
    """A JSON-lines file and its content.

    A line is appended by one write. After a write that failed, and after ``replace``, the next ``write`` writes the
    file anew and renames it over the old one, so that nothing is missing once the disk works again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: list[str] = []
        self._written: int | None = 0
        """Lines that the file is known to hold; None: it has to be written anew."""

    def load(self) -> list[dict[str, Any]]:
        """Read what an earlier process left; a last line that is cut off is dropped. DataError for any other fault."""
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        except UnicodeDecodeError as error:
            raise DataError(f"{self.path} is no text ({error}); name another folder") from error
        whole, _, rest = text.rpartition("\n")
        self._lines = [line for line in whole.split("\n") if line]
        self._written = None if rest else len(self._lines)
        try:
            values = [json.loads(line) for line in self._lines]
        except json.JSONDecodeError as error:
            raise DataError(f"{self.path} holds a line that is not JSON ({error.msg}); name another folder") from error
        if not all(isinstance(value, dict) for value in values):
            raise DataError(f"{self.path} holds a line that is no JSON object; name another folder")
        return values

    def add(self, value: Mapping[str, Any]) -> None:
        """Keep ``value`` as the next line, to be written by ``write``."""
        self._lines.append(json.dumps(value, ensure_ascii=False, allow_nan=False))

    def replace(self, values: list[Mapping[str, Any]]) -> None:
        """Keep ``values`` as the whole content, to be written by ``write``."""
        self._lines, self._written = [], None
        for value in values:
            self.add(value)

    def write(self) -> None:
        """Bring the file up to date. Raises OSError or InputError when it cannot; what is kept stays."""
        written, self._written = self._written, None
        if written is None or (written and not self.path.exists()):
            with atomic_file(self.path) as temporary:
                temporary.write_text("".join(line + "\n" for line in self._lines), encoding="utf-8")
        elif written < len(self._lines):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write("".join(line + "\n" for line in self._lines[written:]).encode())
        self._written = len(self._lines)

    def set_aside(self) -> Path | None:
        """Begin anew; a file that is there becomes NAME.1.jsonl (or the next free number), which is returned."""
        self._lines, self._written = [], None
        if not self.path.exists() or not self.path.stat().st_size:
            self._written = 0
            return None
        number = 1
        while (aside := self.path.with_name(f"{self.path.stem}.{number}{self.path.suffix}")).exists():
            number += 1
        self.path.rename(aside)
        self._written = 0
        return aside
