"""Binary logs: files that TensorBoard's writers and wandb themselves wrote, and damaged ones."""

import base64
import math

import pytest

from kellet.diagnosis.event_files import is_event_file, read_events, read_wandb
from kellet.errors import DataError
from tests.helpers.log_kinds import crc32c, event_file, masked, wandb_file

TENSORBOARDX = base64.b64decode(
    "GAAAAAAAAACjf0siCRpNr57uwdpBGg1icmFpbi5FdmVudDoyCs6VwSIAAAAAAAAAeBE9/Qm8Va+e7sHaQRABKhUKEwoMdHJhaW4vcmV3YXJkFQAA"
    "gD6EmEDBHgAAAAAAAADZ3BIyCYGFr57uwdpBEAEqEQoPCgh0cmFpbi9rbBVvEoM6Hj3bdyIAAAAAAAAAeBE9/Qnpia+e7sHaQRACKhUKEwoMdHJh"
    "aW4vcmV3YXJkFQAAAD9G1qVEHgAAAAAAAADZ3BIyCXGKr57uwdpBEAIqEQoPCgh0cmFpbi9rbBVvEgM732k+Hg=="
)
"""tensorboardX 2.6: add_scalar of train/reward (0.25, 0.5) and train/kl (0.001, 0.002) at steps 1 and 2."""
TENSORS = base64.b64decode(
    "SAAAAAAAAAD+kkidCWbd9ivuwdpBGg1icmFpbi5FdmVudDoyUi4KLHRlbnNvcmJvYXJkLnN1bW1hcnkud3JpdGVyLmV2ZW50X2ZpbGVfd3JpdGVy"
    "TV5DOSoAAAAAAAAAro2R9QkAAAAAAADwPyofCh0KAmtsQgoIARIAKgQAAAAASgsKCQoHc2NhbGFyc9QIt48sAAAAAAAAAPSuzEUJAAAAAAAA8D8Q"
    "ASofCh0KAmtsQgoIARIAKgQAAAA/SgsKCQoHc2NhbGFyc0Z7CLE="
)
"""tensorboard 2.21, as TensorFlow 2 writes scalars: tensors 0.0 and 0.5 of kl at steps 0 and 1."""
WANDB = base64.b64decode(
    "OlcmQuG+AB+mgDycAAEICxKXAQoZEhFjcml0aWMvc2NvcmUvbWVhboIBAzAuNQoXEg1hY3Rvci9rbF9sb3NzggEFMC4wMDEKDxIGbmVzdGVkEgFh"
    "ggEBMQolEgpfdGltZXN0YW1wggEWMS43OTU2Njg2MDA4OTk1ODkzZSswOQoYEghfcnVudGltZYIBCzEuMDA3MTY0NDU0CgsSBV9zdGVwggEBMRIC"
    "CAH7gHYCmAABCA4SkwEKFRINYWN0b3Iva2xfbG9zc4IBA05hTgoPEgZuZXN0ZWQSAWGCAQEyCiUSCl90aW1lc3RhbXCCARYxLjc5NTY2ODYwMTEz"
    "MTIxMTVlKzA5ChgSCF9ydW50aW1lggELMS4wMDc5NTk4NjEKCxIFX3N0ZXCCAQEyChcSEWNyaXRpYy9zY29yZS9tZWFuggEBMRICCAI="
)
"""wandb 0.31: the header and two history records of an offline run; the KL of the second is NaN."""


def test_scalars_of_an_event_file_are_rows_by_step(tmp_path):
    assert is_event_file(TENSORBOARDX[:12])
    assert read_events(tmp_path, TENSORBOARDX) == [
        {"step": 1, "train/reward": 0.25, "train/kl": 0.001},
        {"step": 2, "train/reward": 0.5, "train/kl": 0.002},
    ]


def test_scalars_that_are_tensors_are_read_too(tmp_path):
    assert read_events(tmp_path, TENSORS) == [{"step": 0, "kl": 0.0}, {"step": 1, "kl": 0.5}]


def test_the_history_of_an_offline_run_of_wandb(tmp_path):
    first, second = read_wandb(tmp_path, WANDB)
    wanted = {"critic/score/mean": 0.5, "actor/kl_loss": 0.001, "nested.a": 1, "_step": 1}
    assert {key: first[key] for key in wanted} == wanted
    assert second["_step"] == 2
    assert math.isnan(second["actor/kl_loss"])


def test_the_checksum_is_that_of_the_standard():
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C (RFC 3720, B.4 has its table)
    assert is_event_file(bytes(8) + masked(crc32c(bytes(8))).to_bytes(4, "little"))


@pytest.mark.parametrize(("data", "read"), [(TENSORBOARDX, read_events), (WANDB, read_wandb)])
def test_a_byte_that_is_wrong_is_noticed(tmp_path, data, read):
    for place in range(30, len(data), 7):
        wrong = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        try:
            rows = read(tmp_path, wrong)
        except DataError:
            continue
        assert len(rows) < len(read(tmp_path, data))  # a length that points beyond the end looks like a cut file


@pytest.mark.parametrize(("write", "read"), [(event_file, read_events), (wandb_file, read_wandb)])
def test_a_file_that_was_cut_off_gives_what_it_has(tmp_path, write, read):
    path = tmp_path / "file"
    write(path, [{"step": step, "kl": step / 8} for step in range(1, 6)])
    data = path.read_bytes()
    rows = read(path, data)
    assert [row.get("kl", row.get("train/kl")) for row in rows] == [0.125, 0.25, 0.375, 0.5, 0.625]
    assert read(path, data[:-3]) == rows[:-1]


def test_a_metric_twice_in_a_step_is_two_rows(tmp_path):
    path = tmp_path / "file"
    event_file(path, [{"step": 1, "kl": 0.5}, {"step": 1, "kl": 0.75}])
    assert read_events(path, path.read_bytes()) == [{"step": 1, "train/kl": 0.5}, {"step": 1, "train/kl": 0.75}]


def test_a_wandb_file_of_another_version_is_refused(tmp_path):
    with pytest.raises(DataError, match="wandb sync"):
        read_wandb(tmp_path, b":W&B\xe1\xbe\1" + WANDB[7:])
