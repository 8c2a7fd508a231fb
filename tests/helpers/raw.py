"""Raw files for tests: written, and read as records or refused."""

from pathlib import Path
from typing import Any

import pytest

from kellet.data.raw_files import Record, read_records
from kellet.errors import DataError


def read(path: Path, data: str | bytes, **options: Any) -> list[Record]:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return list(read_records(path, **options))


def refused(path: Path, data: str | bytes) -> str:
    with pytest.raises(DataError) as error:
        read(path, data)
    assert str(path) in str(error.value)
    return str(error.value)
