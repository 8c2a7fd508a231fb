"""A reward model whose training is killed and started again ends in the same bytes as one left alone."""

import os
import signal
import subprocess
import sys

import pytest

from kellet.errors import InputError
from kellet.files import content_hash
from tests.helpers import tiny
from tests.helpers.project import ROOT
from tests.helpers.reward import resumable

KILLED = """
import os, signal, sys
from pathlib import Path
from tests.helpers.reward import resumable
resumable(Path(sys.argv[1]), lambda step: step == 5 and os.kill(os.getpid(), signal.SIGKILL))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the tiny base and pairs, and ``uninterrupted``, a training without a stop."""
    root = tmp_path_factory.mktemp("resume")
    (root / "base").symlink_to(tiny.folder() / "base")
    (root / "p.parquet").symlink_to(tiny.folder() / "preferences.parquet")
    resumable(root / "uninterrupted")
    return root


def checkpoints(out):
    return sorted(f"{path.parent.name}/{path.name}" for path in out.parent.glob(f"{out.name}*.checkpoints/*"))


class Gone(BaseException):
    """Stands for a kill between two steps: no handler catches it, so nothing more is written."""


def vanish(at):
    def when(step):
        if step == at:
            raise Gone

    return when


def test_a_training_that_vanished_three_times_ends_in_the_same_bytes(place):
    out = place / "vanished"
    # 5: two steps after a checkpoint of the first member; then 8 more: in the second member; then before any new one
    left = (["00000003"], ["00000006", "00000008", "1/00000003"], None)
    for at, names in zip((5, 9, 1), left, strict=True):
        with pytest.raises(Gone):
            resumable(out, vanish(at))
        assert not out.exists()
        remaining = [name.replace("vanished.member_", "").replace("vanished", "") for name in checkpoints(out)]
        if names is not None:
            assert [name.replace(".checkpoints", "").lstrip("/") for name in remaining] == names
    resumable(out)
    assert content_hash(out) == content_hash(place / "uninterrupted")
    assert checkpoints(out) == []


def test_a_training_killed_by_the_system_ends_in_the_same_bytes(place):
    out = place / "killed"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(out)], cwd=ROOT, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert checkpoints(out) == ["killed.checkpoints/00000003"]
    resumable(out)
    assert content_hash(out) == content_hash(place / "uninterrupted")


def test_ctrl_c_finishes_the_step_and_saves(place):
    out = place / "stopped"
    with pytest.raises(KeyboardInterrupt):
        resumable(out, lambda step: step == 2 and os.kill(os.getpid(), signal.SIGINT))
    assert checkpoints(out) == ["stopped.checkpoints/00000002"]
    resumable(out)
    assert content_hash(out) == content_hash(place / "uninterrupted")


def test_a_checkpoint_of_other_parameters_is_refused_by_name(place):
    out = place / "other"
    with pytest.raises(Gone):
        resumable(out, vanish(4))
    with pytest.raises(InputError, match=r"reward_model\.learning_rate: checkpoint 0\.01, now 0\.5"):
        resumable(out, learning_rate=0.5)
    resumable(out, checkpoint_every=2, require_lift=False)  # these do not change the model
