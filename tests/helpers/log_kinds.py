"""Rows of metrics written as each kind of file in which training logs come; each row has an integer ``step``.

The two binary formats are written here from their descriptions (TFRecord and LevelDB's log); files that the libraries
themselves wrote are in tests/diagnosis/test_event_files.py.
"""

import csv
import gzip
import json
import struct
import zlib

import pandas as pd

NAME = "train/"


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def packed(path, rows):
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def array(path, rows):
    path.write_text(json.dumps(rows, indent=1))


def trainer_state(path, rows):
    path.write_text(json.dumps({"global_step": 9, "log_history": [*rows, {"step": 9, "train_runtime": 1.0}]}))


def columns(path, rows):
    path.write_text(json.dumps({key: [row.get(key) for row in rows] for key in names(rows)}))


def comma(path, rows):
    table(path, rows, ",", str)


def semicolon(path, rows):
    """As a spreadsheet program with a German locale writes it."""
    table(path, rows, ";", lambda value: str(value).replace(".", ","))


def tabs(path, rows):
    table(path, rows, "\t", str)


def table(path, rows, separator, text):
    with path.open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(names(rows))
        writer.writerows(["" if row.get(key) is None else text(row[key]) for key in names(rows)] for row in rows)


def parquet(path, rows):
    pd.DataFrame(rows).to_parquet(path, index=False)


def verl_file(path, rows):
    jsonl(path, [{"step": row["step"], "data": {key: row[key] for key in row if key != "step"}} for row in rows])


def verl_console(path, rows):
    """verl/utils/logger/aggregate_logger.py under Ray, with its colours, among other lines."""
    lines = ["\x1b[36m(TaskRunner pid=123)\x1b[0m using config: {'a': 'b'}"]
    for row in rows:
        parts = [f"step:{row['step']}"]
        parts += [f"{key}:np.float64({value!r})" for key, value in row.items() if key != "step" and value is not None]
        lines.append(f"\x1b[36m(TaskRunner pid=123)\x1b[0m {' - '.join(parts)}")
    path.write_text("\n".join(lines) + "\n")


def printed(path, rows):
    """transformers' PrinterCallback, with a progress bar in the way."""
    path.write_text("Some weights were not used\n" + "".join(f"  3%|▎  | 1/30 [00:10<05:11]\r{row}\n" for row in rows))


def openrlhf_console(path, rows):
    line = "INFO 11-26 04:22:11 ppo_trainer.py:547] ✨ Global step {}: {}\n"
    rest = ({key: value for key, value in row.items() if key != "step"} for row in rows)
    path.write_text("".join(line.format(row["step"], values) for row, values in zip(rows, rest, strict=True)))


def chart(path, rows):
    """W&B's 'Export CSV' of a chart of one run."""
    keys = [key for key in names(rows) if key != "step"]
    head = [f"run-7 - {NAME}{key}{end}" for key in keys for end in ("", "__MIN", "__MAX")]
    with path.open("w", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(["Step", *head])
        writer.writerows([row["step"], *(row.get(key) for key in keys for _ in range(3))] for row in rows)


def wandb_history(path, rows):
    jsonl(path, [{"_step": row["step"], "_runtime": 9.5, "_timestamp": 1.7e9, **without_step(row)} for row in rows])


def event_file(path, rows):
    """One scalar an event, as SummaryWriter.add_scalar writes them."""
    data = [record(varint(1 << 3) + varint(0))]
    for row in rows:
        for key, value in without_step(row).items():
            if value is not None:
                summary = field(1, field(1, f"{NAME}{key}".encode()) + varint(2 << 3 | 5) + struct.pack("<f", value))
                data.append(record(varint(2 << 3) + varint(row["step"]) + field(5, summary)))
    path.write_bytes(b"".join(data))


def wandb_file(path, rows):
    """The .wandb file of an offline run: LevelDB's log in blocks of 32 KiB."""
    data = b":W&B\xe1\xbe\0"
    for row in rows:
        items = b"".join(
            field(1, field(2, key.encode()) + field(16, json.dumps(value).encode()))
            for key, value in without_step(row).items()
        )
        output = field(4, field(3, b"x" * 9000))  # an OutputRecord, so that records are cut at the ends of blocks
        for message in (output, field(2, items + field(2, varint(1 << 3) + varint(row["step"])))):
            data += leveldb(len(data), message)
    path.write_bytes(data)


KINDS = {
    "log.jsonl": jsonl,
    "log.jsonl.gz": packed,
    "array.json": array,
    "trainer_state.json": trainer_state,
    "columns.json": columns,
    "comma.csv": comma,
    "semicolon.csv": semicolon,
    "tabs.tsv": tabs,
    "log.parquet": parquet,
    "verl.jsonl": verl_file,
    "console.log": verl_console,
    "printed.txt": printed,
    "openrlhf.out": openrlhf_console,
    "chart.csv": chart,
    "wandb.jsonl": wandb_history,
    "events.out.tfevents.1.host": event_file,
    "run-1.wandb": wandb_file,
}
"""Name of the file -> what writes it."""


def names(rows):
    return list(dict.fromkeys(key for row in rows for key in row))


def without_step(row):
    return {key: value for key, value in row.items() if key != "step"}


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def record(data):
    """A TFRecord."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(crc32c(length))) + data + struct.pack("<I", masked(crc32c(data)))


def masked(crc):
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data):
    """Bit by bit; its check value, of b"123456789", is 0xE3069283."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0x82F63B78 * (crc & 1)
    return crc ^ 0xFFFFFFFF


def leveldb(place, data):
    """A record at byte ``place`` of the file, cut where a block ends."""
    out, first = b"", True
    while True:
        left = 32768 - place % 32768
        if left < 7:
            out, place = out + bytes(left), place + left
            continue
        piece, data = data[: left - 7], data[left - 7 :]
        kind = (1 if first else 4) if not data else (2 if first else 3)
        out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + piece), len(piece), kind) + piece
        place, first = place + 7 + len(piece), False
        if not data:
            return out
