"""Metrics in binary logs: TensorBoard's event files and the .wandb files that W&B writes offline.

Both are sequences of checked records that hold protobuf messages, of which a handful of fields are read here, so that
neither library is needed. An event file is TFRecord: length (8 bytes), masked CRC-32C of the length, data, masked
CRC-32C of the data. A .wandb file is LevelDB's log format in blocks of 32 KiB (CRC-32 of type and data, length, type),
after a header of 7 bytes; a record that does not fit a block is cut into first, middle and last.

Sources: tensorflow/core/util/event.proto, framework/summary.proto, framework/tensor.proto, lib/io/record_writer.h;
wandb/proto/wandb_internal.proto, wandb/sdk/internal/datastore.py.
"""

import json
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from kellet.errors import DataError

WANDB_HEADER = b":W&B\xe1\xbe"
_BLOCK = 32 * 1024
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_FLOAT, _DOUBLE = 1, 2
"""Values of TensorProto.dtype."""
Field = tuple[int, Any]
"""Number and value of a protobuf field: int (varint), bytes (length-delimited, 32 or 64 bits)."""


def is_event_file(start: bytes) -> bool:
    """Whether bytes begin with a TFRecord header whose checksum is right."""
    return len(start) >= 12 and struct.unpack("<I", start[8:12])[0] == _masked_crc(start[:8])


def read_events(path: Path, data: bytes) -> list[dict[str, Any]]:
    """One row for each step of an event file, in the order in which the steps first came.

    A metric that comes again for a step, with another value, begins another row of that step. A record that is cut off
    at the end of the file ends it, as in a training that was killed. Raises DataError for a checksum that is wrong or a
    message that cannot be read.
    """
    rows: list[dict[str, Any]] = []
    current: dict[int, dict[str, Any]] = {}
    for record in _tfrecords(path, data):
        step, values = _event(path, record)
        if not values:
            continue
        row = current.get(step)
        if row is None or any(row.get(tag, value) != value for tag, value in values.items()):
            row = current[step] = {"step": step}
            rows.append(row)
        row.update(values)
    return rows


def read_wandb(path: Path, data: bytes) -> list[dict[str, Any]]:
    """The history of a .wandb file, one row for each call of ``wandb.log``; nested keys are joined by a point.

    Raises DataError for a version other than 0, a checksum that is wrong or a message that cannot be read.
    """
    if data[:6] != WANDB_HEADER or data[6:7] != b"\0":
        raise DataError(f"{path} is no .wandb file of version 0; run 'wandb sync' on it and export the run's history")
    rows = []
    for record in _leveldb_records(path, data):
        for number, value in _fields(path, record):
            if number == 2 and isinstance(value, bytes):  # Record.history
                rows.append(_history(path, value))
    return rows


def _event(path: Path, record: bytes) -> tuple[int, dict[str, float]]:
    """Event: step = 2, summary = 5; Summary: value = 1; Value: tag = 1, simple_value = 2, tensor = 8."""
    step, values = 0, {}
    for number, value in _fields(path, record):
        if number == 2 and isinstance(value, int):
            step = value - (1 << 64) if value >> 63 else value
        elif number == 5 and isinstance(value, bytes):
            for kind, item in _fields(path, value):
                if kind == 1 and isinstance(item, bytes):
                    parts = dict(_fields(path, item))
                    number_ = _scalar(path, parts)
                    if number_ is not None and isinstance(parts.get(1), bytes):
                        values[parts[1].decode("utf-8", "replace")] = number_
    return step, values


def _scalar(path: Path, parts: dict[int, Any]) -> float | None:
    """A Summary.Value's number; None for text, images and histograms."""
    simple = parts.get(2)
    if isinstance(simple, bytes) and len(simple) == 4:
        return _shortest(struct.unpack("<f", simple)[0])
    if not isinstance(parts.get(8), bytes):
        return None
    # TensorProto: dtype = 1, tensor_content = 4, float_val = 5, double_val = 6
    tensor = dict(_fields(path, parts[8]))
    form = {_FLOAT: "<f", _DOUBLE: "<d"}.get(tensor.get(1, 0))
    raw = tensor.get(4) or tensor.get(5) or tensor.get(6)
    if form is None or not isinstance(raw, bytes) or len(raw) != struct.calcsize(form):
        return None
    value = struct.unpack(form, raw)[0]
    return _shortest(value) if form == "<f" else float(value)


def _shortest(value: float) -> float:
    """The shortest decimal that is this number in 32 bits: 0.02 rather than 0.019999999552965164."""
    return float(str(np.float32(value)))


def _history(path: Path, record: bytes) -> dict[str, Any]:
    """HistoryRecord: item = 1, step = 2 (num = 1); HistoryItem: key = 1, nested_key = 2, value_json = 16."""
    row: dict[str, Any] = {}
    for number, value in _fields(path, record):
        if not isinstance(value, bytes):
            continue
        if number == 2:
            row["_step"] = dict(_fields(path, value)).get(1, 0)
        elif number == 1:
            item = list(_fields(path, value))
            keys = [text.decode("utf-8", "replace") for kind, text in item if kind in (1, 2) and text]
            texts = [text for kind, text in item if kind == 16]
            if keys and texts:
                try:
                    row[".".join(keys)] = json.loads(texts[-1])
                except (ValueError, RecursionError) as error:
                    raise DataError(f"{path}: a value of {keys[-1]!r} is not JSON; copy the file again") from error
    return row


def _tfrecords(path: Path, data: bytes) -> Iterator[bytes]:
    place = 0
    while place + 12 <= len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        (length_crc,) = struct.unpack_from("<I", data, place + 8)
        if length_crc != _masked_crc(data[place : place + 8]):
            raise DataError(f"{path} is damaged at byte {place} (checksum of a length); copy it again")
        record = data[place + 12 : place + 12 + length]
        end = place + 12 + length
        if end + 4 > len(data):
            return  # cut off while it was written
        if struct.unpack_from("<I", data, end)[0] != _masked_crc(record):
            raise DataError(f"{path} is damaged at byte {place} (checksum of a record); copy it again")
        yield record
        place = end + 4


def _leveldb_records(path: Path, data: bytes) -> Iterator[bytes]:
    place, parts = 7, b""
    while place + 7 <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < 7:
            place += left
            continue
        checksum, length, kind = struct.unpack_from("<IHB", data, place)
        if checksum == length == kind == 0:
            return  # a block that was reserved and never written
        record = data[place + 7 : place + 7 + length]
        if len(record) < length:
            return  # cut off while it was written
        if checksum != zlib.crc32(bytes([kind]) + record) or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            raise DataError(f"{path} is damaged at byte {place} (checksum of a record); copy it again")
        parts = record if kind in (_FULL, _FIRST) else parts + record
        if kind in (_FULL, _LAST):
            yield parts
        place += 7 + length


def _fields(path: Path, message: bytes) -> Iterator[Field]:
    """The fields of a protobuf message: (number, value)."""
    place = 0
    while place < len(message):
        key, place = _varint(path, message, place)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, place = _varint(path, message, place)
            yield number, value
            continue
        if wire == 2:
            size, place = _varint(path, message, place)
        else:
            size = {1: 8, 5: 4}.get(wire, len(message) + 1)
        if place + size > len(message):
            raise DataError(f"{path} holds a record that cannot be read; copy the file again")
        yield number, message[place : place + size]
        place += size


def _varint(path: Path, message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while place < len(message) and shift < 70:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value & ((1 << 64) - 1), place
    raise DataError(f"{path} holds a record that cannot be read; copy the file again")


def _masked_crc(data: bytes) -> int:
    """CRC-32C (Castagnoli), rotated and shifted as TFRecord has it."""
    crc, table = 0xFFFFFFFF, _crc_table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table
